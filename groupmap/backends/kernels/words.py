"""Words of key and index: packed from a row's entries, and written out again when sorted.

A word holds the entry's index in its lowest bits. Above it is either the distance of the entry's
key (see `groupmap.backends._bits`) from the least of its row, as many of the highest bits as there
is room for, or the place of the entry between the least and the greatest of its row. Both are in
the order of the entries; what they cannot tell apart, the keys tell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.keys import bits_of, key_at

LONGEST_INSERTION = 24
FEW = 64  # one tie among so many words is dealt with by itself
CROWDED = 8  # one tie among so few, and keys should have been taken for places
STRIDE = 32
LEAST_INDEX_BITS = 9  # a float32 counts no further than the remaining 23 bits without error

# Whether equals are ranked in order of appearance, and the weights of a `TieRule`.
Tie = tuple[int, int, int]


@njit(nogil=True, cache=True)
def keys_of(rows: Bits, code: Code, keys: Bits) -> None:
    """The keys of all entries."""
    for r in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            keys[r, i] = key_at(rows[r], i, code)


@njit(nogil=True, cache=True)
def look_up(
    ascending: Bits, values: Bits, rows: Bits, code: Code, table: Bits | None, tie: Tie, out: Bits
) -> None:
    """Note the value of each bit pattern from the sorted keys, then look up each entry's.

    Of a run of equal keys, each one notes the value that is right if it is the last; so the last
    has the last word, and no branch is taken that could not be foretold.
    """
    n_rows, n = rows.shape
    for r in range(n_rows):
        bits = ascending[r]
        for i in range(n):
            bits[i] = bits_of(bits[i], code)
        begin, begin_in_table, last = 0, 0, bits[0]
        for i in range(n):
            own = bits[i]
            if table is None:
                begin = begin if own == last else i
                values[own] = both_counts(begin, i + 1)
            else:
                begin_in_table = begin_in_table if own == last else tie[1] * i
                values[own] = table[begin_in_table + tie[2] * i]
            last = own
        values[code.negative_zero] = values[0]
        for i in range(n):
            out[r, i] = values[rows[r, i]]


@njit(inline="always")
def least_and_greatest(row: Bits, code: Code) -> tuple[Unsigned, Unsigned]:
    """The least and the greatest key of a row."""
    least = greatest = key_at(row, 0, code)
    for i in range(row.size):
        key = key_at(row, i, code)
        least, greatest = min(least, key), max(greatest, key)
    return row.dtype.type(least), row.dtype.type(greatest)


@njit(nogil=True, cache=True)
def bit_length(number: Unsigned) -> int:
    """How many bits a number has."""
    width = 0
    while width < 64 and number >> np.uint64(width) != 0:
        width += 1
    return width


@njit(inline="always")
def index_bits(n: int) -> int:
    """How many bits of a word the index takes."""
    return max(bit_length(np.uint64(n - 1)), LEAST_INDEX_BITS)


@njit(nogil=True, cache=True)
def pack(rows: Bits, code: Code, words: Bits) -> None:
    """Words of the highest bits of the keys' distances from the row's least, and the index."""
    n_rows, n = rows.shape
    word = words.dtype.type
    low = index_bits(n)
    high = word(~word((1 << low) - 1))
    for r in range(n_rows):
        row = rows[r]
        least, greatest = least_and_greatest(row, code)
        width = bit_length(np.uint64(greatest - least))
        up = word(8 * words.itemsize - max(width, 1))
        for i in range(n):
            distance = word(key_at(row, i, code) - least)
            words[r, i] = (word(distance << up) & high) | word(i)


@njit(nogil=True, cache=True)
def place(rows: np.ndarray[Any, Any], bits: Bits, code: Code, words: Bits) -> None:
    """Words of 32 bits of the entries' places between the row's least and greatest, and the index.

    A difference and a product are rounded in order, so places are in the order of the entries. A
    row that has infinite entries, or is too wide or narrow to divide by, gets no places but zero.
    """
    n_rows, n = rows.shape
    low = index_bits(n)
    greatest_place = rows.dtype.type((1 << (32 - low)) - 2)  # with room for two roundings
    bits_of_both = np.empty(2, dtype=bits.dtype)
    both = bits_of_both.view(rows.dtype)
    for r in range(n_rows):
        row = rows[r]
        least_key, greatest_key = least_and_greatest(bits[r], code)
        bits_of_both[0], bits_of_both[1] = bits_of(least_key, code), bits_of(greatest_key, code)
        least, width = both[0], both[1] - both[0]
        scale = greatest_place / width if width > 0 else width
        if not (0 < scale < np.inf):
            for i in range(n):
                words[r, i] = np.uint32(i)
            continue
        for i in range(n):
            distance = np.uint32(np.int32((row[i] - least) * scale))
            words[r, i] = (distance << np.uint32(low)) | np.uint32(i)


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
    spots = np.empty(n, dtype=np.uint32)
    for r in range(words.shape[0]):
        equals = count_equal(words[r], low)
        if crowded is not None:
            crowded[r] = CROWDED * equals > n
            if crowded[r]:
                continue
        emit_row(words[r], equals, low, index, rows[r], code, table, tie, out[r], spots)
        if order is not None:
            for i in range(n):
                order[r, i] = words[r, i] & index


@njit(inline="always")
def count_equal(words: Bits, low: Unsigned) -> int:
    """How many words have the prefix of the word before."""
    equals = 0
    for i in range(words.size - 1):
        equals += words[i] >> low == words[i + 1] >> low
    return equals


@njit(inline="always")
def emit_row(
    words: Bits,
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
    """The values of a row: first as if all prefixes were distinct, then again for those that are
    not. Loops without branches are several times faster, and most rows need no more."""
    n = words.size
    if not tie[0] and 2 * row.itemsize <= words.itemsize and FEW * equals > n:
        emit_all_ties(words, low, index, table, tie, out)
        return
    for i in range(n):
        out[words[i] & index] = value_of_one(i, table)
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
                emit_pair(words, spots[begin], index, row, code, table, tie, out)
            else:
                emit_run(words, spots[begin], spots[end - 1] + 2, index, row, code, table, tie, out)
            begin = end


@njit(inline="always")
def find_equal(words: Bits, low: Unsigned, spots: Bits) -> int:
    """Where the words stand that have the prefix of the next; how many there are."""
    found, last = 0, words.size - 1
    for begin in range(0, last, STRIDE):
        end = min(begin + STRIDE, last)
        if count_equal(words[begin : end + 1], low) > 0:
            for i in range(begin, end):
                spots[found] = i
                found += words[i] >> low == words[i + 1] >> low
    return found


@njit(nogil=True, cache=True)
def emit_all_ties(
    words: Bits, low: Unsigned, index: Unsigned, table: Bits | None, tie: Tie, out: Bits
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
        out[words[i] & index] = value_of_ties(begin, ends[i], table, tie)


@njit(inline="always")
def emit_pair(
    words: Bits,
    begin: int,
    index: Unsigned,
    row: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
) -> None:
    """The values of a run of two, without branches: which is less could not be foretold."""
    first, second = words[begin], words[begin + 1]
    key, next_key = key_at(row, first & index, code), key_at(row, second & index, code)
    first, second = (second, first) if next_key < key else (first, second)
    words[begin], words[begin + 1] = first, second
    is_tie = key == next_key and not tie[0]
    out[first & index] = value_of_ties(begin, begin + 1 + is_tie, table, tie)
    out[second & index] = value_of_ties(begin + 1 - is_tie, begin + 2, table, tie)


@njit(inline="always")
def emit_run(
    words: Bits,
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
        value = value_of_ties(begin, behind, table, tie)
        for i in range(begin, behind):
            # In order of appearance each entry is a run of its own.
            out[words[i] & index] = value_of_one(i, table) if tie[0] else value
        begin = behind


@njit(inline="always")
def value_of_one(less: int, table: Bits | None) -> Unsigned:
    """The value of an entry that is equal to no other."""
    if table is None:
        return both_counts(less, less + 1)
    return table[2 * less]


@njit(inline="always")
def value_of_ties(less: int, less_equal: int, table: Bits | None, tie: Tie) -> Unsigned:
    """The table at the doubled mid-rank; where there is no table, the two counts."""
    if table is None:
        return both_counts(less, less_equal)
    return table[tie[1] * less + tie[2] * (less_equal - 1)]


@njit(inline="always")
def both_counts(less: int, less_equal: int) -> Unsigned:
    """Two counts in one word."""
    return (np.uint64(less) << np.uint64(32)) | np.uint64(less_equal)


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
