"""The values of sorted words (see `words`) whose prefixes are equal: the keys tell them apart."""

from __future__ import annotations

import numpy as np

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.compiled import counted_part, inlined, part, uncounted_part
from groupmap.backends.kernels.keys import key_at
from groupmap.backends.kernels.values import Tie, value_of_one, value_of_ties

LONGEST_INSERTION = 24
LONG = 12  # so many words a run, on the average


@inlined
def run_end(equals: Bits, begin: int) -> int:
    """Where the numbers end that follow one another from there on, of ascending ones."""
    step = 1
    while begin + step < equals.size and equals[begin + step] - equals[begin] == step:
        step *= 2
    # The last of them is one of these.
    low, high = begin + step // 2, min(begin + step, equals.size) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if equals[middle] - equals[begin] == middle - begin:
            low = middle
        else:
            high = middle - 1
    return low + 1


@inlined
def level_end(words: Bits, begin: int, end: int, index: Unsigned, row: Bits, code: Code) -> int:
    """Up to which word entries are equal to that of the first one."""
    bits, behind = row[words[begin] & index], begin + 1
    same = bits ^ code.negative_zero if (bits == 0) | (bits == code.negative_zero) else bits
    while behind < end:
        other = row[words[behind] & index]
        if (other != bits) & (other != same):
            break
        behind += 1
    return behind


@part
def count_conflicts(words: Bits, equals: Bits, index: Unsigned, row: Bits, code: Code) -> int:
    """Of the words whose prefixes are `equals` of the next, how many have another key."""
    conflicts = begin = 0
    while begin < equals.size:
        end = run_end(equals, begin)
        spot, behind = equals[begin], equals[end - 1] + 2
        while spot < behind:
            spot = level_end(words, spot, behind, index, row, code)
            conflicts += spot < behind
        begin = end
    return conflicts


@inlined
def are_long(equals: Bits) -> bool:
    """Whether words whose prefixes are `equals` of the next form long runs, on the average."""
    n_runs = 1
    for i in range(equals.size - 1):
        n_runs += equals[i] + np.uint32(1) != equals[i + 1]
    return bool(LONG * n_runs < equals.size)


@uncounted_part
def emit_levels(
    words: Bits,
    first: int,
    equals: Bits,
    index: Unsigned,
    table: Bits | None,
    tie: Tie,
    out: Bits,
) -> None:
    """The values of words whose prefixes are `equals` of the next, and their keys, too."""
    begin = 0
    while begin < equals.size:
        end = run_end(equals, begin)
        spot, behind = equals[begin], equals[end - 1] + 2
        value = value_of_ties(first + spot, first + behind, table, tie)
        for i in range(spot, behind):
            out[words[i] & index] = value
        begin = end


# Not inline: what is rare would keep the compiler from making the most of what is not.
@part
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
        end = run_end(equals, begin)
        if end - begin == 1:
            emit_pair(words, first, equals[begin], index, row, code, table, tie, out)
        else:
            behind = equals[end - 1] + 2
            emit_run(words, first, equals[begin], behind, index, row, code, table, tie, out)
        begin = end


@part
def emit_all_ties(
    words: Bits,
    first: int,
    low: Unsigned,
    index: Unsigned,
    table: Bits | None,
    tie: Tie,
    ends: Bits,
    out: Bits,
) -> None:
    """The values of a row of many ties, whose words of equal prefixes have equal keys, without
    branches.

    Where the run of each word ends is found from the right, where it begins from the left. There is
    memory for the `ends`.
    """
    n = words.size
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


@inlined
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
@part
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
    behind = level_end(words, begin, end, index, row, code)
    if behind < end:
        mend(words, begin, end, index, row, code)
        behind = begin
    while begin < end:
        if behind == begin:  # else it is one level, as most that are long
            behind = level_end(words, begin, end, index, row, code)
        value = value_of_ties(first + begin, first + behind, table, tie)
        for i in range(begin, behind):
            # In order of appearance each entry is a run of its own.
            out[words[i] & index] = value_of_one(first + i, table) if tie[0] else value
        begin = behind


@inlined
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


@counted_part
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
    for i in range(n):  # to assign all at once takes seconds to compile: shapes might differ
        words[i] = source[i]
