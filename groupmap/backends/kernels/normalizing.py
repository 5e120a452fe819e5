"""Every row to the mean of all rows' order statistics, with one ranking of each.

Ranks and order come to light together: the order adds the row, sorted, to the mean; the ranks wait
until it is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, as_bits, code_of
from groupmap.backends._ops import TieRule
from groupmap.backends.kernels.knots import with_middles
from groupmap.backends.kernels.memory import Memory, lent
from groupmap.backends.kernels.rank import tie_of, way_for
from groupmap.backends.kernels.task import NotFiniteError, Task
from groupmap.backends.kernels.threads import over_rows
from groupmap.backends.kernels.ways import ENTRIES_PER_BLOCK

MOST_ROWS_PER_UNIT = 8  # of a table's columns so many lie in one line of the cache
TILE = 128  # columns whose lines stay in the cache until they are full


def normalize_rows(
    rows: np.ndarray[Any, Any], tie_rule: TieRule | None, *, threads: int
) -> np.ndarray[Any, Any] | None:
    """Each row of floats ``(..., n)``, of any strides, mapped to the mean of all rows, sorted.

    None where an entry is not finite, or so great that the sum may not be.
    """
    shape = rows.shape
    if shape[-1] > np.iinfo(np.int32).max:  # which counts the order
        return None
    rows = rows.reshape(-1, shape[-1])
    steps = np.arange(2 * rows.shape[1] - 1, dtype=np.uint32)
    greatest = min(np.finfo(np.float64).max / (2 * len(rows)), np.finfo(rows.dtype).max)
    limit = as_bits(np.asarray(greatest, dtype=rows.dtype))[()]
    task = Task(
        rows,
        code_of(rows.dtype),
        steps,
        tie_of(tie_rule),
        steps.dtype,
        np.empty(rows.shape, dtype=steps.dtype),
        limit=limit,
    )
    try:
        mean = _mean_of_sorted(task, threads)
    except NotFiniteError:
        return None
    table = np.empty(len(steps), dtype=rows.dtype)
    with_middles(mean, table)
    result = np.empty_like(rows, subok=False)

    def work(_: None, begin: int, end: int) -> None:
        gather(table, task.result[:, begin:end], result[:, begin:end])

    # Across rows, since where these are the columns of a table its lines are written whole.
    over_rows(
        work, lambda _: None, *reversed(rows.shape),
        entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
    )  # fmt: skip
    return result.reshape(shape)


class _Unit:
    """Memory for some rows."""

    def __init__(self, task: Task, n_rows: int, memory: Memory) -> None:
        self.order = memory.empty((n_rows, task.rows.shape[1]), np.int32)
        self.way = way_for(task, with_order=True)(task, n_rows, memory)


def _mean_of_sorted(task: Task, threads: int) -> np.ndarray[Any, Any]:
    """The mean, in double precision; the task's result receives the ranks.

    Rows are added up by units that depend on n alone, and these in order, so that the number of
    threads changes no bit.
    """
    n_rows, n = task.rows.shape
    is_single = way_for(task, with_order=True).ONE_BY_ONE
    size = 1 if is_single else max(1, min(MOST_ROWS_PER_UNIT, ENTRIES_PER_BLOCK // n))
    sums = np.zeros((-(-n_rows // size), n))

    def work(unit: _Unit, begin: int, end: int) -> None:
        for u in range(begin, end):
            rows = np.ascontiguousarray(task.rows[u * size : (u + 1) * size])
            order = unit.order[: len(rows)]
            unit.way.rank(rows, task.result[u * size : (u + 1) * size], order)
            add_in_order(rows, order, sums[u])

    with lent() as lend:
        over_rows(
            work, lambda _: _Unit(task, size, lend()), len(sums), size * n,
            entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
        )  # fmt: skip
    mean: np.ndarray[Any, Any] = sums.sum(axis=0) / n_rows
    return mean


@njit(nogil=True, cache=True)
def add_in_order(rows: np.ndarray[Any, Any], order: Bits, sums: np.ndarray[Any, Any]) -> None:
    """Add each row, sorted."""
    for r in range(rows.shape[0]):
        row, own_order = rows[r], order[r]
        for i in range(row.size):
            sums[i] += row[own_order[i]]


@njit(nogil=True, cache=True)
def gather(table: np.ndarray[Any, Any], places: Bits, out: np.ndarray[Any, Any]) -> None:
    """``out = table[places]``, some columns at a time."""
    for begin in range(0, places.shape[1], TILE):
        for r in range(places.shape[0]):
            own_places, own_out = places[r, begin : begin + TILE], out[r, begin : begin + TILE]
            for i in range(own_out.size):
                own_out[i] = table[own_places[i]]
