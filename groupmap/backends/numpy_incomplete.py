"""The map of rows that miss entries, by what ranks rows that miss none.

What is missing is put above all that counts, and behind the table of those that do there is NaN. So
whichever entries these are, rows are ranked together: where equally many count, into their table;
else to steps, with which each looks up its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from groupmap._typing import Array, DType
from groupmap.backends._bits import as_bits, for_reading
from groupmap.backends._layout import entries_per_block
from groupmap.backends.kernels import threads

ENTRIES_AT_ONCE = 2**21  # of which there are copies
ENTRIES_PER_BLOCK = 2**17  # of which some bytes an entry stay in the cache
LONGEST_LOOKED_UP = 2**13  # tables of longer rows do not stay in the nearest caches
BYTES_OF_NARROW = 2

# The entries of a table at the doubled mid-ranks of rows, on so many threads.
Gather = Callable[[Array, Array, int], Array]
# A table of 2n − 1 entries for each of some n.
TablesOf = Callable[[Sequence[int]], Sequence[Array]]


class _NothingAboveError(Exception):
    """A row that misses entries has the greatest number of its dtype."""


def map_rows(
    rows: Array,
    missing: Array,
    tables_of: TablesOf,
    dtype: DType,
    gather: Gather,
    n_threads: int,
) -> Array | None:
    """What is gathered from the table of n entries, for the n that are not missing, and NaN for the
    others; None if there is no room above an entry that is not."""
    flat = for_reading(rows.reshape(-1, rows.shape[-1]))
    absent = for_reading(missing.reshape(flat.shape))
    n = flat.shape[1]
    at_once = max(1, entries_per_block(flat, ENTRIES_AT_ONCE, flat.itemsize) // n)

    def new_table(count: int) -> Array:
        (table,) = _bits_of_tables(tables_of, np.asarray([count]))
        return _with_nan(table, 2 * n - 1).view(dtype)

    table_for = lru_cache(maxsize=max(1, ENTRIES_AT_ONCE // (2 * n)))(new_table)
    result: Array | None = None
    for begin in range(0, len(flat), at_once):
        some = slice(begin, begin + at_once)
        try:
            filled, counts = _filled(flat[some], absent[some], n_threads)
        except _NothingAboveError:
            return None
        values = _mapped(filled, counts, tables_of, table_for, dtype, gather, n_threads)
        if len(values) == len(flat) and flat.flags.c_contiguous:
            return values.reshape(rows.shape)
        result = np.empty_like(flat, dtype=dtype, subok=False) if result is None else result
        _copy_on_threads(values, result[some], n_threads)
    return result if result is None else result.reshape(rows.shape)


def _filled(rows: Array, missing: Array, n_threads: int) -> tuple[Array, Array]:
    """The rows with something greater than all else where they miss entries, and how many of them
    they do not."""
    from groupmap.backends.kernels import columns, filling

    dtype = rows.dtype
    if dtype.itemsize <= BYTES_OF_NARROW:  # integers that may all occur, floats that are slow
        dtype = np.dtype(np.float32 if dtype.kind == "f" else np.int32)
    filled, counts = np.empty(rows.shape, dtype=dtype), np.empty(len(rows), dtype=np.int64)

    def work(_: None, begin: int, end: int) -> None:
        own, absent = filled[begin:end], columns.contiguous(missing[begin:end])
        columns.copy_rows(rows[begin:end].astype(dtype, copy=False), own)
        if not filling.fill(own, absent, counts[begin:end]):
            raise _NothingAboveError

    _over_blocks(work, rows, n_threads)
    return filled, counts


def _mapped(
    filled: Array,
    counts: Array,
    tables_of: TablesOf,
    table_for: Callable[[int], Array],
    dtype: DType,
    gather: Gather,
    n_threads: int,
) -> Array:
    """The values of filled rows."""
    n = filled.shape[1]
    distinct, which = np.unique(counts, return_inverse=True)
    if len(distinct) == 1:
        return gather(filled, table_for(int(distinct[0])), n_threads)
    if n <= LONGEST_LOOKED_UP:
        # The table whose values are where they stand, as wide as entries are.
        steps = gather(filled, np.arange(2 * n - 1, dtype=f"u{filled.itemsize}"), n_threads)
        # In place: each is read before it is written, and by nobody else.
        values = steps if filled.itemsize == dtype.itemsize else np.empty(steps.shape, dtype)
        _look_up(steps, _bits_of_tables(tables_of, distinct), which, as_bits(values), n_threads)
        return values.view(dtype)
    values = np.empty(filled.shape, dtype)

    def map_alike(threads_of_each: int, begin: int, end: int) -> None:
        for k in range(begin, end):
            alike = np.flatnonzero(which == k)
            values[alike] = gather(filled[alike], table_for(int(distinct[k])), threads_of_each)

    if len(distinct) < 2 * n_threads:
        map_alike(n_threads, 0, len(distinct))
    else:
        threads.over_rows(
            lambda _, begin, end: map_alike(1, begin, end), lambda _: None,
            len(distinct), filled.size // len(distinct),
            entries_per_block=1, threads=n_threads,
        )  # fmt: skip
    return values


def _look_up(
    steps: Array, tables: list[Array], which: Array, values: Array, n_threads: int
) -> None:
    """Write what is at those steps of each row's own table; NaN beyond its end."""
    from groupmap.backends.kernels import filling

    last = np.asarray([len(table) for table in tables])
    first = np.cumsum(last + 1) - (last + 1)
    end_to_end = np.concatenate([_with_nan(table, len(table) + 1) for table in tables])
    first, last = first[which], last[which].astype(steps.dtype)

    def work(_: None, begin: int, end: int) -> None:
        some = slice(begin, end)
        filling.look_up(steps[some], end_to_end, first[some], last[some], values[some])

    _over_blocks(work, values, n_threads)


def _bits_of_tables(tables_of: TablesOf, counts: Array) -> list[Array]:
    """As many entries of each as there are steps, of which no entries have none."""
    tables = tables_of([max(int(n), 1) for n in counts])
    return [as_bits(each)[: max(2 * n - 1, 0)] for each, n in zip(tables, counts, strict=True)]


def _with_nan(table: Array, length: int) -> Any:
    """The table's bits, and up to that length those of NaN."""
    # All bits set are NaN in every format, even in one that NumPy takes for another.
    whole = np.full(length, -1, dtype=f"i{table.itemsize}").view(table.dtype)
    whole[: len(table)] = table
    return whole


def _copy_on_threads(rows: Array, out: Array, n_threads: int) -> None:
    from groupmap.backends.kernels import columns

    def work(_: None, begin: int, end: int) -> None:
        columns.copy_rows(rows[begin:end], out[begin:end])

    _over_blocks(work, out, n_threads)


def _over_blocks(work: Callable[[None, int, int], None], rows: Array, n_threads: int) -> None:
    threads.over_rows(
        work, lambda _: None, *rows.shape,
        entries_per_block=entries_per_block(rows, ENTRIES_PER_BLOCK, rows.itemsize),
        threads=n_threads,
    )  # fmt: skip
