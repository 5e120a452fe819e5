"""Every row to the mean of all rows' order statistics, with one ranking of each.

Ranks and order come to light together: the row, sorted, is added to the mean; the ranks wait until
it is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from groupmap.backends._bits import Bits, as_bits, code_of, for_reading
from groupmap.backends._ops import TieRule
from groupmap.backends.kernels.compiled import kernel
from groupmap.backends.kernels.knots import with_middles
from groupmap.backends.kernels.memory import Contiguous, Memory, lent
from groupmap.backends.kernels.rank import tie_of, way_for
from groupmap.backends.kernels.task import NotFiniteError, Task
from groupmap.backends.kernels.threads import over_rows
from groupmap.backends.kernels.ways import ENTRIES_PER_BLOCK

IN_LINE = 8  # so many of a table's columns, of doubles, lie in one line of the cache
LONGEST_IN_UNITS = 2**16  # of longer ones each is a unit
ENTRIES_COPIED = 2**19  # at once; of columns that lie in neighbouring lines, which come together
# Entries of a table's row that are written one after the other. For fewer, a processor does not
# foresee which lines it will take; more are read from too many places.
IN_A_ROW = 2**8


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
    n_steps = 2 * rows.shape[1] - 1
    steps = np.arange(n_steps, dtype=np.uint16 if n_steps <= 2**16 else np.uint32)
    greatest = min(np.finfo(np.float64).max / (2 * len(rows)), np.finfo(rows.dtype).max)
    limit = as_bits(np.asarray(greatest, dtype=rows.dtype))[()]
    task = Task(
        for_reading(rows),
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
    are_columns = result.strides[0] < result.strides[1]

    def work(_: None, begin: int, end: int) -> None:
        places, out = task.result[:, begin:end], result[:, begin:end]
        if are_columns:  # whose table is written row by row
            places, out = places.T, out.T
        gather(table, places, out)

    over_rows(
        work, lambda _: None, *reversed(rows.shape),
        entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
    )  # fmt: skip
    return result.reshape(shape)


class _Units:
    """Memory for some units, each of so many rows."""

    def __init__(self, task: Task, n_units: int, size: int, memory: Memory) -> None:
        self.contiguous = Contiguous(task.rows, n_units * size, memory)
        self.order = memory.empty((size, task.rows.shape[1]), np.int32)
        self.way = way_for(task, with_order=True)(task, size, memory)


def _mean_of_sorted(task: Task, threads: int) -> np.ndarray[Any, Any]:
    """The mean, in double precision; the task's result receives the ranks.

    Rows are added up by units that depend on n alone, and these in order, so that the number of
    threads changes no bit.
    """
    n_rows, n = task.rows.shape
    is_single = way_for(task, with_order=True).ONE_BY_ONE
    size = 1 if is_single or n > LONGEST_IN_UNITS else IN_LINE
    sums = np.zeros((-(-n_rows // size), n))

    def work(units: _Units, begin: int, end: int) -> None:
        rows, ranks = (each[begin * size : end * size] for each in (task.rows, task.result))
        rows = units.contiguous(rows)
        for k, own_sums in enumerate(sums[begin:end]):
            unit = slice(k * size, (k + 1) * size)
            order = units.order[: len(rows[unit])]
            units.way.rank_and_add(rows[unit], ranks[unit], order, own_sums)

    with lent() as lend:
        over_rows(
            work, lambda block: _Units(task, block, size, lend()), len(sums), size * n,
            entries_per_block=ENTRIES_COPIED, threads=threads,
        )  # fmt: skip
    mean: np.ndarray[Any, Any] = sums.sum(axis=0) / n_rows
    return mean


@kernel
def gather(table: np.ndarray[Any, Any], places: Bits, out: np.ndarray[Any, Any]) -> None:
    """``out = table[places]``, of whose rows the entries lie side by side."""
    n_rows, n = out.shape
    for begin in range(0, n, IN_A_ROW):
        for r in range(n_rows):
            own_places = places[r, begin : begin + IN_A_ROW]
            own_out = out[r, begin : begin + IN_A_ROW]
            for i in range(own_out.size):
                own_out[i] = table[own_places[i]]
