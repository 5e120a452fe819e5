"""The bins that entries of long rows lie in, before neighbouring bins make a bucket.

The highest bits of an entry's key, counted from where the first bin begins, are its bin. So floats
are spread by octaves, and tails of any weight find room. A sample of the row tells which keys to
count: most floats that there are lie so near to zero, or so far away, that few or none of the row
do. These make no bins of their own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from groupmap.backends._bits import Bits, Code, Unsigned, code_of
from groupmap.backends.kernels.compiled import inlined, kernel, part
from groupmap.backends.kernels.keys import bits_of, key_at, magnitude_of
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.sampling import SAMPLE, sampled_index
from groupmap.backends.kernels.vectors import HAS_AVX2_ALONE, IS_FAST, IS_FAST_ZEN, bit_length
from groupmap.backends.kernels.words import bits_to_shift, least_and_greatest_key

# So many words of 32 bits are sorted by a network (of NumPy's, or where vectors have 256 bits, of
# ours), up to three times as fast as more. But the memory where the entries of ever more buckets
# are written does not stay in the cache.
SHORTEST_LINE = 512 if IS_FAST or HAS_AVX2_ALONE else 256
MOST_LINES = 2**12  # if they were full
# Where a store waits for its part of a line of the cache, fewer buckets make up for longer sorts.
FEW_LINES, LONGEST_OF_FEW = (2**8, 2**13) if IS_FAST and not IS_FAST_ZEN else (MOST_LINES, 0)
BINS_PER_LINE = 32  # some bins of most rows are empty
LEAST_BINS = 16
CHUNK = 1024  # entries whose bins are found at once
OCTAVES_BEYOND = 8  # the sample, where so few entries are that one bin is enough

# What `look` finds: the ends of all keys; of those of a sample; and the least magnitude of these
# that is not zero.
ENDS = LEAST, GREATEST, LEAST_OF_SAMPLE, GREATEST_OF_SAMPLE, NEAREST_TO_ZERO = range(5)
# Bins go from `FIRST` to `LAST`, but for what lies between `BELOW` and `ABOVE`: there zero has one
# of its own, behind `UNDER_ZERO`, and what is less or greater shares a neighbouring one. How many
# of the lowest bits do not count says `SHIFT`.
SPAN = FIRST, LAST, BELOW, ABOVE, UNDER_ZERO, SHIFT = range(6)
BINS_OF_ZERO = 2  # its own, and what is left of the one that it divides


def line_length(n: int) -> int:
    """How many words of a bucket are sorted at once, for rows of n entries: a power of two."""
    n = _power_of_two(n)
    return max(SHORTEST_LINE, n // MOST_LINES, min(n // FEW_LINES, LONGEST_OF_FEW))


def _power_of_two(n: int) -> int:
    """The least that is not less."""
    return 1 << (n - 1).bit_length()


class Bins(NamedTuple):
    """How the bin of an entry is found, and memory to count the entries of each."""

    code: Code
    octave: Unsigned  # how many floats there are between a power of two and the next; else 0
    ends: Bits  # (stretch, one of `ENDS`)
    span: Bits  # (one of `SPAN`)
    counts: Bits  # (stretch, bin); 0 when no row is at work
    bucket_of: Bits
    some: Bits  # memory for entries that are counted in place of all, if there may be any

    @classmethod
    def for_rows_of(
        cls,
        n: int,
        dtype: np.dtype[Any],
        stretches: int,
        most_buckets: int,
        memory: Memory,
        n_some: int = 0,
    ) -> Bins:
        """Bins for rows of n entries, each in some stretches, that make no more buckets."""
        count = _power_of_two(n) * BINS_PER_LINE // line_length(n)
        count = max(count, LEAST_BINS) + BINS_OF_ZERO
        counts = memory.empty((stretches, count), np.uint32)
        bucket_of = memory.empty(count, np.uint16 if most_buckets <= 2**16 else np.uint32)
        counts.fill(0)
        bucket_of.fill(0)
        key = np.dtype(f"u{dtype.itemsize}").type
        octave = 1 << np.finfo(dtype).nmant if dtype.kind == "f" else 0
        return cls(
            code_of(dtype),
            key(octave),
            ends=np.empty((stretches, len(ENDS)), dtype=key),
            span=np.empty(len(SPAN), dtype=key),
            counts=counts,
            bucket_of=bucket_of,
            some=memory.empty(n_some, key),
        )


@kernel
def look(row: Bits, bins: Bins, stretch: int) -> None:
    """Find out where the keys of a stretch lie."""
    code, ends = bins.code, bins.ends[stretch]
    ends[:] = 0
    for which in (LEAST, LEAST_OF_SAMPLE, NEAREST_TO_ZERO):
        ends[which] = ~ends[which]
    if row.size == 0:
        return
    ends[LEAST], ends[GREATEST] = least_and_greatest_key(row, code)
    for k in range(min(row.size, SAMPLE)):
        key = key_at(row, sampled_index(k, row.size, SAMPLE), code)
        ends[LEAST_OF_SAMPLE] = min(ends[LEAST_OF_SAMPLE], key)
        ends[GREATEST_OF_SAMPLE] = max(ends[GREATEST_OF_SAMPLE], key)
        magnitude = bits_of(key, code) & code.flip
        if magnitude > 0:
            ends[NEAREST_TO_ZERO] = min(ends[NEAREST_TO_ZERO], magnitude)


@kernel
def set_span(bins: Bins) -> Unsigned:
    """Set the bins to where the keys of all stretches lie; their greatest magnitude comes back."""
    code, ends, span = bins.code, bins.ends, bins.span
    key = span.dtype.type
    beyond = key(OCTAVES_BEYOND * bins.octave)  # a product is signed, and would meet as a float
    for s in range(1, ends.shape[0]):  # into the first, which is read but here
        for which in (LEAST, LEAST_OF_SAMPLE, NEAREST_TO_ZERO):
            ends[0, which] = min(ends[0, which], ends[s, which])
        for which in (GREATEST, GREATEST_OF_SAMPLE):
            ends[0, which] = max(ends[0, which], ends[s, which])
    least, greatest = ends[0, LEAST], ends[0, GREATEST]
    span[FIRST], span[LAST] = least, greatest
    span[BELOW], span[ABOVE], span[UNDER_ZERO] = greatest, key(~key(0)), key(~key(0))
    if bins.octave > 0:
        lowest, highest = ends[0, LEAST_OF_SAMPLE], ends[0, GREATEST_OF_SAMPLE]
        span[FIRST] = max(least, key(lowest - min(lowest, beyond)))
        span[LAST] = min(greatest, key(highest + min(key(~highest), beyond)))
        nearest = ends[0, NEAREST_TO_ZERO]
        gap = key(nearest - beyond) if beyond < nearest <= code.flip else key(0)
        span[UNDER_ZERO] = key(code.top - key(1))
        span[BELOW] = min(key(span[UNDER_ZERO] - gap), span[LAST])
        span[ABOVE] = max(key(code.top + gap), span[FIRST])
    low = span[BELOW] - min(span[FIRST], span[BELOW])
    high = max(span[LAST], span[ABOVE]) - span[ABOVE]
    width = bit_length(np.uint64(low + high))
    n_bins = bins.counts.shape[1] - BINS_OF_ZERO
    span[SHIFT] = max(width + 1 - bit_length(np.uint64(n_bins)), 0)
    return magnitude_of(least, greatest, code)


@part
def find_bins(some: Bits, bins: Bins, keys: Bits, bin_of: Bits) -> None:
    """The keys of a chunk of entries, and the bins where they lie.

    No bin is beyond the last, even if somebody else writes to the row in the meantime.
    """
    code, span, word = bins.code, bins.span, some.dtype.type
    first, last, below, above = span[FIRST], span[LAST], span[BELOW], span[ABOVE]
    start, under_zero, of_zero = min(first, below), span[UNDER_ZERO], word(BINS_OF_ZERO)
    shift = bits_to_shift(some, span[SHIFT])
    for i in range(some.size):
        keys[i] = key_at(some, i, code)
    for i in range(some.size):
        low = word(min(max(keys[i], first), below) - start)
        high = word(max(min(keys[i], last), above) - above)
        beyond_zero = word(max(keys[i], under_zero) - under_zero)
        bin_of[i] = np.uint32((word(low + high) >> shift) + min(beyond_zero, of_zero))


@kernel
def count_bins(row: Bits, bins: Bins, stretch: int, noted: Bits) -> None:
    """Count the entries of each bin in a stretch, and note the bin of each, if there is room."""
    counts, has_room = bins.counts[stretch], can_note_bins(bins, noted)
    keys, bin_of = np.empty(CHUNK, dtype=row.dtype), np.empty(CHUNK, dtype=np.uint32)
    for begin in range(0, row.size, CHUNK):
        some = row[begin : begin + CHUNK]
        find_bins(some, bins, keys, bin_of)
        for i in range(some.size):
            counts[bin_of[i]] += np.uint32(1)
        if has_room:
            own = noted[begin : begin + CHUNK]
            for i in range(some.size):
                own[i] = bin_of[i]


@inlined
def width_of(numbers: Bits) -> int:
    """Of 16 or 32 bits; other than `itemsize`, which is read from memory, known when compiled."""
    return 16 if np.uint64(~numbers.dtype.type(0)) < np.uint64(2**16) else 32


@inlined
def can_note_bins(bins: Bins, noted: Bits) -> bool:
    """Whether the numbers there are wide enough for every bin."""
    return bool(bins.counts.shape[1] <= 1 << width_of(noted))
