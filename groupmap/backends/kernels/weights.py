"""Sums of the weights of rows up to each entry, in an order."""

from __future__ import annotations

import numpy as np

from groupmap.backends._bits import Rows, for_reading
from groupmap.backends.kernels.columns import contiguous
from groupmap.backends.kernels.compiled import kernel
from groupmap.backends.kernels.threads import over_rows

ENTRIES_PER_BLOCK = 2**16


def sums_in_order(values: Rows, order: Rows, *, threads: int) -> Rows:
    """The sums of the first 1, 2, … values of each row ``(r, n)``, taken in that order."""
    values, order = (for_reading(contiguous(each)) for each in (values, order))
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
