"""Numbers of 8 bits, of which there are 256: counted, not sorted, and looked up.

A level is a number's place among all of them, in ascending order. Work is handed out by columns:
the rows of an image lie side by side, and what is fetched for one of them serves the next, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Unsigned, as_bits, code_of
from groupmap.backends.kernels.memory import SIDE_BY_SIDE
from groupmap.backends.kernels.threads import over_rows

N_LEVELS = 2**8
COPIES = 4  # of each count: the same one would often be awaited
ENTRIES_PER_BLOCK = 2**16

Rows = np.ndarray[Any, Any]


def map_levels(rows: Rows, quantiles: Callable[[Bits, Bits], Rows], *, threads: int) -> Rows:
    """The value at each entry's level; as the rows lie in memory.

    Of the levels of each row, ``(..., 256)``, `quantiles` is given how many entries are less than
    each of them, and how many at most equal to it.
    """
    flat = rows.reshape(-1, rows.shape[-1])
    counts = count_levels(flat, threads=threads).reshape(*rows.shape[:-1], N_LEVELS)
    less_equal = np.cumsum(counts, axis=-1)
    values = quantiles(less_equal - counts, less_equal)
    found = look_up(flat, values.reshape(-1, N_LEVELS), threads=threads)
    return found.reshape(rows.shape)


def count_levels(rows: Rows, *, threads: int) -> Bits:
    """How many entries of rows ``(r, n)``, of any strides, have each level: ``(r, 256)``."""
    bits, top, found = as_bits(rows), _top(rows), []

    def own_counts(_: int) -> Bits:
        counts = np.zeros((len(rows), N_LEVELS), dtype=np.int64)
        found.append(counts)
        return counts

    over_rows(
        lambda counts, begin, end: add_counts(bits[:, begin:end], top, counts), own_counts,
        *reversed(rows.shape), entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
    )  # fmt: skip
    counts: Bits = sum(found, np.zeros((len(rows), N_LEVELS), dtype=np.int64))
    return counts


def look_up(rows: Rows, values: Rows, *, threads: int) -> Rows:
    """The value at each entry's level, of those ``(r, 256)``."""
    result = np.empty_like(rows, dtype=values.dtype, subok=False)
    bits, top, values, out = as_bits(rows), _top(rows), as_bits(values), as_bits(result)
    over_rows(
        lambda _, begin, end: take(bits[:, begin:end], top, values, out[:, begin:end]),
        lambda _: None,
        *reversed(rows.shape), entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
    )  # fmt: skip
    return result


def sort(rows: Rows, dtype: np.dtype[Any], *, threads: int) -> Rows:
    """Each row in ascending order, in that dtype."""
    numbers = (np.arange(N_LEVELS, dtype=np.uint8) ^ _top(rows)).view(rows.dtype).astype(dtype)
    flat = rows.reshape(-1, rows.shape[-1])
    result = np.empty(flat.shape, dtype=dtype)
    for counts, ascending in zip(count_levels(flat, threads=threads), result, strict=True):
        repeat(numbers, counts, ascending)
    return result.reshape(rows.shape)


def _top(rows: Rows) -> Unsigned:
    """What turns a bit pattern into a level by exclusive or, and back."""
    return code_of(rows.dtype).top


@njit(nogil=True, cache=True)
def add_counts(bits: Bits, top: Unsigned, counts: Bits) -> None:
    """Add how many entries of each row have each level."""
    for r in range(bits.shape[0]):
        row, own = bits[r], np.zeros((COPIES, N_LEVELS), dtype=np.uint32)
        for i in range(row.size):
            own[i & (COPIES - 1), row[i] ^ top] += np.uint32(1)
        for copy in range(COPIES):
            for level in range(N_LEVELS):
                counts[r, level] += own[copy, level]


@njit(nogil=True, cache=True)
def take(bits: Bits, top: Unsigned, values: Bits, out: Bits) -> None:
    """The value at each entry's level."""
    n_rows, n = bits.shape
    for begin in range(0, n, SIDE_BY_SIDE):
        end = min(begin + SIDE_BY_SIDE, n)
        for r in range(n_rows):
            part, own_values, own_out = bits[r, begin:end], values[r], out[r, begin:end]
            for i in range(part.size):
                own_out[i] = own_values[part[i] ^ top]


@njit(nogil=True, cache=True)
def repeat(numbers: Rows, counts: Bits, ascending: Rows) -> None:
    """Each of the numbers as often as it was counted, one after the other."""
    begin = 0
    for level in range(N_LEVELS):
        # No more, even if somebody else wrote to the row in the meantime.
        end = min(begin + counts[level], ascending.size)
        ascending[begin:end] = numbers[level]
        begin = end
