"""NumPy: run lengths on the sorted row instead of a search, and SciPy's special functions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from groupmap._typing import Array, Namespace, Side, TieRule
from groupmap.backends import generic


def count_less(rows: Array, xp: Namespace) -> tuple[Array, Array]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    del xp
    order = np.argsort(rows, axis=-1)
    in_order = _count_less_in_order(np.take_along_axis(rows, order, axis=-1))
    return _scattered(in_order[0], order), _scattered(in_order[1], order)


def rank_and_gather(
    rows: Array, table: Array, tie_rule: TieRule | None, xp: Namespace
) -> tuple[Array, Array | None]:
    """The value of the table at each entry's doubled mid-rank: in sorted order, then scattered."""
    del xp
    order = np.argsort(rows, axis=-1, stable=tie_rule is None)
    ascending = np.take_along_axis(rows, order, axis=-1)
    if tie_rule is None or not np.any(ascending[..., 1:] == ascending[..., :-1]):
        return _scattered(np.broadcast_to(table[::2], rows.shape), order), order
    h = tie_rule(*_count_less_in_order(ascending))
    return _scattered(table[h], order), order


def _count_less_in_order(ascending: Array) -> tuple[Array, Array]:
    """The same counts for each entry of sorted rows: where its run of equals begins, and ends."""
    n = ascending.shape[-1]
    index = np.arange(n)
    is_first, is_last = np.ones((2, *ascending.shape), dtype=np.bool_)
    np.not_equal(ascending[..., 1:], ascending[..., :-1], out=is_first[..., 1:])
    is_last[..., :-1] = is_first[..., 1:]
    begin = np.maximum.accumulate(np.where(is_first, index, 0), axis=-1)
    end_from_the_right = np.where(is_last, index + 1, n)[..., ::-1]
    return begin, np.minimum.accumulate(end_from_the_right, axis=-1)[..., ::-1]


def _scattered(values: Array, order: Array) -> Array:
    result = np.empty_like(values, shape=order.shape)
    np.put_along_axis(result, order, values, axis=-1)
    return result


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


OPS = replace(
    generic.OPS,
    count_less=count_less,
    rank_and_gather=rank_and_gather,
    search_rows=search_rows,
    ndtri=ndtri,
    ndtr=ndtr,
)
