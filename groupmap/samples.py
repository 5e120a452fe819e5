"""Quantile functions of samples: of each row, and their mean over all rows."""

from __future__ import annotations

from functools import partial

from groupmap._typing import Array, Namespace
from groupmap.backends import Ops
from groupmap.dtypes import as_widest_real, default_dtype
from groupmap.grouping import Grouping
from groupmap.interpolation import order_statistics, ordered_statistics
from groupmap.positions import Positions, RankPositions

# A power of two, times which great numbers keep all of their digits, and no number of them
# overflows.
SMALL = 2.0**-64


def check_no_infinity(rows: Array, missing: Array | None, xp: Namespace, ops: Ops) -> None:
    """Refuse rows that hold infinity, except where an entry is missing."""
    can_read = ops.can_read(rows) and (missing is None or ops.can_read(missing))
    if not (can_read and xp.isdtype(rows.dtype, "real floating")):
        return
    is_infinite = xp.isinf(rows)
    if bool(xp.any(is_infinite if missing is None else is_infinite & ~missing)):
        raise ValueError(
            "x holds infinity, between which and a finite value nothing interpolates; "
            "clip it, or put NaN in its place, which counts for nothing."
        )


def _is_finite(rows: Array, xp: Namespace, ops: Ops) -> bool:
    if not xp.isdtype(rows.dtype, "real floating") or 0 in rows.shape:
        return True
    _, not_finite = ops.screen(rows, xp)
    return not not_finite


def sorted_valid(
    rows: Array, missing: Array | None, xp: Namespace, ops: Ops, *, may_be_infinite: bool = True
) -> tuple[Array, Array]:
    """Each row in ascending order, in the widest real dtype, and how many of it are valid.

    What is missing lies behind the valid values, as copies of the greatest of them (or as 0 where
    there are none): it adds nothing to what interpolates between them.
    """
    if missing is None and ops.can_read(rows) and _is_finite(rows, xp, ops):
        ascending = _sorted_in_widest_real(rows, xp, ops)
        on = ops.device(ascending)
        shape = (*ascending.shape[:-1], 1)
        counts = xp.full(shape, rows.shape[-1], dtype=default_dtype(xp, "integral"), device=on)
        return ascending, counts
    values = as_widest_real(rows, xp, ops)
    missing = xp.isnan(values) if missing is None else missing | xp.isnan(values)
    if may_be_infinite:
        check_no_infinity(values, missing, xp, ops)
    n_valid = xp.count_nonzero(~missing, axis=-1, keepdims=True)
    ascending = ops.sort_rows(xp.where(missing, xp.inf, values), xp)
    rank = xp.arange(values.shape[-1], device=ops.device(values))
    last = xp.maximum(n_valid - 1, xp.zeros_like(n_valid))
    greatest = xp.take_along_axis(ascending, last, axis=-1)
    greatest = xp.where(n_valid > 0, greatest, 0.0)
    return xp.where(rank < n_valid, ascending, greatest), n_valid


def quantiles_of_rows(
    ascending: Array,
    n_valid: Array,
    positions: Positions,
    parameters: tuple[float, float],
    xp: Namespace,
    ops: Ops,
) -> Array:
    """The quantiles of each row at the positions, by numpy.quantile's definitions.

    NaN for rows without a valid value.
    """
    count = as_widest_real(_one_for_all(n_valid, xp, ops), xp, ops)
    index = positions.order_statistic(count, *parameters)
    index = xp.minimum(index, xp.maximum(count - 1.0, xp.zeros_like(count)))
    return xp.where(n_valid > 0, order_statistics(ascending, index, xp, ops), xp.nan)


def quantiles_by_order(
    rows: Array,
    order: Array,
    positions: Positions,
    parameters: tuple[float, float],
    xp: Namespace,
    ops: Ops,
) -> Array:
    """The same of the finite entries of rows ``(..., n)`` in this order, in which NaN come last."""
    n = rows.shape[-1]
    if ops.reads_at_once(rows) and _is_finite(rows, xp, ops):
        counts = xp.full((1,) * rows.ndim, n, device=ops.device(rows))
        first = xp.zeros_like(counts)
    else:
        values = as_widest_real(rows, xp, ops)
        counts, first = (
            xp.count_nonzero(each, axis=-1, keepdims=True)
            for each in (xp.isfinite(values), values == -xp.inf)
        )
    count, first = as_widest_real(counts, xp, ops), xp.clip(first, 0, n - 1)
    index = positions.order_statistic(count, *parameters)
    index = xp.minimum(index, xp.maximum(count - 1.0, xp.zeros_like(count)))
    last = first + xp.maximum(counts - 1, xp.zeros_like(counts))
    quantiles = ordered_statistics(rows, order, index, (first, last), xp, ops)
    return xp.where(counts > 0, quantiles, xp.nan)


def _one_for_all(n_valid: Array, xp: Namespace, ops: Ops) -> Array:
    """The number of valid entries, ``(..., 1)``; if it is the same in all rows, once for them."""
    if 0 in n_valid.shape:
        return n_valid
    one = xp.reshape(n_valid, (-1,))[:1]
    if ops.reads_at_once(n_valid) and bool(xp.all(n_valid == one)):
        return xp.reshape(one, (1,) * n_valid.ndim)
    return n_valid


def mean_quantiles(
    x: Array, grouping: Grouping, parameters: tuple[float, float], *, xp: Namespace, ops: Ops
) -> Array:
    """The mean of all rows' quantile functions, ``(n,)``, at the positions of a row's ranks."""
    quantiles = ops.over_blocks(
        partial(_row_quantiles, grouping=grouping, parameters=parameters),
        x,
        (),
        None,
        whole_axes=grouping.whole_axes,
        dtype=ops.widest_real(x, xp),
        xp=xp,
        ops=ops,
    )
    free = tuple(axis for axis in range(x.ndim) if axis not in grouping.pooled)
    if not free:
        return xp.where(xp.isnan(quantiles), 0.0, quantiles)
    return _mean_over(free, quantiles, xp)


def _mean_over(axes: tuple[int, ...], quantiles: Array, xp: Namespace) -> Array:
    """The mean of those that are not NaN, 0 where all are: between the least and the greatest of
    them, also where their sum overflows, or is rounded."""
    absent = xp.isnan(quantiles)
    count = xp.sum(xp.astype(~absent, quantiles.dtype), axis=axes, keepdims=True)
    least = xp.min(xp.where(absent, xp.inf, quantiles), axis=axes, keepdims=True)
    greatest = xp.max(xp.where(absent, -xp.inf, quantiles), axis=axes, keepdims=True)
    are_great = xp.maximum(-least, greatest) > SMALL * float(xp.finfo(quantiles.dtype).max)
    scale = xp.where(are_great, SMALL, xp.ones_like(least))
    total = xp.sum(xp.where(absent, 0.0, quantiles) * scale, axis=axes, keepdims=True)
    mean = total / xp.maximum(count, xp.ones_like(count))
    mean = xp.minimum(xp.maximum(mean, least * scale), greatest * scale) / scale
    return xp.squeeze(xp.where(count > 0, mean, 0.0), axis=axes)


def _sorted_in_widest_real(rows: Array, xp: Namespace, ops: Ops) -> Array:
    """Each row in ascending order, in the widest real dtype."""
    if ops.sortable(rows, xp) is rows:  # as they are: narrow numbers sort faster
        return ops.sort_rows(rows, xp, ops.widest_real(rows, xp))
    return ops.sort_rows(as_widest_real(rows, xp, ops), xp)


def _row_quantiles(
    x: Array,
    reference: None,
    *,
    grouping: Grouping,
    parameters: tuple[float, float],
    xp: Namespace,
    ops: Ops,
) -> Array:
    del reference
    rows = grouping.to_rows(x, xp)
    n = rows.shape[-1]
    if n == 0:
        return as_widest_real(x, xp, ops)
    ascending, n_valid = sorted_valid(rows, None, xp, ops)
    if ops.can_read(n_valid) and bool(xp.all(n_valid == n)):
        return grouping.from_rows(ascending, x.shape, xp)  # they are their own quantiles
    rank = xp.arange(n, dtype=ascending.dtype, device=ops.device(rows))
    positions = RankPositions(2.0 * rank, n, *parameters, xp=xp)
    quantiles = quantiles_of_rows(ascending, n_valid, positions, parameters, xp, ops)
    return grouping.from_rows(quantiles, x.shape, xp)
