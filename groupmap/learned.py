"""What a transformer learns of its groups: quantiles, and the values of the last rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from array_api_compat import device

from groupmap._typing import Array, Namespace
from groupmap.backends import Ops
from groupmap.dtypes import as_widest_real, default_dtype
from groupmap.knots import (
    Knots,
    averaged_knots,
    knots_of_sample,
    knots_of_weighted_sample,
    pooled_knots,
)


@final
@dataclass(frozen=True, eq=False)
class Learned:
    """The groups' quantiles, and how much was seen.

    `quantiles` is ``(g, k)`` at the probabilities ``(k,)``; `weight` is ``(g, 1)``, how many valid
    values there were or what they weighed. `recent` is ``(g, n)``, the values of the last rows in
    ascending order with copies of the greatest behind them, and `recent_count`, ``(g, 1)``, how
    many there are; `before` is what was learned before those. Each may be None.
    """

    quantiles: Array
    probabilities: Array
    weight: Array
    recent: Array | None = None
    recent_count: Array | None = None
    before: Learned | None = None

    def knots(self, xp: Namespace) -> Knots:
        """The quantiles as knots."""
        p = xp.broadcast_to(self.probabilities, self.quantiles.shape)
        return Knots(self.quantiles, p, self.weight, keeps_all=False)


@final
@dataclass(frozen=True)
class Learning:
    """How to learn of groups of one size: up to how many quantiles, and by which definition.

    So many rows are kept as they are, `size` values of each; `largest` is the size of the largest
    of all groups, which have as many quantiles.
    """

    n_quantiles: int
    n_rows_kept: int
    size: int
    largest: int
    parameters: tuple[float, float]
    xp: Namespace
    ops: Ops

    def of_sample(self, rows: Array, weights: Array | None) -> Learned:
        """What rows ``(g, n)`` teach; weights are of their shape."""
        if weights is not None:
            return self._learned(
                knots_of_weighted_sample(
                    rows, weights, self.n_quantiles, self.parameters, self.xp, self.ops
                )
            )
        if rows.shape[-1] <= self._n_kept:
            everything = knots_of_sample(rows, None, None, self.parameters, self.xp, self.ops)
            return self._of_recent(everything, None)
        knots = knots_of_sample(rows, None, self.n_quantiles, self.parameters, self.xp, self.ops)
        return self._learned(knots)

    def of_both(self, seen: Learned, new: Learned) -> Learned:
        """What the rows seen and new ones teach.

        The values of new rows are kept beside those of the last ones, so that these count as they
        are. Where they become too many, what was seen is from now on known by its quantiles.
        """
        recent, added = self._recent_knots(seen), self._recent_knots(new)
        if recent is not None:
            if added is not None and self._may_keep(recent, added):
                pooled = pooled_knots(recent, added, None, self.parameters, self.xp, self.ops)
                return self._of_recent(pooled, seen.before)
            seen = self._by_quantiles(recent, seen.before)
        if added is None:
            return self._learned(self._averaged(seen.knots(self.xp), new.knots(self.xp)))
        return self._of_recent(added, replace(seen, recent=None, recent_count=None, before=None))

    @property
    def _n_kept(self) -> int:
        return self.n_rows_kept * self.size

    def _may_keep(self, *parts: Knots) -> bool:
        return bool(sum(each.values.shape[-1] for each in parts) <= self._n_kept)

    def _by_quantiles(self, recent: Knots, before: Learned | None) -> Learned:
        """What was seen, by as many quantiles as its greatest group has values, if not by fewer:
        there may have been few rows yet when the smallest group set their number."""
        n_quantiles = self.n_quantiles
        if before is None:
            n_quantiles = min(n_quantiles, recent.values.shape[-1] // self.size * self.largest)
        return replace(self, n_quantiles=n_quantiles)._of_recent(recent, before)

    def _of_recent(self, recent: Knots, before: Learned | None) -> Learned:
        """What these values teach, and what was learned before them."""
        xp, ops = self.xp, self.ops
        if before is None:
            is_copy = self._is_copy(recent.values, recent.counts)
            knots = knots_of_sample(
                recent.values, is_copy, self.n_quantiles, self.parameters, xp, ops
            )
        else:
            knots = self._averaged(before.knots(xp), recent)
        count = as_widest_real(recent.counts, xp, ops)
        learned = self._learned(knots)
        return replace(learned, recent=recent.values, recent_count=count, before=before)

    def _averaged(self, one: Knots, other: Knots) -> Knots:
        parts = [
            replace(each, counts=as_widest_real(each.counts, self.xp, self.ops))
            for each in (one, other)
        ]
        return averaged_knots(parts, self.n_quantiles, self.xp, self.ops)

    def _learned(self, knots: Knots) -> Learned:
        weight = as_widest_real(knots.counts, self.xp, self.ops)
        return Learned(knots.values, knots.probabilities[0, :], weight)

    def _recent_knots(self, learned: Learned) -> Knots | None:
        """The recent values as knots, at their positions."""
        values, count = learned.recent, learned.recent_count
        if values is None or count is None:
            return None
        is_copy = self._is_copy(values, self.xp.astype(count, default_dtype(self.xp, "integral")))
        return knots_of_sample(values, is_copy, None, self.parameters, self.xp, self.ops)

    def _is_copy(self, values: Array, counts: Array) -> Array:
        return self.xp.arange(values.shape[-1], device=device(values)) >= counts
