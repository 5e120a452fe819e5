"""The bins that entries of long rows lie in, before neighbouring bins make a bucket.

The highest bits of an entry's key, counted from the least of its row, are its bin. So floats are
spread by octaves, and tails of any weight find room. Those of 64 bits count as if cut to 32, which
keeps them in order: most octaves of the wider format are empty.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Code, Unsigned, as_bits, code_of
from groupmap.backends.kernels.keys import key_at
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.words import bit_length

# NumPy sorts 512 words of 32 bits by a network, three times as fast as more. But the memory where
# the entries of ever more buckets are written does not stay in the cache.
SHORTEST_LINE = 512
MOST_LINES = 2**12  # if they were full
BINS_PER_LINE = 128  # most bins of most rows are empty
GROUP = 16  # bins that are passed over at once where they are empty
CHUNK = 1024  # entries whose bins are found at once
# Doubles as floats of 32 bits would have them: the magnitudes of which less is zero, and more is
# infinite, and the bits that these have not.
SMALLEST, INFINITE = (np.uint64(as_bits(np.asarray(2.0**k))) for k in (-126, 128))
BITS_CUT = np.uint64(29)


def line_length(n: int) -> int:
    """How many words of a bucket are sorted at once, for rows of n entries: a power of two."""
    return max(SHORTEST_LINE, _power_of_two(n) // MOST_LINES)


def _power_of_two(n: int) -> int:
    """The least that is not less."""
    return 1 << (n - 1).bit_length()


class Bins(NamedTuple):
    """How the bin of an entry is found, and memory to count the entries of each."""

    code: Code
    smallest: Unsigned | None  # for floats of 64 bits: `SMALLEST`
    counts: Bits  # (stretch, bin); 0 when no row is at work
    bucket_of: Bits

    @classmethod
    def for_rows_of(
        cls, n: int, dtype: np.dtype[Any], stretches: int, most_buckets: int, memory: Memory
    ) -> Bins:
        """Bins for rows of n entries, each in some stretches, that make no more buckets."""
        count = max(_power_of_two(n) * BINS_PER_LINE // line_length(n), GROUP)
        counts = memory.empty((stretches, count), np.uint32)
        bucket_of = memory.empty(count, np.uint16 if most_buckets <= 2**16 else np.uint32)
        counts.fill(0)
        bucket_of.fill(0)
        return cls(
            code_of(dtype),
            SMALLEST if dtype == np.float64 else None,
            counts,
            bucket_of,
        )


@njit(inline="always")
def cut_to_single(key: Unsigned, smallest: Unsigned) -> Unsigned:
    """The key of a double, cut to 32 bits: in integers, since threads may round differently."""
    top = np.uint64(1 << 63)
    is_negative = key < top
    magnitude = np.uint64(np.uint64(top - np.uint64(1)) - key) if is_negative else key - top
    kept = min(max(np.uint64(magnitude), smallest), INFINITE) - smallest
    short = np.uint32(np.uint64(kept) >> BITS_CUT)
    return np.uint32(np.uint32(2**31 - 1) - short) if is_negative else np.uint32(2**31) + short


# `smallest` is an argument, since compiled code looks into no tuple for what is None.
@njit(nogil=True, cache=True)
def key_for_bins(key: Unsigned, smallest: Unsigned | None) -> Unsigned:
    """What of a key counts for the bin."""
    if smallest is None:
        return key
    return np.uint32(cut_to_single(key, smallest))


@njit(nogil=True, cache=True)
def first_and_shift(least: Unsigned, greatest: Unsigned, bins: Bins) -> tuple[Unsigned, int]:
    """What counts of the least key of a row, and how many of the lowest bits of the distance from
    it do not, so that the greatest key has a bin."""
    first = key_for_bins(least, bins.smallest)
    last = key_for_bins(greatest, bins.smallest)
    width = bit_length(np.uint64(last - first))
    return first, max(width + 1 - bit_length(np.uint64(bins.counts.shape[1])), 0)


@njit(nogil=True, cache=True)
def find_bins(
    some: Bits,
    code: Code,
    smallest: Unsigned | None,
    first: Unsigned,
    shift: int,
    last: int,
    keys: Bits,
    bin_of: Bits,
) -> None:
    """The keys of a chunk of entries, and the bins where they lie.

    No bin is beyond the last, even if somebody else writes to the row in the meantime.
    """
    for i in range(some.size):
        keys[i] = key_at(some, i, code)
    if smallest is None:
        few, last_bin = some.dtype.type(shift), some.dtype.type(last)
        for i in range(some.size):
            bin_of[i] = ((keys[i] - first) >> few) & last_bin
    else:
        for i in range(some.size):
            distance = np.uint32(cut_to_single(keys[i], smallest) - first)
            bin_of[i] = (distance >> np.uint32(shift)) & np.uint32(last)


@njit(nogil=True, cache=True)
def count_bins(row: Bits, least: Unsigned, greatest: Unsigned, bins: Bins, stretch: int) -> None:
    """Count the entries of each bin in a stretch of a row whose keys lie between these."""
    first, shift = first_and_shift(least, greatest, bins)
    counts = bins.counts[stretch]
    last = counts.size - 1
    keys, bin_of = np.empty(CHUNK, dtype=row.dtype), np.empty(CHUNK, dtype=np.uint32)
    for begin in range(0, row.size, CHUNK):
        some = row[begin : begin + CHUNK]
        find_bins(some, bins.code, bins.smallest, first, shift, last, keys, bin_of)
        for i in range(some.size):
            counts[bin_of[i]] += np.uint32(1)
