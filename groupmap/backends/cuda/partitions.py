"""How long rows are dealt to partitions: how large those are, and what the blocks need for it."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from groupmap.backends.cuda import launching
from groupmap.backends.cuda.programs import Names, Numbers

WARP = 32
BYTES_OF_PARTIALS = 24  # a warp
BYTES_RESERVED = 1024  # of shared memory, for each block

# Doubles have many exponents, so they need more bins.
LOG_SEGMENT, LOG_SEGMENT_OF_DOUBLES = 13, 12
LEAST_LOG_SEGMENT = 11
LOG_BINS, LOG_BINS_OF_DOUBLES = 12, 13
ITEMS = 16  # of a tile, for each thread
HELD, HELD_OF_DOUBLES = 18, 24  # entries of a segment, likewise
LOG_HARD_BINS, LOG_HARD_BINS_OF_ORDERED = 11, 9  # where each warp has its own, if ordered
CROWDED = 12  # entries of one bucket that are looked at one by one
LONGEST_OF_WARP = 512  # the bucket that one warp sorts
MOST_PARTITIONS = 2**10


class Plan(NamedTuple):
    """How rows are dealt to partitions, and what the blocks need for it."""

    log_segment: int
    log_bins: int
    held: int
    bytes_of_key: int

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.segment // ITEMS

    @property
    def segment(self) -> int:
        """Buckets of a partition, and entries of a tile."""
        return 1 << self.log_segment

    @property
    def capacity(self) -> int:
        """How many entries of a segment fit."""
        return self.held * self.threads

    @property
    def bytes_of_partials(self) -> int:
        """What a block needs to sum up."""
        return BYTES_OF_PARTIALS * self.threads // WARP

    @property
    def stride_of_bins(self) -> int:
        """Words of the bins of a row: one more than there are, and aligned."""
        return (1 << self.log_bins) + 4

    @property
    def bytes_to_rank(self) -> int:
        """In the order of `Slots` in source/segment_slots.cuh."""
        slots = self.capacity * (self.bytes_of_key + 4)
        return 4 * self.segment + slots + self.bytes_of_partials

    def bytes_to_rank_hard(self, *, ordered: bool) -> int:
        """Besides, the bins of the segment and a list of large buckets."""
        large = launching.rounded_up(1 + self.segment // LONGEST_OF_WARP, 4)
        return 4 * ((1 << _log_hard_bins(ordered=ordered)) + 4 + large) + self.bytes_to_rank

    def bytes_to_deal(self, partitions: int, *, ordered: bool) -> int:
        """In the order of source/partitions.cu."""
        counters = 2 * partitions * self.threads // WARP if ordered else 0
        tile = self.segment * (self.bytes_of_key + 4)
        return 4 * (self.stride_of_bins + 2 * partitions) + tile + self.bytes_of_partials + counters

    def log_partition(self, n: int) -> int:
        """Of buckets; the longest rows have partitions of more than a segment."""
        most = -(-n // MOST_PARTITIONS)
        return max(self.log_segment, (most - 1).bit_length())

    def partitions(self, n: int) -> int:
        """How many a row has."""
        return launching.rounded_up(((n - 1) >> self.log_partition(n)) + 1, 4)

    def tiles(self, n: int) -> int:
        """Likewise."""
        return -(-n // self.segment)

    def names(self, *, ordered: bool) -> Names:
        """What programs are told of it."""
        return (
            ("THREADS", self.threads),
            ("TILE", self.segment),
            ("LOG_SEGMENT", self.log_segment),
            ("SEGMENT", self.segment),
            ("CAPACITY", self.capacity),
            ("LOG_BINS", self.log_bins),
            ("HARD_LOG_BINS", _log_hard_bins(ordered=ordered)),
            ("CROWDED", CROWDED),
            ("LONGEST_OF_WARP", LONGEST_OF_WARP),
        )


@cache
def plan_for(values: Numbers, device: int) -> Plan:
    """With room for two blocks of any kind on a multiprocessor, where it has that much."""
    room, _ = launching.limits_of(device)
    room = max((room - BYTES_RESERVED) // 2, launching.SHARED_MEMORY_UNASKED)
    is_double = values.bits == 64
    plan = Plan(
        LOG_SEGMENT_OF_DOUBLES if is_double else LOG_SEGMENT,
        LOG_BINS_OF_DOUBLES if is_double else LOG_BINS,
        HELD_OF_DOUBLES if is_double else HELD,
        max(values.bits // 8, 4),
    )
    while plan.log_segment > LEAST_LOG_SEGMENT and plan.bytes_to_rank > room:
        plan = plan._replace(log_segment=plan.log_segment - 1, log_bins=plan.log_bins - 1)
    return plan


def _log_hard_bins(*, ordered: bool) -> int:
    return LOG_HARD_BINS_OF_ORDERED if ordered else LOG_HARD_BINS
