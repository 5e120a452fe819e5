"""Quantiles of samples whose values count more than once, or less."""

from __future__ import annotations

import numpy as np

from groupmap._typing import Array, Namespace
from groupmap.backends import Ops
from groupmap.dtypes import as_widest_real, check_real
from groupmap.grouping import broadcast_beside
from groupmap.interpolation import between
from groupmap.positions import Probabilities

LEAST_TOTAL = 2.0 - 1e-6  # of several weights: two, but for the rounding of many, in float32


def weights_of_entries(sample_weight: Array, x: Array, xp: Namespace, ops: Ops) -> Array:
    """The weights of x's entries, of its shape and of the widest real dtype."""
    if isinstance(sample_weight, np.ma.MaskedArray):
        raise TypeError(
            "sample_weight is a masked array; pass sample_weight.filled(0), as what is masked does "
            "not count."
        )
    if xp.isdtype(sample_weight.dtype, "bool"):
        sample_weight = xp.astype(sample_weight, xp.float32)
    check_real(sample_weight, "sample_weight", xp)
    weights = ops.detach(as_widest_real(sample_weight, xp, ops))
    if ops.can_read(weights) and not bool(xp.all(xp.isfinite(weights) & (weights >= 0.0))):
        raise ValueError(
            "sample_weight holds weights that are negative or not finite; give weights ≥ 0, and 0 "
            "to what shall not count."
        )
    return broadcast_beside(weights, "sample_weight", x, "x", xp)


def weighted_quantiles(
    rows: Array,
    weights: Array,
    p: Array,
    parameters: tuple[float, float],
    xp: Namespace,
    ops: Ops,
) -> tuple[Array, Array]:
    """The quantiles at p of each row ``(..., n)`` with weights, and the sum of these.

    A weight says how often its value counts: whole weights give what repeated values give. With W
    for their sum, the quantile lies at the index p·(W + 1 − a − b) + a − 1 among the repeated
    values, as by `scipy.stats.quantile`. Where weights are not whole, that can fall as p rises;
    the quantiles are then put in ascending order. NaN, and what weighs nothing, is left out; NaN
    for rows that hold nothing else. Of less than two there is no distribution.
    """
    values = as_widest_real(rows, xp, ops)
    absent = xp.isnan(values) | (weights == 0)
    values = xp.where(absent, xp.inf, values)
    order = ops.stable_argsort(values, xp)
    up_to = _sums_in_order(xp.where(absent, 0.0, weights), order, xp, ops)
    total = up_to[..., -1:]
    n_valid = xp.count_nonzero(~absent, axis=-1, keepdims=True)
    if ops.can_read(total):
        _check_enough(total, n_valid, xp)
    last = xp.maximum(n_valid - 1, xp.zeros_like(n_valid))

    index = Probabilities(p, xp).order_statistic(total, *parameters)
    whole = xp.floor(index)
    after = whole + 1.0 + (index - whole)
    after = xp.where(after < whole + 2.0, after, whole + 1.0)  # where it was rounded up

    def value_at(sums: Array) -> Array:
        rank = xp.minimum(ops.search_rows(up_to, sums, "right", xp), last)
        which = xp.take_along_axis(order, rank, axis=-1)
        return xp.where(n_valid > 0, xp.take_along_axis(values, which, axis=-1), 0.0)

    quantiles = between(value_at(index), value_at(after), index - whole, xp)
    return xp.where(n_valid > 0, ops.sort_rows(quantiles, xp), xp.nan), total


def _sums_in_order(values: Array, order: Array, xp: Namespace, ops: Ops) -> Array:
    """The sums of the first 1, 2, … entries of each row, taken in that order."""
    native = ops.sums_in_order(values, order)
    if native is not None:
        return native
    return ops.prefix_sums(xp.take_along_axis(values, order, axis=-1), xp)[..., 1:]


def _check_enough(total: Array, n_valid: Array, xp: Namespace) -> None:
    """Refuse rows of several values that stand for less than two."""
    are_few = (n_valid > 1) & (total < LEAST_TOTAL)
    if bool(xp.any(are_few)):
        least = float(xp.min(xp.where(are_few, total, LEAST_TOTAL)))
        raise ValueError(
            f"sample_weight sums to {least:g} over the values of a group that are not missing: "
            "weights say how often each row counts, and of less than two values there is no "
            "distribution. Multiply all weights, or fill what is missing."
        )
