"""`numpy.searchsorted`, many rows at once."""

from __future__ import annotations

import numpy as np

from groupmap._typing import Side
from groupmap.backends._bits import Rows, for_reading
from groupmap.backends.kernels.columns import contiguous
from groupmap.backends.kernels.compiled import inlined, kernel
from groupmap.backends.kernels.threads import over_rows

ENTRIES_PER_BLOCK = 2**16


def search_rows(ascending: Rows, values: Rows, side: Side, *, threads: int) -> Rows:
    """`numpy.searchsorted` of values ``(r, k)``, each row in its own of ``(r, n)``."""
    ascending, values = (for_reading(contiguous(each)) for each in (ascending, values))
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
                if (not sorts_before(value, at)) if is_right else sorts_before(at, value):
                    begin = middle + 1
                else:
                    end = middle
            found[r, i] = begin


@inlined
def sorts_before(one: float, other: float) -> bool:
    """Whether one number is less than another, where NaN is above all others."""
    return one < other or (np.isnan(other) and not np.isnan(one))
