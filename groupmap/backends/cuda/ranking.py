"""Rank rows and write the values of a table at their ranks: which kernels, and with what room."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from groupmap.backends._ops import FORMULAS, Formula, TieRule
from groupmap.backends.cuda import launching, long_rows
from groupmap.backends.cuda.launching import Place, Shape
from groupmap.backends.cuda.programs import Names, Numbers, Program

FILES = ("rows.cuh", "segments.cuh", "buckets.cuh")

MOST_COUNTED = 2**16 - 1  # by a counter of 16 bits
CROWDED = 16  # keys of one bucket that are looked at one by one
WARP = 32

# Rows in shared memory.
LONGEST_OF_WARP = 512  # the bucket that one warp sorts
LEAST_LOG_BINS, GREATEST_LOG_BINS = 7, 10
LOG_BINS_MORE, LOG_BINS_MORE_OF_DOUBLES = 1, 4  # than there are entries
GREATEST_LOG_BINS_OF_DOUBLES = 11  # their exponents have more bits
MOST_UNDER_WAY = 4  # entries that a thread reads at a time
ENTRIES_PER_THREAD = 16
LEAST_THREADS_OF_BLOCK, MOST_THREADS = 128, 1024
TEAMS_OF_WARPS = 4  # in a block

# Rows of 16-bit numbers, each of which has a counter.
LEAST_COUNTED = 4096  # shorter ones are sooner ranked than 2^16 counters are summed up
COUNTER_BYTES = 4 * (2**15 + 1)

LONGEST = 2**29  # so that doubled ranks are numbers of 32 bits

NO_FORMULA = -1
IN_ORDER_OF_APPEARANCE = (0, 0, 2)  # what h weighs: #(<), #(≤) − 1, and the place among all


class Addresses(NamedTuple):
    """Where the arrays of one call lie; 0 for those that are not there."""

    rows: int
    where: int
    table: int
    weight: int
    bias: int
    values: int
    order: int
    less: int
    less_equal: int


class Spans(NamedTuple):
    """Which weight and bias serve the entry (r, i) of rows; see `Scale` in source/rows.cuh."""

    each_rows: int = 1
    own_rows: int = 1
    each_entries: int = 1
    own_entries: int = 1


class Request(NamedTuple):
    """What is asked of the rows, besides where they lie."""

    n_rows: int
    n: int
    values: Numbers
    table: Numbers
    results: Numbers
    tie_rule: TieRule | None
    formula: Formula | None
    parameters: tuple[float, float]
    spans: Spans | None = None  # where there is a weight or a bias

    def program(self, kernel: str, files: tuple[str, ...], names: Names) -> Program:
        """The kernel of those files for such numbers; `names` are its own."""
        is_scaled = self.spans is not None
        return _program(kernel, files, names, self.values, self.table, self.results, is_scaled)

    def arguments(self) -> tuple[int | float, ...]:
        """How ranks become values, in the order of all the kernels."""
        weights = IN_ORDER_OF_APPEARANCE if self.tie_rule is None else (*self.tie_rule, 0)
        formula = kind_and_parameter(self.formula)
        return (*(self.spans or Spans()), *weights, *formula, *map(float, self.parameters))


class Plan(NamedTuple):
    """How rows of n entries are shared out among threads."""

    threads: int
    teams: int
    log_bins: int
    bytes_per_team: int

    @property
    def shared_bytes(self) -> int:
        """What a block needs."""
        return self.teams * self.bytes_per_team


@cache
def plan_for(n: int, values: Numbers, *, ordered: bool) -> Plan:
    """How rows of n entries are ranked in shared memory; it may be more than a device has."""
    threads = WARP
    while threads < MOST_THREADS and n > ENTRIES_PER_THREAD * threads:
        threads *= 2
    if WARP < threads < LEAST_THREADS_OF_BLOCK:
        threads = LEAST_THREADS_OF_BLOCK
    more, greatest = LOG_BINS_MORE, GREATEST_LOG_BINS
    if values.bits == 64:
        more, greatest = LOG_BINS_MORE_OF_DOUBLES, GREATEST_LOG_BINS_OF_DOUBLES
    log_bins = min(max((n - 1).bit_length() + more, LEAST_LOG_BINS), greatest)
    # In the order of `Layout` in source/map.cu.
    parts = (
        _bytes_of_partials(threads),
        n * _bytes_of_key(values),
        4 * (2**log_bins + 1),
        4 * (n // 2 + 1),
        2 * (n // CROWDED + 1),
        2 * n if ordered else 0,
    )
    return Plan(threads, TEAMS_OF_WARPS if threads == WARP else 1, log_bins, _aligned(sum(parts)))


def fits(n: int, values: Numbers, device: int, *, ordered: bool) -> bool:
    """Whether a row of n entries fits into the shared memory of a block there."""
    room, _ = launching.limits_of(device)
    return n <= MOST_COUNTED and plan_for(n, values, ordered=ordered).shared_bytes <= room


def scratch_bytes(request: Request, device: int, *, ordered: bool) -> tuple[int, int]:
    """What has to be lent to `map_rows`: so many bytes that are zero, and so many others."""
    n, values = request.n, request.values
    if _counts_keys(n, values, device, ordered=ordered) or fits(n, values, device, ordered=ordered):
        return 0, 0
    return long_rows.scratch_bytes(request, device, ordered=ordered)


def map_rows(
    at: Addresses, request: Request, place: Place, *, zeros: int = 0, scratch: int = 0
) -> None:
    """``table[h]·weight + bias`` of each entry, and what else has an address.

    NaN where an entry is NaN or masked; its row evaluates the formula at its own n. The order of a
    row names the entries that count, ascending, and then −1 for each of the others.
    """
    ordered = request.tie_rule is None or at.order != 0
    n, values = request.n, request.values
    if _counts_keys(n, values, place.device, ordered=ordered):
        _count_keys(at, request, place)
    elif fits(n, values, place.device, ordered=ordered):
        _in_shared_memory(at, request, place, ordered=ordered)
    else:
        long_rows.map_rows(at, request, place, zeros, scratch, ordered=ordered)


def _counts_keys(n: int, values: Numbers, device: int, *, ordered: bool) -> bool:
    room, _ = launching.limits_of(device)
    enough = COUNTER_BYTES + _bytes_of_partials(MOST_THREADS) <= room
    return values.bits == 16 and not ordered and LEAST_COUNTED <= n <= MOST_COUNTED and enough


def _count_keys(at: Addresses, request: Request, place: Place) -> None:
    names = (("THREADS", MOST_THREADS), ("BATCH", MOST_UNDER_WAY), ("ORDERED", 0))
    launching.launch(
        request.program("map_rows_of_16_bits", ("rows.cuh", "count.cu"), names),
        Shape(request.n_rows, MOST_THREADS, _bytes_of_partials(MOST_THREADS) + COUNTER_BYTES),
        place,
        (*at[:2], request.n_rows, request.n, *at[2:], *request.arguments()),
    )


def _in_shared_memory(at: Addresses, request: Request, place: Place, *, ordered: bool) -> None:
    plan = plan_for(request.n, request.values, ordered=ordered)
    names = (
        ("THREADS", plan.threads),
        ("TEAMS", plan.teams),
        ("BATCH", min(-(-request.n // plan.threads), MOST_UNDER_WAY)),
        ("LONGEST_OF_WARP", LONGEST_OF_WARP),
        ("ORDERED", int(ordered)),
        ("INDEX_BITS", 16),
    )
    launching.launch(
        request.program("map_rows", (*FILES, "map.cu"), names),
        Shape(-(-request.n_rows // plan.teams), plan.threads * plan.teams, plan.shared_bytes),
        place,
        (
            *at[:2], request.n_rows, request.n, *at[2:], *request.arguments(), plan.log_bins,
            plan.bytes_per_team,
        ),
    )  # fmt: skip


@cache
def _program(
    kernel: str,
    files: tuple[str, ...],
    names: Names,
    values: Numbers,
    table: Numbers,
    results: Numbers,
    is_scaled: bool,
) -> Program:
    numbers = (*values.as_values(), *table.as_table(), *results.as_results())
    shared = (("CROWDED", CROWDED), ("SCALED", int(is_scaled)))
    return Program(kernel, files, (*numbers, *shared, *names))


def kind_and_parameter(formula: Formula | None) -> tuple[int, float]:
    """A formula as kernels know it."""
    if formula is None:
        return NO_FORMULA, 0.0
    return FORMULAS.index(formula.name), float(formula.parameter)


def _bytes_of_partials(threads: int) -> int:
    return 8 * (threads // WARP + 1)


def _bytes_of_key(values: Numbers) -> int:
    return max(values.bits // 8, 4)


def _aligned(size: int) -> int:
    return -(-size // 16) * 16
