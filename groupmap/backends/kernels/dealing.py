"""Entries of long rows dealt out to buckets that follow one another in order, and back.

The highest bits of an entry's key, counted from the least of its row, say which of many bins it
lies in; neighbouring bins make a bucket as long as together they have no more than some hundreds.
So floats are spread by octaves, and tails of any weight find room. Those of 64 bits count as if cut
to 32, which keeps them in order: most octaves of the wider format are empty.

Entries keep their order of appearance inside of a bucket. What becomes of them is therefore
collected by going through the row once more and taking the next from each entry's bucket: nothing
has to say where an entry came from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Code, Unsigned, as_bits, code_of
from groupmap.backends.kernels.keys import key_at
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.vectors import fetch
from groupmap.backends.kernels.words import bit_length

# NumPy sorts 512 words of 32 bits by a network, three times as fast as more. But the memory where
# the entries of ever more buckets are written does not stay in the cache.
SHORTEST_LINE = 512
MOST_LINES = 2**12  # if they were full
# If buckets of one length lay whole KiB apart, they would need the same few lines of the cache.
GAP = 16
BINS_PER_LINE = 128  # most bins of most rows are empty
LONGEST_NEAR = 2**19  # keys; where there are more they have to be fetched
AHEAD = 8  # entries of a bucket: about a line of the cache
# Doubles as floats of 32 bits would have them: the magnitudes of which less is zero, and more is
# infinite, and the bits that these have not.
SMALLEST, INFINITE = (np.uint64(as_bits(np.asarray(2.0**k))) for k in (-126, 128))
BITS_CUT = np.uint64(29)
CHUNK = 1024  # entries whose bins are found at once
GROUP = 16  # bins that are passed over at once where they are empty


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
    longest: int  # bucket of several bins

    @classmethod
    def for_rows_of(cls, n: int, dtype: np.dtype[Any], dealt: Dealt, memory: Memory) -> Bins:
        """Bins for rows of n entries that are dealt out there."""
        line = line_length(n)
        count = max(_power_of_two(n) * BINS_PER_LINE // line, GROUP)
        counts = memory.empty((len(dealt.at), count), np.uint32)
        bucket_of = memory.empty(count, dealt.bucket_of.dtype)
        counts.fill(0)
        bucket_of.fill(0)
        return cls(
            code_of(dtype),
            SMALLEST if dtype == np.float64 else None,
            counts,
            bucket_of,
            line - GAP,
        )


class Dealt(NamedTuple):
    """Some rows dealt out."""

    bucket_of: Bits  # (row, entry)
    at: Bits  # (stretch, bucket): the next spot for an entry of the stretch
    bounds: Bits  # where each bucket begins, and where the last one ends
    keys: Bits  # of the entries, by buckets
    values: Bits  # of the entries, perhaps in the place of the keys

    @classmethod
    def for_rows_of(
        cls,
        memory: Memory,
        n_rows: int,
        n: int,
        dtype: np.dtype[Any],
        dtype_of_values: np.dtype[Any],
        *,
        stretches: int = 1,
        in_place: bool,
    ) -> Dealt:
        """For some rows of n entries, each in some stretches.

        In place: values take the place of the keys, if they have their size.
        """
        # Any two buckets that adjoin are too long for one.
        most = n_rows * (2 * n // (line_length(n) - GAP) + 2)
        keys = values = memory.empty(n_rows * n, f"u{dtype.itemsize}")
        if not in_place or dtype_of_values.itemsize != dtype.itemsize:
            values = memory.empty(n_rows * n, f"u{dtype_of_values.itemsize}")
        return cls(
            bucket_of=memory.empty((n_rows, n), np.uint16 if most <= 2**16 else np.uint32),
            at=memory.empty((stretches, most), np.uint32),
            bounds=np.zeros(most + 1, dtype=np.int64),
            keys=keys,
            values=values,
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


@njit(nogil=True, cache=True)
def cut(bins: Bins, first: int, dealt: Dealt) -> int:
    """Put the bins of a row together to buckets, from that one on; how many there are then."""
    counts, at, bounds = bins.counts, dealt.at, dealt.bounds
    n_stretches, n_bins = counts.shape
    bucket = first
    begin = end = bounds[first]
    at[:, first] = 0
    for group in range(0, n_bins, GROUP):
        some = np.uint32(0)
        for s in range(n_stretches):
            in_stretch = counts[s, group : group + GROUP]
            for b in range(GROUP):
                some |= in_stretch[b]
        if some == 0:
            continue
        for b in range(group, group + GROUP):
            count: Any = 0
            for s in range(n_stretches):
                count += np.int64(counts[s, b])
            if count == 0:
                continue
            if end > begin and end + count - begin > bins.longest:
                bucket += 1
                bounds[bucket] = begin = end
                at[:, bucket] = 0
            bins.bucket_of[b] = bucket
            end += count
            for s in range(n_stretches):
                at[s, bucket] += counts[s, b]
                counts[s, b] = 0
    bounds[bucket + 1] = end
    for k in range(first, bucket + 1):
        spot = bounds[k]
        for s in range(n_stretches):
            count = at[s, k]
            at[s, k] = spot
            spot += count
    return bucket + 1


@njit(nogil=True, cache=True)
def deal_out(
    row: Bits,
    first_index: int,
    least: Unsigned,
    greatest: Unsigned,
    bins: Bins,
    stretch: int,
    bucket_of: Bits,
    dealt: Dealt,
    indices: Bits | None,
) -> None:
    """Write the key of each entry of a stretch to the next spot of its bucket; and if anybody asks,
    its index in the row, where the stretch begins with that one."""
    first, shift = first_and_shift(least, greatest, bins)
    at, all_keys = dealt.at[stretch], dealt.keys
    last, last_spot = bins.counts.shape[1] - 1, np.uint32(all_keys.size - 1)
    is_far = all_keys.size > LONGEST_NEAR
    keys, bin_of = np.empty(CHUNK, dtype=row.dtype), np.empty(CHUNK, dtype=np.uint32)
    for begin in range(0, row.size, CHUNK):
        some, own_bucket_of = row[begin : begin + CHUNK], bucket_of[begin : begin + CHUNK]
        find_bins(some, bins.code, bins.smallest, first, shift, last, keys, bin_of)
        for i in range(some.size):
            bucket = bins.bucket_of[bin_of[i]]
            own_bucket_of[i] = bucket
            # The last spot is behind none, unless somebody else writes to the row in the meantime.
            spot = min(at[bucket], last_spot)
            at[bucket] = spot + np.uint32(1)
            all_keys[spot] = keys[i]
            if is_far:
                fetch(all_keys, np.int64(spot) + AHEAD)
            if indices is not None:
                indices[spot] = first_index + begin + i


@njit(nogil=True, cache=True)
def collect(bucket_of: Bits, stretch: int, dealt: Dealt, out: Bits) -> None:
    """The value of each entry of a stretch: from the last on, since the spots are at the ends."""
    at, values = dealt.at[stretch], dealt.values
    is_far = values.size > LONGEST_NEAR
    for i in range(out.size - 1, -1, -1):
        bucket = bucket_of[i]
        spot = at[bucket] - np.uint32(1)
        at[bucket] = spot
        out[i] = values[spot]
        if is_far:
            fetch(values, np.int64(spot) - AHEAD)
