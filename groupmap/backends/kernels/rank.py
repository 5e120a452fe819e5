"""Rank every entry of a row, and write where it stood the value of a table at its rank, scaled.

Words that hold an entry's key or place above its index (see `words`) are sorted as the numbers
that they are, many of them at once; the index then says where each value goes. The ways to do so
are in `ways`; here is which of them serves which rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from groupmap.backends._bits import Bits, Unsigned, as_bits, code_of, for_reading
from groupmap.backends._layout import are_columns, entries_per_block
from groupmap.backends._ops import TieRule
from groupmap.backends.kernels.halves import ByValue
from groupmap.backends.kernels.levels import TRIED_FIRST, may_be_few
from groupmap.backends.kernels.long_row import LongRow
from groupmap.backends.kernels.memory import lent
from groupmap.backends.kernels.scaling import Scaling
from groupmap.backends.kernels.task import Finish, NotFiniteError, Task
from groupmap.backends.kernels.threads import over_rows
from groupmap.backends.kernels.values import Tie
from groupmap.backends.kernels.vectors import HAS_AVX2_ALONE
from groupmap.backends.kernels.ways import (
    BYTES_OF_HALVES,
    ENTRIES_PER_BLOCK,
    LONGEST_UNTRIED,
    ByBatch,
    ByBucket,
    ByKey,
    ByPlace,
    Way,
    Worker,
)
from groupmap.backends.kernels.words import LONGEST_IN_PLACES

SHORTEST_IN_BUCKETS = 2**13 + 1  # shorter ones are sorted as fast as they are dealt out
LONGEST_OF_DOUBLES = LONGEST_IN_PLACES // 2  # whose ties take longer to tell apart
LONGEST_OF_FLOATS = LONGEST_IN_PLACES // 2 if HAS_AVX2_ALONE else LONGEST_IN_PLACES
LONGEST_AT_ONCE = 2**22 if HAS_AVX2_ALONE else 2**19  # of longer rows some buckets are enough
WIDEST = 8  # bytes an entry
ENTRIES_PER_CALL = 2**19  # where one kernel does all
SHORTEST_SHARED = 2**18  # in shorter ones there is too little for each of several threads

IN_ORDER_OF_APPEARANCE: Tie = (1, 1, 1)


def map_rows(
    rows: np.ndarray[Any, Any],
    table: np.ndarray[Any, Any],
    tie_rule: TieRule | None,
    *,
    with_order: bool,
    scaling: Scaling | None = None,
    limit: Unsigned | None = None,
    threads: int,
) -> tuple[np.ndarray[Any, Any], Bits | None] | None:
    """``table[h]`` of each entry, h as in `groupmap.ranks`, and then the scaling; and the order.

    Without a rule, equals are ranked in order of appearance. None where the magnitude of an entry
    exceeds the limit, a bit pattern; without a limit the rows hold no NaN.
    """
    try:
        return _ranked(
            rows, table, tie_of(tie_rule), table.dtype, with_order, scaling, limit, threads
        )
    except NotFiniteError:
        return None


def rank_and_gather(
    rows: np.ndarray[Any, Any],
    table: np.ndarray[Any, Any],
    tie_rule: TieRule | None,
    *,
    with_order: bool,
    threads: int,
) -> tuple[np.ndarray[Any, Any], Bits | None]:
    """The same for rows that are known to hold no NaN."""
    return _ranked(rows, table, tie_of(tie_rule), table.dtype, with_order, None, None, threads)


def order_of(rows: Bits, *, threads: int) -> Bits:
    """The order of each row, equals in order of appearance."""
    # By a table of no meaning, since the kernels that take one are compiled for maps, most likely.
    table = np.zeros(2 * rows.shape[-1] - 1, dtype=f"u{max(rows.dtype.itemsize, 2)}")
    _, order = rank_and_gather(rows, table, None, with_order=True, threads=threads)
    return order  # type: ignore[return-value]  # it was asked for


def count_less(rows: Bits, *, threads: int) -> tuple[Bits, Bits]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    counts, _ = _ranked(rows, None, (0, 0, 0), np.dtype(np.uint64), False, None, None, threads)
    return (counts >> np.uint64(32)).view(np.int64), (counts & np.uint64(2**32 - 1)).view(np.int64)


def tie_of(rule: TieRule | None) -> Tie:
    """The rule as the kernels take it."""
    return IN_ORDER_OF_APPEARANCE if rule is None else (0, *rule)


def _ranked(
    rows: np.ndarray[Any, Any],
    table: np.ndarray[Any, Any] | None,
    tie: Tie,
    dtype: np.dtype[Any],
    with_order: bool,
    scaling: Scaling | None,
    limit: Unsigned | None,
    threads: int,
) -> tuple[np.ndarray[Any, Any], Bits | None]:
    shape, n = rows.shape, rows.shape[-1]
    rows = rows.reshape(-1, n)
    if rows.dtype.itemsize == 1:
        rows = rows.astype(f"{rows.dtype.kind}2")
    task = Task(
        for_reading(rows),
        code_of(rows.dtype),
        None if table is None else as_bits(table),
        tie,
        dtype,
        np.empty_like(rows, dtype=dtype if scaling is None else scaling.dtype, subok=False),
        order=np.empty(rows.shape, dtype=np.int32) if with_order else None,
        scaling=scaling,
        limit=limit,
    )
    if threads > 1 and _are_better_shared(rows, threads):
        _rank_shared_rows(task, threads)
    else:
        _rank_rows(task, threads)
    return task.result.reshape(shape), None if task.order is None else task.order.reshape(shape)


def _are_better_shared(rows: np.ndarray[Any, Any], threads: int) -> bool:
    n_rows, n = rows.shape
    # Given out whole, they would leave some threads with nothing to do, or with half as much.
    are_too_few, are_uneven = n_rows < threads, n_rows < 2 * threads and n_rows % threads != 0
    is_long = n >= SHORTEST_SHARED and (are_too_few or n >= 2 * SHORTEST_SHARED)
    return bool(is_long and are_uneven and rows.dtype in (np.float32, np.float64))


def _rank_rows(task: Task, threads: int) -> None:
    """Some rows on each thread."""
    way, n = way_for(task), task.rows.shape[1]
    entries = 1 if way.ONE_BY_ONE else _entries_at_once(task, way)
    at_once = max(1, entries // n) if are_columns(task.rows) else len(task.rows)
    width = task.rows.itemsize + task.dtype.itemsize
    with lent() as lend:
        over_rows(
            lambda worker, begin, end: worker(begin, end),
            lambda block: Worker(way, task, lend(), block, at_once),
            *task.rows.shape,
            entries_per_block=entries_per_block(task.rows, entries, width),
            threads=threads,
        )


def _entries_at_once(task: Task, way: type[Way]) -> int:
    """The more, the narrower they and their values are, since as many bytes stay in the cache; of
    rows that may be dealt out, for which there is more to remember, no more than of doubles. Of
    those that are dealt out none has to stay there until the next is done."""
    if way is ByBucket:
        return ENTRIES_PER_CALL
    if task.rows.shape[1] > LONGEST_UNTRIED and task.rows.itemsize > BYTES_OF_HALVES:
        return ENTRIES_PER_BLOCK
    return ENTRIES_PER_BLOCK * 2 * WIDEST // (task.rows.itemsize + task.dtype.itemsize)


def _rank_shared_rows(task: Task, threads: int) -> None:
    """One row after the other on all threads, until one is better ranked by itself."""
    n_rows, n = task.rows.shape
    done, values = 0, None if task.is_direct else np.empty(n, dtype=task.dtype)
    with lent() as lend:
        shared = LongRow(task, lend(), threads, lend)
        is_crowded = False
        # Where a row is crowded, or has few levels, the next ones are alike, most likely.
        while done < n_rows and not (is_crowded or _has_few_levels(task, done)):
            order = None if task.order is None else task.order[done]
            out = task.result[done] if values is None else values
            finish = Finish(task, out[np.newaxis], done)
            is_crowded = shared.rank(as_bits(task.rows[done]), as_bits(out), order, finish)
            done += 1
    if done < n_rows:
        _rank_rows(task.since(done), threads)


def _has_few_levels(task: Task, r: int) -> bool:
    first = for_reading(np.ascontiguousarray(task.rows[r, :TRIED_FIRST]))
    return may_be_few(first, as_bits(first), task.code)


def way_for(task: Task, *, with_order: bool = False) -> type[Way]:
    """The way that is fastest for the task's rows."""
    n, dtype = task.rows.shape[1], task.rows.dtype
    with_order = with_order or task.order is not None
    if dtype.itemsize == 2:
        return ByKey if with_order or task.tie == IN_ORDER_OF_APPEARANCE else ByValue
    longest_in_places = LONGEST_OF_FLOATS if dtype == np.float32 else LONGEST_OF_DOUBLES
    if dtype.kind == "f" and n <= longest_in_places:
        return ByPlace
    if n < SHORTEST_IN_BUCKETS:
        return ByKey
    return ByBucket if n <= LONGEST_AT_ONCE else ByBatch
