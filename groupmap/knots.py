"""Knots of cdfs, a row a group: made of samples, read both ways, pooled and averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

from array_api_compat import device

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import Ops
from groupmap.dtypes import as_widest_real
from groupmap.interpolation import interpolate, interpolator
from groupmap.positions import Probabilities, RankPositions
from groupmap.samples import check_no_infinity, quantiles_of_rows, sorted_valid
from groupmap.weighted import weighted_quantiles

Reading = Callable[[Array], Array]


@final
@dataclass(frozen=True, eq=False)
class Knots:
    """Values v_k at probabilities p_k, both ``(..., k)`` and rising; NaN where none was valid.

    Where knots are all the values of groups of which some miss a few, copies of the last knot
    fill the row; `counts`, ``(..., 1)``, says how many values there were, or what they weighed.
    """

    values: Array
    probabilities: Array
    counts: Array
    keeps_all: bool

    def cdf(self, *, extrapolate: bool, xp: Namespace, ops: Ops) -> Reading:
        """F, from entries ``(..., n)`` to probabilities in the widest real dtype."""
        return self._reading(self.values, self.probabilities, extrapolate, xp, ops)

    def ppf(self, *, extrapolate: bool, xp: Namespace, ops: Ops) -> Reading:
        """Q, from entries ``(..., n)`` to values in the widest real dtype."""
        return self._reading(self.probabilities, self.values, extrapolate, xp, ops)

    def _reading(
        self, knots: Array, heights: Array, extrapolate: bool, xp: Namespace, ops: Ops
    ) -> Reading:
        absent = xp.isnan(self.values[..., :1])
        none_absent = ops.reads_at_once(absent) and not bool(xp.any(absent))
        if not none_absent:
            knots, heights = (xp.where(absent, 0.0, each) for each in (knots, heights))
        last: Array | None = None
        if self.keeps_all:
            last = xp.maximum(self.counts - 1, xp.zeros_like(self.counts))
        at = interpolator(knots, heights, extrapolate=extrapolate, last=last, xp=xp, ops=ops)

        def read(rows: Array) -> Array:
            found = at(as_widest_real(rows, xp, ops))
            return found if none_absent else xp.where(absent, xp.nan, found)

        return read


def knots_of_sample(
    rows: Array,
    missing: Array | None,
    n_quantiles: int | None,
    parameters: tuple[float, float],
    xp: Namespace,
    ops: Ops,
) -> Knots:
    """All values of each row at their positions, or `n_quantiles` of their quantiles."""
    if not ops.programs_read(rows, missing):
        check_no_infinity(rows, missing, xp, ops)
    parts_of_knots = ops.program(
        _parts_of_knots, n_quantiles=n_quantiles, parameters=parameters, xp=xp, ops=ops
    )
    values, probabilities, counts = parts_of_knots(rows, missing)
    return Knots(values, probabilities, counts, keeps_all=n_quantiles is None)


def knots_of_weighted_sample(
    rows: Array,
    weights: Array,
    n_quantiles: int,
    parameters: tuple[float, float],
    xp: Namespace,
    ops: Ops,
) -> Knots:
    """The same quantiles of values that count as often as their weights say, which count too."""
    weights = as_widest_real(weights, xp, ops)
    p = equal_steps(n_quantiles, weights.dtype, device(rows), xp)
    values, total = weighted_quantiles(rows, weights, p, parameters, xp, ops)
    return Knots(values, xp.broadcast_to(p, values.shape), total, keeps_all=False)


def _parts_of_knots(
    rows: Array,
    missing: Array | None,
    *,
    n_quantiles: int | None,
    parameters: tuple[float, float],
    xp: Namespace,
    ops: Ops,
) -> tuple[Array, Array, Array]:
    """Values, probabilities and counts."""
    ascending, counts = sorted_valid(rows, missing, xp, ops)
    on, dtype = device(ascending), ascending.dtype
    if n_quantiles is not None:
        p = equal_steps(n_quantiles, dtype, on, xp)
        values = quantiles_of_rows(ascending, counts, Probabilities(p, xp), parameters, xp, ops)
        return values, xp.broadcast_to(p, values.shape), counts
    rank = xp.arange(ascending.shape[-1], dtype=dtype, device=on)
    n = as_widest_real(counts, xp, ops)
    last = xp.maximum(n - 1.0, xp.zeros_like(n))
    positions = RankPositions(2.0 * xp.minimum(rank, last), n, *parameters, xp=xp)
    values = xp.where(counts > 0, ascending, xp.nan)
    return values, positions.p, counts


def equal_steps(n_quantiles: int, dtype: DType, on: object, xp: Namespace) -> Array:
    """Probabilities from 0 to 1; a single one is the median."""
    if n_quantiles == 1:
        return xp.full((1,), 0.5, dtype=dtype, device=on)
    return xp.linspace(0.0, 1.0, n_quantiles, dtype=dtype, device=on)


def pooled_knots(
    one: Knots,
    other: Knots,
    n_quantiles: int | None,
    parameters: tuple[float, float],
    xp: Namespace,
    ops: Ops,
) -> Knots:
    """The knots of the values of both, which both keep."""
    values = xp.concat([one.values, other.values], axis=-1)
    is_copy = [
        xp.arange(each.values.shape[-1], device=device(values)) >= each.counts
        for each in (one, other)
    ]
    return knots_of_sample(values, xp.concat(is_copy, axis=-1), n_quantiles, parameters, xp, ops)


def averaged_knots(parts: Sequence[Knots], n_quantiles: int, xp: Namespace, ops: Ops) -> Knots:
    """Knots of the mean of cdfs, weighted by their counts."""
    averaged = ops.program(_parts_of_average, n_quantiles=n_quantiles, xp=xp, ops=ops)
    arrays = [(each.values, each.probabilities, each.counts) for each in parts]
    values, probabilities, counts = averaged(arrays)
    return Knots(values, probabilities, counts, keeps_all=False)


def _parts_of_average(
    arrays: Sequence[tuple[Array, Array, Array]], *, n_quantiles: int, xp: Namespace, ops: Ops
) -> tuple[Array, Array, Array]:
    """Values, probabilities and counts."""
    parts = [Knots(*each, keeps_all=False) for each in arrays]
    weights = [as_widest_real(each.counts, xp, ops) for each in parts]
    counts = sum(each.counts for each in parts)
    parts = _without_absent(parts, xp)
    values = ops.sort_rows(xp.concat([each.values for each in parts], axis=-1), xp)
    total = as_widest_real(counts, xp, ops)
    total = xp.where(total > 0.0, total, 1.0)
    # Each knot of any counts twice: where a jump of the mean begins, and where it ends.
    begin, end = (
        sum(
            weight / total * _limit(each, values, on_runs, xp, ops)
            for each, weight in zip(parts, weights, strict=True)
        )
        for on_runs in ("first", "last")
    )
    doubled = xp.reshape(xp.stack([values, values], axis=-1), (*values.shape[:-1], -1))
    p = xp.reshape(xp.stack([begin, end], axis=-1), doubled.shape)
    wanted = equal_steps(n_quantiles, doubled.dtype, device(doubled), xp)
    wanted = xp.broadcast_to(wanted, (*doubled.shape[:-1], n_quantiles))
    thinned = interpolate(wanted, p, doubled, xp=xp, ops=ops)
    return xp.where(counts > 0, thinned, xp.nan), wanted, counts


def mean_of_cdfs(parts: Sequence[Knots], x: Array, xp: Namespace, ops: Ops) -> Array:
    """The mean of the cdfs at x ``(..., n)``, weighted by their counts; NaN where x is NaN."""
    weights = [as_widest_real(each.counts, xp, ops) for each in parts]
    total = sum(weights)
    total = xp.where(total > 0.0, total, 1.0)
    return sum(
        weight / total * each.cdf(extrapolate=False, xp=xp, ops=ops)(x)
        for each, weight in zip(_without_absent(parts, xp), weights, strict=True)
    )


def _without_absent(parts: Sequence[Knots], xp: Namespace) -> list[Knots]:
    """The knots with some finite values in groups without one, where they have no weight."""
    stand_in = 0.0
    for each in parts:
        stand_in = xp.where(each.counts > 0, each.values[..., :1], stand_in)
    return [
        replace(each, values=xp.where(each.counts > 0, each.values, stand_in)) for each in parts
    ]


def _limit(knots: Knots, x: Array, on_runs: str, xp: Namespace, ops: Ops) -> Array:
    """F just below x ("first") or at x ("last"): 0 below all knots and 1 above them."""
    p = interpolate(x, knots.values, knots.probabilities, on_runs=on_runs, xp=xp, ops=ops)
    p = xp.where(x < knots.values[..., :1], 0.0, p)
    return xp.where(x > knots.values[..., -1:], 1.0, p)
