"""Rows that miss entries: filled, so that they can be ranked as complete ones, and looked up, each
in the table for as many entries as it has."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from groupmap.backends._bits import Bits, Code, Unsigned, as_bits, code_of, for_reading, keys_of
from groupmap.backends.kernels.compiled import kernel
from groupmap.backends.kernels.keys import bits_of, key_at


class Ends(NamedTuple):
    """Keys of one kind of numbers."""

    greatest: Unsigned  # above which no number is
    # Between these lie subnormal numbers, which a processor may be told to take for 0.
    below_zero: Unsigned
    above_zero: Unsigned


@lru_cache(maxsize=16)
def ends_of(dtype: np.dtype[Any]) -> Ends:
    """The ends of a dtype of real numbers."""
    if dtype.kind == "f":
        tiny = np.finfo(dtype).tiny
        return Ends(*keys_of(np.asarray([np.inf, -tiny, tiny], dtype=dtype)))
    return Ends(*keys_of(np.asarray([np.iinfo(dtype).max, 0, 0], dtype=dtype)))


def fill(rows: np.ndarray[Any, Any], missing: np.ndarray[Any, Any], counts: Bits) -> bool:
    """Put in place of what is missing a greater number than any other of the row, and write to
    `counts` how many others there are; where there are none, put 0. All arrays are contiguous.

    Whether that can be done comes back: not where another is the greatest number of all.
    """
    dtype = rows.dtype
    absent = for_reading(as_bits(missing))
    return _fill(as_bits(rows), absent, code_of(dtype), ends_of(dtype), counts)


@kernel
def _fill(rows: Bits, missing: Bits, code: Code, ends: Ends, counts: Bits) -> bool:
    word, n = rows.dtype.type, rows.shape[1]
    for r in range(rows.shape[0]):
        row, absent = rows[r], missing[r]
        greatest, n_missing = word(0), 0
        for i in range(n):  # without a branch, several at once
            greatest = max(greatest, word(key_at(row, i, code) & word(word(absent[i]) - word(1))))
            n_missing += absent[i]
        counts[r] = n - n_missing
        above = word(0)
        if 0 < n_missing < n:
            if greatest >= ends.greatest:
                return False
            is_near_zero = ends.below_zero <= greatest < ends.above_zero
            key = ends.above_zero if is_near_zero else word(greatest + word(1))
            above = word(bits_of(key, code))
        if n_missing > 0:
            for i in range(n):
                row[i] = above if absent[i] else row[i]
    return True


@kernel
def look_up(steps: Bits, tables: Bits, first: Bits, last: Bits, out: Bits) -> None:
    """The entries at those steps of the table that begins there for each row; from the last on, the
    last of it."""
    for r in range(steps.shape[0]):
        own_steps, own_out, end = steps[r], out[r], last[r]
        table = tables[first[r] : first[r] + np.int64(end) + 1]
        for i in range(own_steps.size):
            own_out[i] = table[np.uint64(min(own_steps[i], end))]
