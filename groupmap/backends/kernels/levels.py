"""Rows of few different values: each of them is counted, and nothing is sorted.

The level of an entry is the distance of its key from the row's least, where floats that are nearer
to zero than any of the row do not count; or, for floats of more than 16 bits, its place among some
between the row's least and greatest, if no two different values share a place. Photographs have few
levels, and so have counts, and rows of 16 bits that are long.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.compiled import inlined, kernel, part
from groupmap.backends.kernels.keys import key_at, magnitude_of
from groupmap.backends.kernels.values import Tie, both_counts, value_of_one
from groupmap.backends.kernels.words import extent, least_and_greatest_key

MOST_LEVELS = 2**16
LEVELS_PER_ENTRY = 1.5  # where there are more it is faster to sort
PLACES = 2**12
TRIED_FIRST = 2**10  # entries; where values are many, two of these share a place
TRIED_AT_ONCE = 2**7  # entries; so do two of these, most often
MOST_ALONE = 0.8  # of the levels of those entries; of 4096 levels even fewer
COPIES = 4  # of each count of few: the same one would often be awaited


@kernel
def count_keys(
    rows: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
    order: Bits,
    is_done: Bits,
) -> Unsigned:
    """The values of those rows whose keys span few levels, and their order, if it has any size;
    which these are.

    The greatest magnitude comes back.
    """
    n_rows, n = rows.shape
    word, most_levels = rows.dtype.type, min(MOST_LEVELS, most_worth_counting(n))
    levels, memory = np.empty(n, dtype=np.uint16), memory_of_levels(most_levels, tie, order, out)
    magnitude = word(0)
    for r in range(n_rows):
        row = rows[r]
        least, greatest = least_and_greatest_key(row, code)
        magnitude = max(magnitude, magnitude_of(least, greatest, code))
        gap = gap_beside_zero(row, code)
        first = word(without_gaps(least, gap, code))
        span = word(word(without_gaps(greatest, gap, code)) - first)
        is_done[r] = span < most_levels
        if is_done[r]:
            for i in range(n):
                level = word(without_gaps(key_at(row, i, code), gap, code)) - first
                # No more, even if somebody else writes to the row in the meantime.
                levels[i] = np.uint16(min(word(level), span))
            emit_levels(levels, int(span) + 1, memory, table, tie, out[r], order, r)
    return magnitude


@inlined
def most_worth_counting(n: int) -> int:
    """How many levels of rows of n entries are counted faster than the entries are sorted."""
    return int(LEVELS_PER_ENTRY * n)


@inlined
def gap_beside_zero(row: Bits, code: Code) -> Unsigned:
    """How many keys lie between zero and the nearest float of a row, on either side of zero."""
    word = row.dtype.type
    gap = word(~word(0))
    for i in range(row.size):
        gap = min(gap, word((row[i] & code.flip) - word(1)))  # which is the greatest for zero
    return gap if gap < code.flip else word(0)


@inlined
def without_gaps(key: Unsigned, gap: Unsigned, code: Code) -> Unsigned:
    """The key, as if there were no gap below zero, and none above."""
    none = gap ^ gap
    return key - (gap if key >= code.top else none) - (gap if key > code.top else none)


@kernel
def count_places(
    rows: np.ndarray[Any, Any],
    bits: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
    order: Bits,
    is_done: Bits,
) -> Unsigned:
    """The same for those rows of floats that `is_done` names, as `find_few` does, if there is room
    for a place for each of their values.

    The magnitude is that of these rows.
    """
    n_rows, n = rows.shape
    levels, memory = np.empty(n, dtype=np.uint16), memory_of_levels(PLACES, tie, order, out)
    key_of_level = np.empty(PLACES, dtype=bits.dtype)
    magnitude = bits.dtype.type(0)
    ends = np.empty(2, dtype=rows.dtype)
    for r in range(n_rows):
        if not is_done[r]:
            continue
        row, own_bits = rows[r], bits[r]
        is_done[r] = False
        least, scale, greatest = extent(own_bits, code, rows.dtype.type(PLACES - 1), ends)
        magnitude = max(magnitude, greatest)
        if ends[0] == ends[1]:
            levels[:] = 0
            is_done[r] = True
        elif scale > 0:
            is_done[r] = are_apart(row, own_bits, code, least, scale, levels, key_of_level)
        if is_done[r]:
            emit_levels(levels, key_of_level.size, memory, table, tie, out[r], order, r)
    return magnitude


@kernel
def find_few(rows: np.ndarray[Any, Any], bits: Bits, code: Code, may_be_done: Bits) -> None:
    """Which rows of floats are not dismissed at first sight: where there are none, which is so of
    most arrays, to count need not be compiled."""
    for r in range(rows.shape[0]):
        may_be_done[r] = may_be_few(rows[r], bits[r], code)


@kernel
def may_be_few(row: np.ndarray[Any, Any], bits: Bits, code: Code) -> bool:
    """Whether the values of a row of floats are few, as far as its first entries tell; most rows of
    many values are dismissed for the first of these."""
    levels = np.empty(TRIED_FIRST, dtype=np.uint16)
    if not seem_few(row[:TRIED_AT_ONCE], bits[:TRIED_AT_ONCE], code, levels):
        return False
    if not seem_few(row[:TRIED_FIRST], bits[:TRIED_FIRST], code, levels):
        return False
    return row.size < TRIED_FIRST or not are_mostly_alone(levels)


@part
def seem_few(some: np.ndarray[Any, Any], bits: Bits, code: Code, levels: Bits) -> bool:
    """Whether each value of some entries has a place of its own, which is its level."""
    ends = np.empty(2, dtype=some.dtype)
    least, scale, _ = extent(bits, code, some.dtype.type(PLACES - 1), ends)
    if scale > 0:
        key_of_level = np.empty(PLACES, dtype=bits.dtype)
        return are_apart(some, bits, code, least, scale, levels, key_of_level)
    levels[:] = 0
    return bool(ends[0] == ends[1])


@part
def are_mostly_alone(levels: Bits) -> bool:
    """Whether most levels are those of one entry: so it is with numbers among many equal ones."""
    counts = np.zeros(PLACES, dtype=np.uint16)
    for i in range(levels.size):
        counts[levels[i]] += np.uint16(1)
    n_levels = n_alone = 0
    for level in range(PLACES):
        n_levels += counts[level] > 0
        n_alone += counts[level] == 1
    return n_alone > MOST_ALONE * n_levels


@part
def are_apart(
    row: np.ndarray[Any, Any],
    bits: Bits,
    code: Code,
    least: float,
    scale: float,
    levels: Bits,
    key_of_level: Bits,
) -> bool:
    """Whether every value has a place of its own, which is its level."""
    for i in range(row.size):
        place = np.int32((row[i] - least) * scale)
        # No more, even if somebody else writes to the row in the meantime.
        levels[i] = np.uint16(place & np.int32(PLACES - 1))
    for i in range(row.size):
        key_of_level[levels[i]] = key_at(bits, i, code)
    others = 0
    for i in range(row.size):
        others += key_of_level[levels[i]] != key_at(bits, i, code)
    return others == 0


@inlined
def memory_of_levels(most: int, tie: Tie, order: Bits, out: Bits) -> tuple[Bits, Bits, Bits]:
    """Memory for the counts of so many levels, their values, and where they begin in the order.

    For all rows of a call: a system takes as long to hand it out as a row takes to be counted.
    """
    with_order = tie[0] or order.size > 0
    counts = np.empty(max(most, COPIES * PLACES), dtype=np.uint32)
    values = np.empty(most, dtype=out.dtype)
    return counts, values, np.empty(most if with_order else 0, dtype=np.int64)


@part
def emit_levels(
    levels: Bits,
    n_levels: int,
    memory: tuple[Bits, Bits, Bits],
    table: Bits | None,
    tie: Tie,
    out: Bits,
    order: Bits,
    r: int,
) -> None:
    """The values of the row r, and its order, from the level of each entry."""
    copies = COPIES if n_levels <= PLACES else 1
    all_counts, values, begins = memory
    all_counts[: copies * n_levels] = 0
    for i in range(levels.size):
        all_counts[np.uint64(i & (copies - 1)) * np.uint64(n_levels) + levels[i]] += np.uint32(1)
    counts = all_counts[:n_levels]
    for copy in range(1, copies):
        others = all_counts[copy * n_levels : (copy + 1) * n_levels]
        for level in range(n_levels):
            counts[level] += others[level]
    if not tie[0]:
        note_levels(counts, table, tie, values)
        for i in range(levels.size):
            out[i] = values[levels[i]]
    if tie[0] or order.size > 0:
        less = 0
        for level in range(n_levels):
            begins[level] = less
            less += int(counts[level])
        for i in range(levels.size):
            rank = begins[levels[i]]
            begins[levels[i]] = rank + 1
            if tie[0]:
                out[i] = value_of_one(rank, table)
            if order.size > 0:
                order[r, rank] = i


@inlined
def note_levels(counts: Bits, table: Bits | None, tie: Tie, values: Bits) -> None:
    """The value of each level; any value for those of no entry, so that no branch is taken that
    could not be foretold."""
    # A rule adds both counts, or doubles one: to choose is faster than to multiply.
    adds_less, adds_less_equal = tie[1] > 0, tie[2] > 0
    less, last = np.uint64(0), np.uint64(0) - np.uint64(1)
    for level in range(counts.size):
        count = np.uint64(counts[level])
        last += count
        if table is None:
            values[level] = both_counts(less, last + np.uint64(1))
        else:
            one = less if adds_less else last
            other = last if adds_less_equal else less
            values[level] = table[min(one + other, np.uint64(table.size - 1))]
        less += count
