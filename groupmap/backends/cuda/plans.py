"""How rows that fit into shared memory are shared out among threads, and what ranks them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from groupmap.backends.cuda import launching
from groupmap.backends.cuda.launching import rounded_up
from groupmap.backends.cuda.programs import Names, Numbers

OF_BUCKETS, OF_BITS, SORTED = "map_rows", "map_rows_of_16_bits", "map_rows_sorted"

MOST_COUNTED = 2**16 - 1  # by a counter of 16 bits
WARP = 32
BYTES_OF_PARTIALS = 24  # a warp
BYTES_RESERVED = 1024  # of shared memory, for each block
ALIGNMENT = 16  # bytes, of what is read or written four words at a time
MOST_UNDER_WAY = 4  # entries that a thread reads, or writes, at a time
MOST_KEPT, MOST_KEPT_OF_DOUBLES = 16, 8  # entries whose keys a thread keeps in registers
MOST_KEPT_IN_PAIRS = 32  # likewise, where two share one
HELD_BY_WARPS = (4, 8, 16)  # likewise, where a row is a warp's
FEW_THREADS, MOST_THREADS = 128, 1024
HALF_OF_THREADS = MOST_THREADS // 2
LEAST_BLOCKS = 8  # of few threads, that a multiprocessor has registers for
LEAST_BLOCKS_OF_DOUBLES = 6
TEAMS_OF_WARPS = 4  # in a block

# Rows of which keys fall into buckets.
LEAST_LOG_BINS, GREATEST_LOG_BINS = 7, 10
LOG_BINS_MORE, LOG_BINS_MORE_OF_DOUBLES = 0, 3  # than there are entries
GREATEST_LOG_BINS_OF_DOUBLES = 11  # their exponents have more bits
LEAST_CROWDED = 16  # keys of one bucket, or more, whose number is then noted

# Rows that are sooner sorted, and searched, than their bins and buckets are counted up.
LONGEST_SORTED = 128
HELD_SORTED = (1, 2, 4)
LEAST_BLOCKS_SORTED = 12

# Rows of numbers of 8 or 16 bits, of which there is a bit for each.
LEAST_OF_BITS = 513  # shorter ones are sooner ranked than all bits are counted up
LONGEST_OF_SINGLES = 4096  # in longer ones, two keys share a register
LONGEST_OF_BITS = 2**15  # of which 1024 threads can keep all in registers


class Plan(NamedTuple):
    """How rows of n entries are shared out among threads."""

    kernel: str
    threads: int
    teams: int
    held: int  # entries a thread, at most
    keeps_keys: bool  # or reads them again and again
    log_bins: int
    bytes_per_team: int
    least_blocks: int = LEAST_BLOCKS

    @property
    def shared_bytes(self) -> int:
        """What a block needs."""
        return self.teams * self.bytes_per_team

    def fits(self, blocks: int, room: int) -> bool:
        """Whether so many share a multiprocessor that has this room for one."""
        return blocks * (self.shared_bytes + BYTES_RESERVED) <= room + BYTES_RESERVED

    def names(self) -> Names:
        """What programs are told of it."""
        has_many = self.held > MOST_KEPT
        # Others come in many numbers, for each of which there would be a program.
        is_known = self.threads == WARP or (
            has_many and self.threads in (HALF_OF_THREADS, MOST_THREADS)
        )
        few = self.threads <= FEW_THREADS
        most, blocks = (FEW_THREADS, self.least_blocks) if few else (MOST_THREADS, 1)
        return (
            *((("THREADS", self.threads),) if is_known else ()),
            ("TEAMS", self.teams),
            *(("MOST_THREADS", most), ("LEAST_BLOCKS", blocks)),
            ("HELD", self.held),
            ("KEEPS_KEYS", int(self.keeps_keys)),
            ("IN_PAIRS", int(has_many and self.kernel == OF_BITS)),
            ("BATCH", min(self.held, MOST_UNDER_WAY)),
        )


@cache
def plan_for(
    n: int,
    values: Numbers,
    most_threads: int = MOST_THREADS,
    *,
    ordered: bool,
    may_keep: bool = True,
) -> Plan:
    """How rows of n entries are ranked in shared memory; it may be more than a device has.

    Keys that are not kept in registers take less of it.
    """
    more, greatest, least_blocks = LOG_BINS_MORE, GREATEST_LOG_BINS, LEAST_BLOCKS
    if values.bits == 64:
        more, greatest = LOG_BINS_MORE_OF_DOUBLES, GREATEST_LOG_BINS_OF_DOUBLES
        least_blocks = LEAST_BLOCKS_OF_DOUBLES
    log_bins = min(max((n - 1).bit_length() + more, LEAST_LOG_BINS), greatest)
    most_kept = MOST_KEPT_OF_DOUBLES if values.bits == 64 else MOST_KEPT
    threads, held = _threads_and_held(n, most_kept, most_threads)
    keeps_keys = may_keep and held <= most_kept
    # In the order of `Layout` in source/map.cu.
    parts = (
        rounded_up(4 * (2**log_bins + (n if keeps_keys else n // 2 + 1)), ALIGNMENT),
        BYTES_OF_PARTIALS * (threads // WARP) + 8,
        n * bytes_of_key(values),
        2 * n if ordered else 0,
        2 * (n // LEAST_CROWDED + 1),
    )
    teams = TEAMS_OF_WARPS if threads == WARP else 1
    return Plan(
        OF_BUCKETS, threads, teams, held, keeps_keys, log_bins,
        rounded_up(sum(parts), ALIGNMENT), least_blocks,
    )  # fmt: skip


@cache
def plan_of_bits(n: int, values: Numbers, most_threads: int = MOST_THREADS) -> Plan:
    """How rows of n entries of 8 or 16 bits are; likewise."""
    in_pairs = n > LONGEST_OF_SINGLES and most_threads == HALF_OF_THREADS
    most_kept = MOST_KEPT_IN_PAIRS if in_pairs else MOST_KEPT
    threads, held = _threads_and_held(n, most_kept, most_threads)
    words = 2**values.bits // 32
    # In the order of source/distinct.cu.
    parts = (
        4 * words,
        rounded_up(4 * n, ALIGNMENT),
        2 * words,
        BYTES_OF_PARTIALS * (threads // WARP),
    )
    return Plan(OF_BITS, threads, 1, held, True, 0, rounded_up(sum(parts), ALIGNMENT))


@cache
def plan_sorted(n: int, values: Numbers) -> Plan:
    """How rows of n entries are, of which a warp is enough."""
    held = min(each for each in HELD_SORTED if each * WARP >= n)
    return Plan(
        SORTED, WARP, TEAMS_OF_WARPS, held, True, 0,
        WARP * held * bytes_of_key(values), LEAST_BLOCKS_SORTED,
    )  # fmt: skip


def _threads_and_held(n: int, most_kept: int, most_threads: int) -> tuple[int, int]:
    """A warp, as many as keep that many entries each, or else all there are."""
    each = -(-n // WARP)
    if each <= most_kept:
        return WARP, min(held for held in HELD_BY_WARPS if held >= each)
    warps = -(-each // most_kept)
    if warps <= most_threads // WARP:
        return WARP * warps, most_kept
    return most_threads, rounded_up(-(-n // most_threads), MOST_UNDER_WAY)


def plan_at(n: int, values: Numbers, device: int, *, ordered: bool) -> Plan | None:
    """The plan for rows of n entries that suits best on a device, if there is room for any."""
    room, _ = launching.limits_of(device)
    return _plan_within(room, n, values, ordered=ordered)


@cache
def _plan_within(room: int, n: int, values: Numbers, *, ordered: bool) -> Plan | None:
    candidates = _candidates(n, values, ordered=ordered)
    return next((plan for blocks, plan in candidates if plan.fits(blocks, room)), None)


def _candidates(n: int, values: Numbers, *, ordered: bool) -> Iterator[tuple[int, Plan]]:
    """From the fastest plan to the one that needs the least room; how many blocks are to fit."""
    if n <= LONGEST_SORTED and not ordered:
        yield 1, plan_sorted(n, values)
    # Of blocks of half the threads two are to fit: one computes while the other waits.
    shares = ((2, HALF_OF_THREADS), (1, MOST_THREADS))
    if values.bits <= 16 and not ordered and LEAST_OF_BITS <= n <= LONGEST_OF_BITS:
        for blocks, most_threads in shares:
            yield blocks, plan_of_bits(n, values, most_threads)
    if n <= MOST_COUNTED:
        for blocks, most_threads in shares:
            yield blocks, plan_for(n, values, most_threads, ordered=ordered)
        yield 1, plan_for(n, values, ordered=ordered, may_keep=False)


def bytes_of_key(values: Numbers) -> int:
    """Of a number as it is ranked."""
    return max(values.bits // 8, 4)
