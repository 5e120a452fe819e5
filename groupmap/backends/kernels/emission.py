"""Sorted words (see `words`) written out as values where their entries stand."""

from __future__ import annotations

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.equals import count_equal, find_equal
from groupmap.backends.kernels.keys import key_at
from groupmap.backends.kernels.values import Tie, value_of_one, value_of_ties
from groupmap.backends.kernels.vectors import LANES
from groupmap.backends.kernels.words import index_bits

LONGEST_INSERTION = 24
FEW = 64  # one tie among so many words is dealt with by itself
CROWDED = 8  # one tie among so few, and keys should have been taken for places


@njit(nogil=True, cache=True)
def emit(
    words: Bits,
    rows: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
    order: Bits | None,
    crowded: Bits | None,
) -> None:
    """Sorted words to values, and to the order of each row.

    Rows of places too close together are noted as crowded and left as they are.
    """
    n = words.shape[1]
    low = words.dtype.type(index_bits(n))
    index = words.dtype.type((1 << low) - 1)
    spots = np.empty(n + LANES, dtype=np.uint32)
    for r in range(words.shape[0]):
        equals = count_equal(words[r], low)
        if crowded is not None:
            crowded[r] = CROWDED * equals > n
            if crowded[r]:
                continue
        emit_row(words[r], 0, equals, low, index, rows[r], code, table, tie, out[r], spots)
        if order is not None:
            for i in range(n):
                order[r, i] = words[r, i] & index


@njit(nogil=True, cache=True)
def emit_segments(
    words: Bits,
    bounds: Bits,
    low: int,
    rows: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
    order: Bits | None,
    crowded: Bits,
) -> None:
    """The same of rows whose words lie in segments, each of them sorted."""
    n = rows.shape[1]
    low = words.dtype.type(low)
    index = words.dtype.type((1 << low) - 1)
    spots = np.empty(n + LANES, dtype=np.uint32)
    equals = np.empty(bounds.shape[1], dtype=np.int64)
    for r in range(rows.shape[0]):
        for segment in range(bounds.shape[1]):
            begin, end = bounds[r, segment]
            equals[segment] = count_equal(words[r, begin:end], low)
        crowded[r] = CROWDED * equals.sum() > n
        if crowded[r]:
            continue
        first = 0
        for segment in range(bounds.shape[1]):
            begin, end = bounds[r, segment]
            part = words[r, begin:end]
            emit_row(
                part, first, equals[segment], low, index, rows[r], code, table, tie, out[r], spots
            )
            if order is not None:
                for i in range(part.size):
                    order[r, first + i] = part[i] & index
            first += part.size


@njit(inline="always")
def emit_row(
    words: Bits,
    first: int,
    equals: int,
    low: Unsigned,
    index: Unsigned,
    row: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
    spots: Bits,
) -> None:
    """The values of the words of a row that come after its `first` ones: as if all prefixes were
    distinct, then again for those that are not. Loops without branches are several times faster,
    and most rows need no more."""
    n = words.size
    if not tie[0] and 2 * row.itemsize <= words.itemsize and FEW * equals > n:
        emit_all_ties(words, first, low, index, table, tie, out)
        return
    for i in range(n):
        out[words[i] & index] = value_of_one(first + i, table)
    if 2 * row.itemsize <= words.itemsize and tie[0]:
        return  # words that hold all of their keys are in order of appearance
    if equals > 0:
        spots = spots[: find_equal(words, low, spots)]
        begin = 0
        while begin < spots.size:
            end = begin + 1
            while end < spots.size and spots[end] == spots[end - 1] + 1:
                end += 1
            if end - begin == 1:
                emit_pair(words, first, spots[begin], index, row, code, table, tie, out)
            else:
                emit_run(
                    words,
                    first,
                    spots[begin],
                    spots[end - 1] + 2,
                    index,
                    row,
                    code,
                    table,
                    tie,
                    out,
                )
            begin = end


@njit(nogil=True, cache=True)
def emit_all_ties(
    words: Bits, first: int, low: Unsigned, index: Unsigned, table: Bits | None, tie: Tie, out: Bits
) -> None:
    """The values of a row of many ties, whose words hold all of their keys, without branches.

    Where the run of each word ends is found from the right, where it begins from the left.
    """
    n = words.size
    ends = np.empty(n, dtype=np.uint32)
    end, prefix = n, words[n - 1] >> low
    for i in range(n - 1, -1, -1):
        own = words[i] >> low
        end = end if own == prefix else i + 1
        prefix = own
        ends[i] = end
    begin, prefix = 0, words[0] >> low
    for i in range(n):
        own = words[i] >> low
        begin = begin if own == prefix else i
        prefix = own
        out[words[i] & index] = value_of_ties(first + begin, first + ends[i], table, tie)


@njit(inline="always")
def emit_pair(
    words: Bits,
    first: int,
    begin: int,
    index: Unsigned,
    row: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
) -> None:
    """The values of a run of two, without branches: which is less could not be foretold."""
    one, other = words[begin], words[begin + 1]
    key, next_key = key_at(row, one & index, code), key_at(row, other & index, code)
    one, other = (other, one) if next_key < key else (one, other)
    words[begin], words[begin + 1] = one, other
    is_tie = key == next_key and not tie[0]
    less = first + begin
    out[one & index] = value_of_ties(less, less + 1 + is_tie, table, tie)
    out[other & index] = value_of_ties(less + 1 - is_tie, less + 2, table, tie)


@njit(inline="always")
def emit_run(
    words: Bits,
    first: int,
    begin: int,
    end: int,
    index: Unsigned,
    row: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
) -> None:
    """The values of a run of equal prefixes."""
    mend(words, begin, end, index, row, code)
    while begin < end:
        key, behind = key_at(row, words[begin] & index, code), begin + 1
        while behind < end and key_at(row, words[behind] & index, code) == key:
            behind += 1
        value = value_of_ties(first + begin, first + behind, table, tie)
        for i in range(begin, behind):
            # In order of appearance each entry is a run of its own.
            out[words[i] & index] = value_of_one(first + i, table) if tie[0] else value
        begin = behind


@njit(inline="always")
def mend(words: Bits, begin: int, end: int, index: Unsigned, row: Bits, code: Code) -> None:
    """Sort a run of words by the keys of their entries, equal ones as they stand."""
    last = key_at(row, words[begin] & index, code)
    for i in range(begin + 1, end):
        word = words[i]
        key = key_at(row, word & index, code)
        if key >= last:
            last = key
            continue
        if end - begin > LONGEST_INSERTION:
            merge_sort(words[begin:end], index, row, code)
            return
        j = i
        while j > begin and key_at(row, words[j - 1] & index, code) > key:
            words[j] = words[j - 1]
            j -= 1
        words[j] = word


@njit(nogil=True, cache=True)
def merge_sort(words: Bits, index: Unsigned, row: Bits, code: Code) -> None:
    """What is rare, but must not take quadratic time: many words with one prefix, out of order."""
    n, length = words.size, 1
    source, target = words.copy(), words.copy()
    while length < n:
        for begin in range(0, n, 2 * length):
            middle, end = min(begin + length, n), min(begin + 2 * length, n)
            left, right = begin, middle
            for i in range(begin, end):
                take_left = left < middle
                if take_left and right < end:
                    key = key_at(row, source[left] & index, code)
                    take_left = key <= key_at(row, source[right] & index, code)
                if take_left:
                    target[i] = source[left]
                    left += 1
                else:
                    target[i] = source[right]
                    right += 1
        source, target = target, source
        length *= 2
    words[:] = source
