"""Rows whose entries have weights: sums of these up to each entry, and where a sum is reached."""

from __future__ import annotations

from typing import Any

import numpy as np

from groupmap._typing import Side
from groupmap.backends.kernels.columns import contiguous
from groupmap.backends.kernels.compiled import inlined, kernel
from groupmap.backends.kernels.threads import over_rows

Rows = np.ndarray[Any, Any]

ENTRIES_PER_BLOCK = 2**16


def sums_in_order(values: Rows, order: Rows, *, threads: int) -> Rows:
    """The sums of the first 1, 2, … values of each row ``(r, n)``, taken in that order."""
    values, order = contiguous(values), contiguous(order)
    sums = np.empty(values.shape)

    def work(_: None, begin: int, end: int) -> None:
        some = slice(begin, end)
        _sum_in_order(values[some], order[some], sums[some])

    over_rows(
        work, lambda _: None, *values.shape, entries_per_block=ENTRIES_PER_BLOCK, threads=threads
    )
    return sums


@kernel
def _sum_in_order(values: Rows, order: Rows, sums: Rows) -> None:
    for r in range(values.shape[0]):
        own, own_order, own_sums = values[r], order[r], sums[r]
        total = 0.0
        for i in range(own.size):
            total += own[own_order[i]]
            own_sums[i] = total


def search_rows(ascending: Rows, values: Rows, side: Side, *, threads: int) -> Rows:
    """`numpy.searchsorted` of values ``(r, k)``, each row in its own of ``(r, n)``."""
    ascending, values = contiguous(ascending), contiguous(values)
    found = np.empty(values.shape, dtype=np.intp)

    def work(_: None, begin: int, end: int) -> None:
        some = slice(begin, end)
        _search(ascending[some], values[some], side == "right", found[some])

    over_rows(
        work, lambda _: None, *values.shape, entries_per_block=ENTRIES_PER_BLOCK, threads=threads
    )
    return found


@kernel
def _search(ascending: Rows, values: Rows, is_right: bool, found: Rows) -> None:
    for r in range(values.shape[0]):
        row = ascending[r]
        for i in range(values.shape[1]):
            value, begin, end = values[r, i], 0, row.size
            while begin < end:
                middle = (begin + end) >> 1
                at = row[middle]
                if (not is_less(value, at)) if is_right else is_less(at, value):
                    begin = middle + 1
                else:
                    end = middle
            found[r, i] = begin


@inlined
def is_less(one: float, other: float) -> bool:
    """Whether one number is less than another, with NaN above all others, as they are sorted."""
    return one < other or (np.isnan(other) and not np.isnan(one))
