"""NumPy: run lengths on the sorted row instead of a search, and SciPy's special functions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from groupmap._typing import Array, Namespace, Side
from groupmap.backends import generic


def count_less(rows: Array, xp: Namespace) -> tuple[Array, Array]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    del xp
    order = np.argsort(rows, axis=-1)
    ascending = np.take_along_axis(rows, order, axis=-1)
    n = rows.shape[-1]
    index = np.arange(n)
    run_starts = np.ones(rows.shape, dtype=np.bool_)
    np.not_equal(ascending[..., 1:], ascending[..., :-1], out=run_starts[..., 1:])
    first = np.maximum.accumulate(np.where(run_starts, index, 0), axis=-1)
    run_ends = np.ones(rows.shape, dtype=np.bool_)
    run_ends[..., :-1] = run_starts[..., 1:]
    last_from_the_right = np.where(run_ends, index, n - 1)[..., ::-1]
    last = np.minimum.accumulate(last_from_the_right, axis=-1)[..., ::-1]
    less, less_equal = np.empty_like(first), np.empty_like(first)
    np.put_along_axis(less, order, first, axis=-1)
    np.put_along_axis(less_equal, order, last + 1, axis=-1)
    return less, less_equal


def search_rows(sorted_rows: Array, values: Array, side: Side, xp: Namespace) -> Array:
    """`searchsorted` on the last axis, all rows in one call.

    NumPy searches one row only, but it orders complex numbers by real and then by imaginary
    part: with the row's index as real part, the rows laid end to end are one sorted row.
    """
    if not np.isdtype(sorted_rows.dtype, (np.float16, np.float32, np.float64)):
        return generic.search_rows(sorted_rows, values, side, xp)
    k = sorted_rows.shape[-1]
    found = np.searchsorted(_in_row_order(sorted_rows), _in_row_order(values), side=side)
    row_index = np.arange(max(found.size, 1)) // max(values.shape[-1], 1)
    return (found - row_index[: found.size] * k).reshape(values.shape)


def _in_row_order(rows: Array) -> Array:
    ordered = np.empty(rows.shape, dtype=np.complex128)
    row_count = int(np.prod(rows.shape[:-1]))
    ordered.real = np.arange(row_count).reshape((*rows.shape[:-1], 1))
    ordered.imag = rows
    return ordered.reshape(-1)


def ndtri(p: Array, xp: Namespace) -> Array:
    """The quantile function of the standard normal distribution."""
    from scipy import special

    del xp
    return special.ndtri(p)


def ndtr(x: Array, xp: Namespace) -> Array:
    """The cdf of the standard normal distribution."""
    from scipy import special

    del xp
    return special.ndtr(x)


OPS = replace(generic.OPS, count_less=count_less, search_rows=search_rows, ndtri=ndtri, ndtr=ndtr)
