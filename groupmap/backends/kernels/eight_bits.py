"""Numbers of 8 bits, of which there are 256: counted, not sorted, and looked up.

A level is a number's place among all of them, in ascending order. Few rows are handed out by
columns: those of an image lie side by side, and what is fetched for one of them serves the next,
too. Many are handed out as they are, since counts have to be added up for each block of each row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from groupmap.backends._bits import Bits, Rows, Unsigned, as_bits, code_of
from groupmap.backends.kernels.compiled import kernel
from groupmap.backends.kernels.threads import over_rows

N_LEVELS = 2**8
COPIES = 4  # of each count: the same one would often be awaited
ENTRIES_PER_BLOCK = 2**16
MOST_BY_COLUMNS = 16  # rows
SIDE_BY_SIDE = 2**9  # so many lines stay in the nearest cache


class EightBits:
    """All numbers of 8 bits in ascending order, and how often each occurs in rows ``(..., n)``."""

    def __init__(self, rows: Rows, *, threads: int) -> None:
        self.rows, self.threads = rows, threads
        flat = rows.reshape(-1, rows.shape[-1])
        counts = count_levels(flat, threads=threads).reshape(*rows.shape[:-1], N_LEVELS)
        self.numbers = np.broadcast_to(all_numbers(rows.dtype), counts.shape)
        self.less_equal = np.cumsum(counts, axis=-1)
        self.less = self.less_equal - counts

    def look_up(self, values: Rows) -> Rows:
        """What of the values ``(..., 256)`` belongs to each entry; as the rows lie in memory."""
        return look_up(self.rows, values, threads=self.threads)


def all_numbers(dtype: np.dtype[Any]) -> Rows:
    """Those of 8 bits, in ascending order."""
    bits: Bits = np.arange(N_LEVELS, dtype=np.uint8) ^ code_of(dtype).top
    return bits.view(dtype)


def count_levels(rows: Rows, *, threads: int) -> Bits:
    """How many entries of rows ``(r, n)``, of any strides, have each level: ``(r, 256)``."""
    bits, top = as_bits(rows), _top(rows)
    total = np.zeros((len(rows), N_LEVELS), dtype=np.int64)
    if len(rows) > MOST_BY_COLUMNS:
        over_rows(
            lambda _, begin, end: add_counts(bits[begin:end], top, total[begin:end]),
            lambda _: None,
            *rows.shape, entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
        )  # fmt: skip
        return total
    found = []

    def own_counts(_: int) -> Bits:
        counts = np.zeros_like(total)
        found.append(counts)
        return counts

    over_rows(
        lambda counts, begin, end: add_counts(bits[:, begin:end], top, counts), own_counts,
        *reversed(rows.shape), entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
    )  # fmt: skip
    for counts in found:
        total += counts
    return total


def look_up(rows: Rows, values: Rows, *, threads: int) -> Rows:
    """The value at each entry's level, of those ``(..., 256)``; as the rows lie in memory."""
    shape, rows = rows.shape, rows.reshape(-1, rows.shape[-1])
    result = np.empty_like(rows, dtype=values.dtype, subok=False)
    bits, top, out = as_bits(rows), _top(rows), as_bits(result)
    values = as_bits(values.reshape(-1, N_LEVELS))

    def work_on_columns(_: None, begin: int, end: int) -> None:
        take(bits[:, begin:end], top, values, out[:, begin:end])

    def work_on_rows(_: None, begin: int, end: int) -> None:
        take(bits[begin:end], top, values[begin:end], out[begin:end])

    by_rows = len(rows) > MOST_BY_COLUMNS
    over_rows(
        work_on_rows if by_rows else work_on_columns, lambda _: None,
        *(rows.shape if by_rows else reversed(rows.shape)),
        entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
    )  # fmt: skip
    return result.reshape(shape)


def sort(rows: Rows, dtype: np.dtype[Any], *, threads: int) -> Rows:
    """Each row ``(..., n)`` in ascending order, in that dtype."""
    numbers = all_numbers(rows.dtype).astype(dtype)
    flat = rows.reshape(-1, rows.shape[-1])
    counts, result = count_levels(flat, threads=threads), np.empty(flat.shape, dtype=dtype)
    over_rows(
        lambda _, begin, end: repeat(numbers, counts[begin:end], result[begin:end]),
        lambda _: None,
        *flat.shape, entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
    )  # fmt: skip
    return result.reshape(rows.shape)


def _top(rows: Rows) -> Unsigned:
    """What turns a bit pattern into a level by exclusive or, and back."""
    return code_of(rows.dtype).top


@kernel
def add_counts(bits: Bits, top: Unsigned, counts: Bits) -> None:
    """Add how many entries of each row have each level."""
    for r in range(bits.shape[0]):
        row, own = bits[r], np.zeros((COPIES, N_LEVELS), dtype=np.uint32)
        for i in range(row.size):
            own[i & (COPIES - 1), row[i] ^ top] += np.uint32(1)
        for copy in range(COPIES):
            for level in range(N_LEVELS):
                counts[r, level] += own[copy, level]


@kernel
def take(bits: Bits, top: Unsigned, values: Bits, out: Bits) -> None:
    """The value at each entry's level."""
    n_rows, n = bits.shape
    for begin in range(0, n, SIDE_BY_SIDE):
        end = min(begin + SIDE_BY_SIDE, n)
        for r in range(n_rows):
            part, own_values, own_out = bits[r, begin:end], values[r], out[r, begin:end]
            for i in range(part.size):
                own_out[i] = own_values[part[i] ^ top]


@kernel
def repeat(numbers: Rows, counts: Bits, ascending: Rows) -> None:
    """In each row each of the numbers as often as it was counted, one after the other."""
    for r in range(counts.shape[0]):
        begin, row = 0, ascending[r]
        for level in range(N_LEVELS):
            end = begin + counts[r, level]
            row[begin:end] = numbers[level]
            begin = end
