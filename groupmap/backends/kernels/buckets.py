"""Buckets (see `dealing`) ranked, each as the short row that it is.

A bucket spans few keys, so that words of 32 bits tell most of its entries apart. The words of each
bucket lie in a line, with words behind them that sort last, and NumPy sorts all lines in one call;
the few buckets that are longer have several lines, and are sorted again as a whole.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.common import Gaps, left_out, table_across
from groupmap.backends.kernels.compiled import ZERO, counted, uncounted
from groupmap.backends.kernels.dealing import Entries
from groupmap.backends.kernels.emission import CROWDED, count_conflicts, emit_row
from groupmap.backends.kernels.equals import find_equal
from groupmap.backends.kernels.ordering import write_order_of_one
from groupmap.backends.kernels.values import Tie
from groupmap.backends.kernels.vectors import LANES
from groupmap.backends.kernels.words import (
    LONGEST_IN_PLACES,
    WORD_BITS,
    bit_length,
    index_bits,
    pack,
)

BEHIND_ALL = np.uint32(2**WORD_BITS - 1)


class Lines(NamedTuple):
    """The words of some buckets."""

    words: Bits  # (line, word)
    first: Bits  # line of each bucket
    is_whole: Bits  # they hold the whole of the keys of the bucket
    is_long: Bits  # they are to be sorted across lines
    is_crowded: Bits  # they leave too much open; where that was clear at once, there are none

    @classmethod
    def for_buckets(cls, count: int, words: Bits) -> Lines:
        """For so many buckets, with memory for their words."""
        return cls(words, np.empty(count, dtype=np.int64), *np.empty((3, count), dtype=np.bool_))


def sort_words(lines: Lines, n_lines: int, n_long: int, bounds: Bits) -> None:
    """Sort the words of each bucket."""
    lines.words[:n_lines].sort(axis=-1)
    if n_long == 0:
        return
    words, length = lines.words.reshape(-1), lines.words.shape[1]
    for k in np.flatnonzero(lines.is_long[: len(bounds) - 1]):
        begin = lines.first[k] * length
        words[begin : begin + bounds[k + 1] - bounds[k]].sort()


def emit_crowded(
    lines: Lines,
    bounds: Bits,
    buckets: tuple[int, int],
    start: int,
    table: Bits | None,
    gaps: Gaps,
    tie: Tie,
    entries: Entries,
    beside: Bits | None,
    indices: Bits | None,
    order: Bits | None,
) -> int:
    """The values and the order of those of the buckets that are crowded, by words of 64 bits; how
    many entries these have."""
    n_entries = 0
    for k in np.flatnonzero(lines.is_crowded[slice(*buckets)]) + buckets[0]:
        begin, end = bounds[k], bounds[k + 1]
        words = np.empty((1, end - begin), dtype=np.uint64)
        pack(entries.keys[np.newaxis, begin:end], entries.code, words)
        words.sort(axis=-1)
        emit_one(words[0], begin, start, table, gaps, tie, entries, beside)
        if order is not None and indices is not None:
            write_order_of_one(words[0], begin, start, indices, order)
        n_entries += end - begin
    return n_entries


@njit(cache=True)  # so short that other threads may wait
def lines_of(bounds: Bits, length: int) -> int:
    """How many lines of that length the words of some buckets take."""
    n_lines = 0
    for k in range(bounds.size - 1):
        n_lines += -(-(bounds[k + 1] - bounds[k]) // length)
    return n_lines


@njit(inline="always")
def least_and_greatest(keys: Bits) -> tuple[Unsigned, Unsigned]:
    """The least and the greatest key of a bucket."""
    least = greatest = keys[0]
    for i in range(keys.size):
        least, greatest = min(least, keys[i]), max(greatest, keys[i])
    return least, greatest


@uncounted
def write_words(keys: Bits, bounds: Bits, lines: Lines) -> tuple[int, int]:
    """Words of the keys between these bounds, and of their indices in the bucket.

    How many lines they take, and how many buckets are long, comes back.
    """
    words, length = lines.words.reshape(-1), lines.words.shape[1]
    line, n_long = 0, 0
    for k in range(bounds.size - 1):
        bucket = keys[bounds[k] : bounds[k + 1]]
        low = index_bits(bucket.size)
        least, greatest = least_and_greatest(bucket)
        lost = max(bit_length(np.uint64(greatest - least)) + low - WORD_BITS, 0)
        is_crowded = lost > 0 and bucket.size > LONGEST_IN_PLACES
        is_long = bucket.size > length and greatest > least and not is_crowded
        lines.first[k], lines.is_whole[k] = line, lost == 0
        lines.is_long[k], lines.is_crowded[k] = is_long, is_crowded
        n_long += is_long
        if is_crowded:
            continue
        begin = line * length
        line += -(-bucket.size // length)
        own_words = words[begin : begin + bucket.size]
        down, up = bucket.dtype.type(lost), np.uint32(low)
        for i in range(bucket.size):
            distance = np.uint32((bucket[i] - least) >> down)
            own_words[i] = (distance << up) | np.uint32(i)
        for i in range(begin + bucket.size, line * length):
            words[i] = BEHIND_ALL
    return line, n_long


@uncounted
def emit_buckets(
    lines: Lines,
    bounds: Bits,
    buckets: tuple[int, int],
    start: int,
    table: Bits | None,
    gaps: Gaps,
    tie: Tie,
    entries: Entries,
    beside: Bits | None,
    spots: Bits,
) -> int:
    """The sorted words of some buckets, from one up to another, to values; the entries of their row
    begin at that start, and their ranks have these gaps.

    There is memory for `spots` of 32 bits, a vector more than the longest bucket has entries; and
    for the values of that, `beside`, where they take the place of keys.

    How many buckets are crowded, and left as they are, comes back.
    """
    words, length = lines.words.reshape(-1), lines.words.shape[1]
    n_crowded = 0
    for k in range(*buckets):
        if lines.is_crowded[k]:
            n_crowded += 1
            continue
        begin, size, first_word = bounds[k], bounds[k + 1] - bounds[k], lines.first[k] * length
        own_words, low = words[first_word : first_word + size], np.uint32(index_bits(size))
        equals, is_exact = find_equal(own_words, low, spots), lines.is_whole[k]
        if not is_exact and CROWDED * equals > size:
            keys, index = entries.keys[begin : begin + size], np.uint32((1 << low) - 1)
            conflicts = count_conflicts(own_words, spots[:equals], index, keys, entries.code)
            is_exact, lines.is_crowded[k] = conflicts == 0, CROWDED * conflicts > size
            if lines.is_crowded[k]:
                n_crowded += 1
                continue
        emit_bucket(
            own_words, begin, spots, equals, low, is_exact, start, table, gaps, tie, entries, beside
        )
    return n_crowded


@uncounted
def write_order_of_buckets(
    lines: Lines,
    bounds: Bits,
    buckets: tuple[int, int],
    start: int,
    indices: Bits,
    order: Bits,
) -> None:
    """The order of the entries of these, but for those that are crowded."""
    words, length = lines.words.reshape(-1), lines.words.shape[1]
    for k in range(*buckets):
        if not lines.is_crowded[k]:
            first, size = lines.first[k] * length, bounds[k + 1] - bounds[k]
            write_order_of_one(words[first : first + size], bounds[k], start, indices, order)


@njit(nogil=True, cache=True)
def emit_one(
    words: Bits,
    begin: int,
    start: int,
    table: Bits | None,
    gaps: Gaps,
    tie: Tie,
    entries: Entries,
    beside: Bits | None,
) -> None:
    """The same for the sorted words of the bucket that begins there, crowded or not."""
    low = words.dtype.type(index_bits(words.size))
    is_whole = 2 * entries.keys.itemsize <= words.itemsize
    spots = np.empty(words.size + LANES, dtype=np.uint32)
    equals = find_equal(words, low, spots)
    emit_bucket(
        words, begin, spots, equals, low, is_whole, start, table, gaps, tie, entries, beside
    )


@njit(inline="always")
def emit_bucket(
    words: Bits,
    begin: int,
    spots: Bits,
    n_equal: int,
    low: Unsigned,
    is_exact: bool,
    start: int,
    table: Bits | None,
    gaps: Gaps,
    tie: Tie,
    entries: Entries,
    beside: Bits | None,
) -> None:
    """The values of one bucket, by way of memory `beside` where they take the place of its keys."""
    end, first = begin + words.size, begin - start
    keys, values, code = entries.keys[begin:end], entries.values[begin:end], entries.code
    before, behind = left_out(gaps, first), left_out(gaps, first + words.size - 1)
    out = values if beside is None else beside
    if table is not None and before != behind:
        emit_across(words, first, spots, n_equal, low, is_exact, keys, code, table, gaps, tie, out)
    else:
        rank = first + before
        emit_near(words, rank, spots, n_equal, low, is_exact, keys, code, table, tie, out)
    if beside is not None:
        for i in range(words.size):
            values[i] = beside[i]


# Not inline: few buckets are at a gap.
@counted
def emit_across(
    words: Bits,
    first: int,
    spots: Bits,
    n_equal: int,
    low: Unsigned,
    is_exact: bool,
    keys: Bits,
    code: Code,
    table: Bits,
    gaps: Gaps,
    tie: Tie,
    out: Bits,
) -> None:
    """The values of the words of a bucket that come after the `first` entries of the row, and
    between whose ranks there is a gap."""
    own_table = table_across(table, gaps, first, first + words.size)
    emit_near(words, ZERO, spots, n_equal, low, is_exact, keys, code, own_table, tie, out)


# Not inline: compiled once for both.
@uncounted
def emit_near(
    words: Bits,
    first: int,
    spots: Bits,
    n_equal: int,
    low: Unsigned,
    is_exact: bool,
    keys: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
) -> None:
    """The same where there is none; the bucket is in the nearest cache."""
    emit_row(words, first, spots, n_equal, low, is_exact, keys, code, table, tie, out, False)
