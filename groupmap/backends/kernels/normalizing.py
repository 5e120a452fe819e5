"""Every row to the mean of all rows' order statistics, with one ranking of each.

Ranks and order come to light together: the row, sorted, is added to the mean; the ranks wait until
it is known. Rows that miss entries are filled (see `filling`), and add their quantiles.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from groupmap.backends._bits import Bits, as_bits, code_of, for_reading
from groupmap.backends._ops import LineOfRanks, TieRule
from groupmap.backends.kernels.adding import Sums
from groupmap.backends.kernels.compiled import kernel
from groupmap.backends.kernels.filling import fill
from groupmap.backends.kernels.knots import at_some_indices, with_middles
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
    rows: np.ndarray[Any, Any], tie_rule: TieRule | None, line: LineOfRanks, *, threads: int
) -> np.ndarray[Any, Any] | None:
    """Each row of floats ``(..., n)``, of any strides, mapped to the mean quantile function of all
    rows, on which the order statistics of some of their values lie on this line; NaN stays.

    None where an entry is infinite, or so great that the sum may not be finite.
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
        mean, counts = _mean_quantiles(task, line, threads)
    except NotFiniteError:
        return None
    result = np.empty_like(rows, subok=False)
    _look_up(mean, counts, line, task.result, result, threads)
    return result.reshape(shape)


class _Units:
    """Memory for some units, each of so many rows."""

    def __init__(self, task: Task, n_units: int, size: int, memory: Memory) -> None:
        self.task, self.size = task, size
        self.contiguous = Contiguous(task.rows, n_units * size, memory)
        self.order = memory.empty((size, task.rows.shape[1]), np.int32)
        self.way = way_for(task, with_order=True)(task, size, memory)

    def rank_and_add(
        self,
        rows: np.ndarray[Any, Any],
        ranks: Bits,
        counts: Bits,
        line: LineOfRanks,
        sums: np.ndarray[Any, Any],
    ) -> None:
        """Rank contiguous rows, and add them to the sums of their units."""
        of_all = Sums.of_rows(sums[0], counts, line)
        for k, own_sums in enumerate(sums):
            unit = slice(k * self.size, (k + 1) * self.size)
            own = of_all.of_some(unit, own_sums)
            self.way.rank_and_add(rows[unit], ranks[unit], self.order[: len(own.counts)], own)


def _mean_quantiles(
    task: Task, line: LineOfRanks, threads: int
) -> tuple[np.ndarray[Any, Any], Bits]:
    """The mean, in double precision, and how many entries of each row are there; the task's result
    receives the ranks.

    Rows are added up by units that depend on n alone, and these in order, so that the number of
    threads changes no bit.
    """
    n_rows, n = task.rows.shape
    is_single = way_for(task, with_order=True).ONE_BY_ONE
    size = 1 if is_single or n > LONGEST_IN_UNITS else IN_LINE
    sums = np.zeros((-(-n_rows // size), n))
    counts = np.full(n_rows, n)

    def work(units: _Units, begin: int, end: int) -> None:
        some = slice(begin * size, end * size)
        rows, ranks, own_counts = units.contiguous(task.rows[some]), task.result[some], counts[some]
        own_sums = sums[begin:end]
        try:
            units.rank_and_add(rows, ranks, own_counts, line, own_sums)
        except NotFiniteError:
            rows, own_sums[:] = rows.copy(), 0.0
            if not fill(rows, np.isnan(rows), own_counts):
                raise
            units.rank_and_add(for_reading(rows), ranks, own_counts, line, own_sums)

    with lent() as lend:
        over_rows(
            work, lambda block: _Units(task, block, size, lend()), len(sums), size * n,
            entries_per_block=ENTRIES_COPIED, threads=threads,
        )  # fmt: skip
    return sums.sum(axis=0) / max(np.count_nonzero(counts), 1), counts


def _look_up(
    mean: np.ndarray[Any, Any],
    counts: Bits,
    line: LineOfRanks,
    ranks: Bits,
    out: np.ndarray[Any, Any],
    threads: int,
) -> None:
    """The mean at the ranks of rows, which have so many entries each."""
    n, are_columns = len(mean), out.strides[0] < out.strides[1]
    if np.all(counts == n):
        table = np.empty(2 * n - 1, dtype=out.dtype)
        with_middles(mean, table)
        look_up = partial(gather, table)
    else:
        # Columns change along the rows of their table.
        ratios, offsets = line(counts, n)
        look_up = partial(gather_between, mean, 2 * counts - 2, ratios / 2.0, offsets, are_columns)

    def work(_: None, begin: int, end: int) -> None:
        places, own = ranks[:, begin:end], out[:, begin:end]
        if are_columns:  # whose table is written row by row
            places, own = places.T, own.T
        look_up(places, own)

    over_rows(
        work, lambda _: None, *reversed(out.shape),
        entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
    )  # fmt: skip


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


@kernel
def gather_between(
    mean: np.ndarray[Any, Any],
    lasts: Bits,
    ratios: np.ndarray[Any, Any],
    offsets: np.ndarray[Any, Any],
    are_of_entries: bool,
    places: Bits,
    out: np.ndarray[Any, Any],
) -> None:
    """The mean at ``place * ratio + offset``, and NaN for the places beyond the last: numbers of
    each row, or of each entry of a row."""
    n_rows, n = out.shape
    at, fractions, values = np.empty(IN_A_ROW), np.empty(IN_A_ROW), np.empty(IN_A_ROW)
    own_places, whole = np.empty(IN_A_ROW, dtype=places.dtype), np.empty(IN_A_ROW, dtype=np.int32)
    for begin in range(0, n, IN_A_ROW):
        end = min(begin + IN_A_ROW, n)
        size = end - begin
        for r in range(n_rows):
            some, own_out = places[r, begin:end], out[r, begin:end]
            for i in range(size):
                own_places[i] = some[i]
            if are_of_entries:
                own_ratios, own_offsets = ratios[begin:end], offsets[begin:end]
                own_lasts = lasts[begin:end]
                for i in range(size):
                    at[i] = np.float64(own_places[i]) * own_ratios[i] + own_offsets[i]
                at_some_indices(mean, at[:size], whole, fractions, values)
                for i in range(size):
                    own_out[i] = values[i] if np.int64(own_places[i]) <= own_lasts[i] else np.nan
            else:
                ratio, offset, last = ratios[r], offsets[r], lasts[r]
                for i in range(size):
                    at[i] = np.float64(own_places[i]) * ratio + offset
                at_some_indices(mean, at[:size], whole, fractions, values)
                for i in range(size):
                    own_out[i] = values[i] if np.int64(own_places[i]) <= last else np.nan
