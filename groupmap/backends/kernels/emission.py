"""Sorted words (see `words`) written out as values where their entries stand."""

from __future__ import annotations

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.equals import find_equal
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
) -> int:
    """Sorted words to values, and to the order of each row.

    Rows of places too close together are noted as crowded and left as they are. How many are comes
    back.
    """
    n = words.shape[1]
    low = words.dtype.type(index_bits(n))
    index = words.dtype.type((1 << low) - 1)
    is_whole = 2 * rows.itemsize <= words.itemsize  # the words hold all of the keys
    spots = np.empty(n + LANES, dtype=np.uint32)
    n_crowded = 0
    for r in range(words.shape[0]):
        equals = find_equal(words[r], low, spots)
        is_exact = is_whole
        if crowded is not None and CROWDED * equals > n:
            conflicts = count_conflicts(words[r], spots[:equals], index, rows[r], code)
            is_exact, crowded[r] = conflicts == 0, CROWDED * conflicts > n
            if crowded[r]:
                n_crowded += 1
                continue
        emit_row(words[r], 0, spots[:equals], low, is_exact, rows[r], code, table, tie, out[r])
        if order is not None:
            for i in range(n):
                order[r, i] = words[r, i] & index
    return n_crowded


@njit(nogil=True, cache=True)
def count_conflicts(words: Bits, equals: Bits, index: Unsigned, row: Bits, code: Code) -> int:
    """Of the words whose prefixes are `equals` of the next, how many have another key."""
    conflicts = 0
    for i in range(equals.size):
        one, other = words[equals[i]] & index, words[equals[i] + 1] & index
        conflicts += key_at(row, one, code) != key_at(row, other, code)
    return conflicts


@njit(inline="always")
def emit_row(
    words: Bits,
    first: int,
    equals: Bits,
    low: Unsigned,
    is_whole: bool,
    row: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
) -> None:
    """The values of the words of a row that come after its `first` ones: as if all prefixes were
    distinct, then again for those that are `equals` of the next. Loops without branches are several
    times faster, and most rows need no more.

    Where words hold the whole of their keys, these need not be looked at.
    """
    n, index = words.size, words.dtype.type((1 << low) - 1)
    if not tie[0] and is_whole and FEW * equals.size > n:
        emit_all_ties(words, first, low, index, table, tie, out)
        return
    if table is None:
        for i in range(n):
            out[words[i] & index] = value_of_one(first + i, table)
    else:
        own_table = table[2 * first : 2 * (first + n)]  # one sum less for each entry
        for i in range(n):
            out[words[i] & index] = own_table[2 * i]
    # Else they are in order of appearance.
    if equals.size > 0 and not (is_whole and tie[0]):
        emit_equals(words, first, equals, low, row, code, table, tie, out)


# Not inline: what is rare would keep the compiler from making the most of what is not.
@njit(nogil=True, cache=True)
def emit_equals(
    words: Bits,
    first: int,
    equals: Bits,
    low: Unsigned,
    row: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
) -> None:
    """The values of words whose prefixes are `equals` of the next."""
    index = words.dtype.type((1 << low) - 1)
    begin = 0
    while begin < equals.size:
        end = begin + 1
        while end < equals.size and equals[end] == equals[end - 1] + 1:
            end += 1
        if end - begin == 1:
            emit_pair(words, first, equals[begin], index, row, code, table, tie, out)
        else:
            behind = equals[end - 1] + 2
            emit_run(words, first, equals[begin], behind, index, row, code, table, tie, out)
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
