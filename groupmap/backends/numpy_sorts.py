"""Ranks on NumPy arrays without Numba: by sorts, several blocks of rows at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from groupmap._typing import Array
from groupmap.backends import kernels
from groupmap.backends._bits import keys_of
from groupmap.backends._layout import entries_per_block
from groupmap.backends._ops import TieRule
from groupmap.backends.kernels import threads

# Rows are sorted so many entries at a time, which stay in the cache until they are written.
ENTRIES_PER_BLOCK = 2**15


def count_less(rows: Array) -> tuple[Array, Array]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    flat = rows.reshape(-1, rows.shape[-1])
    both = np.empty((2, *flat.shape), dtype=np.int64)

    def work(_: None, begin: int, end: int) -> None:
        ascending, order = _sorted(flat[begin:end], stable=False)
        for counts, result in zip(_count_less_in_order(ascending), both, strict=True):
            _scatter(counts, order, result[begin:end])

    over_blocks(work, flat)
    less, less_equal = both.reshape(2, *rows.shape)
    return less, less_equal


def rank_and_gather(rows: Array, table: Array, tie_rule: TieRule | None) -> Array:
    """The value of the table at each entry's doubled mid-rank: in sorted order, then scattered."""
    flat = rows.reshape(-1, rows.shape[-1])
    result = np.empty(flat.shape, dtype=table.dtype)

    def work(_: None, begin: int, end: int) -> None:
        ascending, order = _sorted(flat[begin:end], stable=tie_rule is None)
        values = np.broadcast_to(table[::2], order.shape)
        if tie_rule is not None and np.any(ascending[..., 1:] == ascending[..., :-1]):
            values = table[tie_rule.doubled_midrank(*_count_less_in_order(ascending))]
        _scatter(values, order, result[begin:end])

    over_blocks(work, flat)
    return result.reshape(rows.shape)


def over_blocks(work: Callable[[None, int, int], None], rows: Array) -> None:
    """The work on all rows ``(r, n)``, so many at a time as stay in the cache."""
    threads.over_rows(
        work, lambda _: None, *rows.shape,
        entries_per_block=entries_per_block(rows, ENTRIES_PER_BLOCK, rows.itemsize),
        threads=kernels.default_threads(),
    )  # fmt: skip


def _sorted(rows: Array, *, stable: bool) -> tuple[Array, Array]:
    """Keys of the rows' entries in ascending order, and which entries they are of.

    Keys of up to 32 bits are sorted together with the index, as one integer: NumPy sorts values
    several times faster than it finds their order.
    """
    if rows.dtype.kind not in "fiu" or rows.dtype.itemsize > 4:
        order = np.argsort(rows, axis=-1, stable=stable)
        return np.take_along_axis(rows, order, axis=-1), order
    native = rows.astype(rows.dtype.newbyteorder("="), copy=False)
    words = keys_of(native).astype(np.uint64)
    words <<= np.uint64(32)
    words |= np.arange(rows.shape[-1], dtype=np.uint64)
    words.sort(axis=-1)
    keys = words >> np.uint64(32)
    words &= np.uint64(2**32 - 1)
    return keys, words.view(np.int64)


def _scatter(values: Array, order: Array, result: Array) -> None:
    """Each row's values to where its entries stood; the result is contiguous."""
    n = order.shape[-1]
    row_begins = np.arange(0, order.size, n).reshape((*order.shape[:-1], 1))
    result.reshape(-1)[order + row_begins] = values


def _count_less_in_order(ascending: Array) -> tuple[Array, Array]:
    """The same counts for each entry of sorted rows: where its run of equals begins, and ends."""
    n = ascending.shape[-1]
    index = np.arange(n)
    is_first, is_last = np.ones((2, *ascending.shape), dtype=np.bool_)
    np.not_equal(ascending[..., 1:], ascending[..., :-1], out=is_first[..., 1:])
    is_last[..., :-1] = is_first[..., 1:]
    begin = np.maximum.accumulate(np.where(is_first, index, 0), axis=-1)
    end_from_the_right = np.where(is_last, index + 1, n)[..., ::-1]
    return begin, np.minimum.accumulate(end_from_the_right, axis=-1)[..., ::-1]
