"""Sorted words (see `words`) written out as values where their entries stand."""

from __future__ import annotations

import numpy as np

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.compiled import ZERO, inlined, part, uncounted_kernel
from groupmap.backends.kernels.equals import find_equal
from groupmap.backends.kernels.runs import (
    are_long,
    count_conflicts,
    emit_all_ties,
    emit_equals,
    emit_levels,
)
from groupmap.backends.kernels.values import Tie, value_of_one, value_of_ties
from groupmap.backends.kernels.vectors import fetch
from groupmap.backends.kernels.words import index_bits, last_place

FEW = 64  # one tie among so many words is dealt with by itself
BYTES_NEAR = 2**15  # values that stay in the nearest cache; others have to be fetched
AHEAD = 16  # words
CROWDED = 6  # one tie among so few, and keys should have been taken for places


@uncounted_kernel
def emit(
    words: Bits,
    rows: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
    crowded: Bits | None,
    spots: Bits,
) -> int:
    """Sorted words to values. Those of equal entries are in order of appearance then.

    Rows of places too close together are noted as crowded and left as they are. How many are comes
    back. There is memory for `spots` of 32 bits, a vector more than a row has words.
    """
    n = words.shape[1]
    low = words.dtype.type(index_bits(n))
    is_whole = 2 * rows.itemsize <= words.itemsize  # the words hold all of the keys
    are_places = crowded is not None
    n_crowded = 0
    for r in range(words.shape[0]):
        begin, end, is_crowded = 0, n, False
        if has_level_at_end(words[r], low, is_whole, are_places):
            begin, end = emit_levels_at_ends(words[r], low, are_places, table, tie, out[r])
        if begin < end:
            is_crowded = emit_unless_crowded(
                words[r, begin:end], begin, spots, low, is_whole, are_places, rows[r], code, table,
                tie, out[r],
            )  # fmt: skip
        if crowded is not None:
            crowded[r] = is_crowded
            n_crowded += is_crowded
    return n_crowded


@part
def emit_levels_at_ends(
    words: Bits, low: Unsigned, are_places: bool, table: Bits | None, tie: Tie, out: Bits
) -> tuple[int, int]:
    """The values of those of a row that are equal to the least, or to the greatest, where many are;
    where the words of the others begin and end."""
    index = words.dtype.type((1 << low) - 1)
    begin, end = between_levels(words, low, are_places)
    emit_level(words[:begin], ZERO, index, table, tie, out)
    emit_level(words[end:], end, index, table, tie, out)
    return begin, end


@inlined
def emit_unless_crowded(
    words: Bits,
    first: int,
    spots: Bits,
    low: Unsigned,
    is_whole: bool,
    are_places: bool,
    row: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
) -> bool:
    """The values of those words of a row that come after its `first` ones; whether they are too
    crowded, and left as they are."""
    equals, is_exact = find_equal(words, low, spots), is_whole
    if are_places and CROWDED * equals > row.size:
        index = words.dtype.type((1 << low) - 1)
        conflicts = count_conflicts(words, spots[:equals], index, row, code)
        if CROWDED * conflicts > row.size:
            return True
        is_exact = conflicts == 0
    is_far = out.size * out.itemsize > BYTES_NEAR
    emit_row(words, first, spots, equals, low, is_exact, row, code, table, tie, out, is_far)
    return False


@inlined
def emit_row(
    words: Bits,
    first: int,
    spots: Bits,
    n_equal: int,
    low: Unsigned,
    is_exact: bool,
    row: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
    is_far: bool,
) -> None:
    """The values of the words of a row that come after its `first` ones: as if all prefixes were
    distinct, then again for those that are equal to the next, as the first of `spots` say. Loops
    without branches are several times faster, and most rows need no more.

    Where it is exact, words of equal prefixes have equal keys, which need not be looked at. There,
    many short runs are written without branches, but long ones, as of many zeros, run by run. Where
    `out` is far, beyond the nearest cache, what is written to is fetched.
    """
    n, index = words.size, words.dtype.type((1 << low) - 1)
    if not tie[0] and is_exact and FEW * n_equal > n and not are_long(spots[:n_equal]):
        emit_all_ties(words, first, low, index, table, tie, spots[:n], out)
        return
    if table is None:
        for i in range(n):
            out[words[i] & index] = value_of_one(first + i, table)
    else:
        own_table = table[2 * first : 2 * (first + n)]  # one sum less for each entry
        if is_far:
            for i in range(n - AHEAD):
                fetch(out, np.int64(words[i + AHEAD] & index))
                out[words[i] & index] = own_table[2 * i]
            for i in range(max(n - AHEAD, 0), n):
                out[words[i] & index] = own_table[2 * i]
        else:
            for i in range(n):
                out[words[i] & index] = own_table[2 * i]
    if n_equal > 0 and not is_exact:
        emit_equals(words, first, spots[:n_equal], low, row, code, table, tie, out)
    elif n_equal > 0 and not tie[0]:  # else they are in order of appearance
        emit_levels(words, first, spots[:n_equal], index, table, tie, out)


@inlined
def has_level_at_end(words: Bits, low: Unsigned, is_whole: bool, are_places: bool) -> bool:
    """Whether several entries are known to be equal to the least of their row, or the greatest.

    Only the first and the last place belong to equal entries alone.
    """
    first, last = words[0] >> low, words[words.size - 1] >> low
    is_level = bool(words[min(1, words.size - 1)] >> low == first)
    is_last_level = bool(words[max(words.size - 2, 0)] >> low == last)
    if are_places:
        is_level &= bool(first == 0)
        is_last_level &= bool(last == last_place(low))
        return is_level | is_last_level
    return is_whole & (is_level | is_last_level)


@part
def between_levels(words: Bits, low: Unsigned, are_places: bool) -> tuple[int, int]:
    """Where the words of the least entries end, if several are known to be, and those of the
    greatest begin."""
    first, last = words[0] >> low, words[words.size - 1] >> low
    begin, end = 0, words.size
    if not are_places or first == 0:
        begin = first_beyond(words, first, low)
    if begin < end and (not are_places or last == last_place(low)):
        end = first_beyond(words, words.dtype.type(last - words.dtype.type(1)), low)
    return begin, end


@part
def first_beyond(words: Bits, prefix: Unsigned, low: Unsigned) -> int:
    """Where the sorted words begin whose prefixes are greater."""
    begin, end = 0, words.size
    while begin < end:
        middle = (begin + end) // 2
        if words[middle] >> low > prefix:
            end = middle
        else:
            begin = middle + 1
    return begin


@part
def emit_level(
    words: Bits, first: int, index: Unsigned, table: Bits | None, tie: Tie, out: Bits
) -> None:
    """The values of the words of a row that come after its `first` ones, and are all equal."""
    if tie[0]:
        for i in range(words.size):
            out[words[i] & index] = value_of_one(first + i, table)
    elif words.size > 0:
        value = value_of_ties(first, first + words.size, table, tie)
        for i in range(words.size):
            out[words[i] & index] = value
