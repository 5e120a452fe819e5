"""What an entry becomes: the value of a table at its rank."""

from __future__ import annotations

import numpy as np

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.compiled import inlined, uncounted_kernel
from groupmap.backends.kernels.keys import bits_of, key_at, magnitude_of
from groupmap.backends.kernels.scaling import Goal, reach

# Whether equals are ranked in order of appearance, and the weights of a `TieRule`.
Tie = tuple[int, int, int]


@inlined
def value_of_one(less: int, table: Bits | None) -> Unsigned:
    """The value of an entry that is equal to no other."""
    if table is None:
        return both_counts(less, less + 1)
    return table[np.uint64(2 * less)]


@inlined
def value_of_ties(less: int, less_equal: int, table: Bits | None, tie: Tie) -> Unsigned:
    """The table at the doubled mid-rank; where there is no table, the two counts."""
    if table is None:
        return both_counts(less, less_equal)
    # Unsigned: an index that may be negative takes longer.
    return table[np.uint64(tie[1] * less + tie[2] * (less_equal - 1))]


@inlined
def both_counts(less: Unsigned, less_equal: Unsigned) -> Unsigned:
    """Two counts in one word."""
    return (np.uint64(less) << np.uint64(32)) | np.uint64(less_equal)


@uncounted_kernel
def keys_of(rows: Bits, which: Bits, code: Code, keys: Bits) -> None:
    """The keys of all entries of those rows."""
    for k in range(which.size):
        row, own_keys = rows[which[k]], keys[k]
        for i in range(row.size):
            own_keys[i] = key_at(row, i, code)


@uncounted_kernel
def look_up(
    ascending: Bits,
    values: Bits,
    rows: Bits,
    which: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
    goal: Goal | None,
) -> Unsigned:
    """Note the value of each bit pattern from the sorted keys of those rows, then look up each
    entry's.

    The greatest magnitude comes back, as a bit pattern. If there is a goal, all rows have the first
    one of `out` in turn, which is its line.

    Of a run of equal keys, each one notes the value that is right if it is the last; so the last
    has the last word, and no branch is taken that could not be foretold.
    """
    n = rows.shape[1]
    magnitude = rows.dtype.type(0)
    # Unsigned and counted on: an index that may be negative, or is a product, takes longer.
    of_less, of_less_equal = np.uint64(tie[1]), np.uint64(tie[2])
    for k in range(which.size):
        r = which[k]
        bits, row, own_out = ascending[k], rows[r], out[r if goal is None else 0]
        magnitude = max(magnitude, magnitude_of(bits[0], bits[n - 1], code))
        for i in range(n):
            bits[i] = bits_of(bits[i], code)
        begin, less, less_equal, last = 0, np.uint64(0), np.uint64(0), bits[0]
        next_less = np.uint64(0)
        for i in range(n):
            own = bits[i]
            if table is None:
                begin = begin if own == last else i
                values[own] = both_counts(begin, i + 1)
            else:
                less = less if own == last else next_less
                values[own] = table[less + less_equal]
                next_less += of_less
                less_equal += of_less_equal
            last = own
        values[code.negative_zero] = values[0]
        for i in range(n):
            own_out[i] = values[row[i]]
        if goal is not None:
            reach(goal, r, r + 1)
    return magnitude
