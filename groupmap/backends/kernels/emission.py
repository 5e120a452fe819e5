"""Sorted words (see `words`) written out as values where their entries stand."""

from __future__ import annotations

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.equals import find_equal
from groupmap.backends.kernels.keys import key_at
from groupmap.backends.kernels.values import Tie, value_of_one, value_of_ties
from groupmap.backends.kernels.vectors import LANES
from groupmap.backends.kernels.words import index_bits, last_place

LONGEST_INSERTION = 24
FEW = 64  # one tie among so many words is dealt with by itself
CROWDED = 6  # one tie among so few, and keys should have been taken for places


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
    are_places = crowded is not None
    spots = np.empty(n + LANES, dtype=np.uint32)
    n_crowded = 0
    for r in range(words.shape[0]):
        if has_level_at_end(words[r], low, is_whole, are_places):
            is_crowded = emit_between_levels(
                words[r], spots, low, is_whole, are_places, rows[r], code, table, tie, out[r]
            )
        else:
            is_crowded = emit_unless_crowded(
                words[r], 0, spots, low, is_whole, are_places, rows[r], code, table, tie, out[r]
            )
        if crowded is not None:
            crowded[r] = is_crowded
            n_crowded += is_crowded
        if order is not None and not is_crowded:
            for i in range(n):
                order[r, i] = words[r, i] & index
    return n_crowded


@njit(nogil=True, cache=True)
def emit_between_levels(
    words: Bits,
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
    """The same for one row, in which many are equal to the least, or to the greatest."""
    index = words.dtype.type((1 << low) - 1)
    begin, end = between_levels(words, low, are_places)
    emit_level(words[:begin], 0, index, table, tie, out)
    emit_level(words[end:], end, index, table, tie, out)
    if begin == end:
        return False
    return emit_unless_crowded(
        words[begin:end], begin, spots, low, is_whole, are_places, row, code, table, tie, out
    )


@njit(inline="always")
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
    """The values of those words of a row that come after its `first` ones, or that they crowd."""
    equals, is_exact = find_equal(words, low, spots), is_whole
    if are_places and CROWDED * equals > words.size:
        index = words.dtype.type((1 << low) - 1)
        conflicts = count_conflicts(words, spots[:equals], index, row, code)
        if CROWDED * conflicts > words.size:
            return True
        is_exact = conflicts == 0
    emit_row(words, first, spots[:equals], low, is_exact, row, code, table, tie, out)
    return False


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


@njit(inline="always")
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


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
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
    spot, next_spot = np.uint64(begin), np.uint64(begin + 1)
    one, other = words[spot], words[next_spot]
    key, next_key = key_at(row, one & index, code), key_at(row, other & index, code)
    swapped = words.dtype.type((one ^ other) * words.dtype.type(next_key < key))
    one, other = words.dtype.type(one ^ swapped), words.dtype.type(other ^ swapped)
    words[spot], words[next_spot] = one, other
    is_tie = key == next_key and not tie[0]
    less = first + begin
    out[one & index] = value_of_ties(less, less + 1 + is_tie, table, tie)
    out[other & index] = value_of_ties(less + 1 - is_tie, less + 2, table, tie)


# Not inline, so that pairs, of which there are many more, keep the registers.
@njit(nogil=True, cache=True)
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
