"""The map of rows that miss entries, by what ranks rows that miss none.

What is missing is put above all that counts, and behind the table of those that do there is NaN:
so rows of which equally many entries count are ranked at once, whichever these are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from groupmap._typing import Array, DType
from groupmap.backends.kernels import threads

ENTRIES_PER_BLOCK = 2**15
BYTES_OF_NARROW = 2

# The entries of a table at the doubled mid-ranks of rows, on so many threads.
Gather = Callable[[Array, Array, int], Array]


def map_rows(
    rows: Array,
    missing: Array,
    table_of: Callable[[int], Array],
    dtype: DType,
    gather: Gather,
    n_threads: int,
) -> Array | None:
    """What is gathered from ``table_of(n)``, of 2n − 1 entries, for the n that are not missing, and
    NaN for the others; None if there is no room above an entry that is not."""
    flat = rows.reshape(-1, rows.shape[-1])
    found = _filled(flat, missing.reshape(flat.shape), n_threads)
    if found is None:
        return None
    filled, counts = found
    by_count = np.argsort(counts, stable=True)
    _, first = np.unique(counts[by_count], return_index=True)
    alike = np.split(by_count, first[1:])
    result = np.empty(flat.shape, dtype=dtype)

    def map_alike(threads_of_each: int, begin: int, end: int) -> None:
        for own in alike[begin:end]:
            n = int(counts[own[0]])
            # All bits set are NaN in every format, even in one that NumPy takes for another.
            table = np.full(2 * flat.shape[1] - 1, -1, dtype=f"i{dtype.itemsize}").view(dtype)
            if n > 0:
                table[: 2 * n - 1] = table_of(n)
            result[own] = gather(filled[own], table, threads_of_each)

    if len(alike) < 2 * n_threads:
        map_alike(n_threads, 0, len(alike))
    else:
        threads.over_rows(
            lambda _, begin, end: map_alike(1, begin, end), lambda _: None,
            len(alike), flat.size // len(alike),
            entries_per_block=ENTRIES_PER_BLOCK, threads=n_threads,
        )  # fmt: skip
    return result.reshape(rows.shape)


def _filled(rows: Array, missing: Array, n_threads: int) -> tuple[Array, Array] | None:
    """The rows with something greater than all else where they miss entries, and how many of them
    they do not; None if one of the dtype's own would not be greater."""
    is_float, dtype = rows.dtype.kind == "f", rows.dtype
    if dtype.itemsize <= BYTES_OF_NARROW:  # integers that may all occur, floats that are slow
        dtype = np.dtype(np.float32 if is_float else np.int32)
    least, greatest = (-np.inf, np.inf) if is_float else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    filled, counts = np.empty(rows.shape, dtype=dtype), np.empty(len(rows), dtype=np.int64)
    is_full = np.empty(len(rows), dtype=np.bool_)

    def work(_: None, begin: int, end: int) -> None:
        own, absent = filled[begin:end], missing[begin:end]
        own[...] = rows[begin:end]
        np.copyto(own, least, where=absent)
        most = own.max(axis=-1, keepdims=True)
        counts[begin:end] = rows.shape[1] - np.count_nonzero(absent, axis=-1)
        is_full[begin:end] = (most[:, 0] == greatest) & (counts[begin:end] < rows.shape[1])
        np.copyto(own, _next_above(most), where=absent)

    threads.over_rows(
        work, lambda _: None, *rows.shape,
        entries_per_block=ENTRIES_PER_BLOCK, threads=n_threads,
    )  # fmt: skip
    return None if is_full.any() else (filled, counts)


def _next_above(most: Array) -> Array:
    """A greater number than each, but for the greatest of the dtype."""
    if most.dtype.kind != "f":
        return most + most.dtype.type(1)
    tiny = np.finfo(most.dtype).tiny
    with np.errstate(all="ignore"):  # above the greatest finite number there is infinity
        above = np.nextafter(most, most.dtype.type(np.inf))
    # Not a subnormal number, which a processor may be told to take for 0.
    return np.where((most >= -tiny) & (most < tiny), tiny, above)
