"""What a transformer learns of its groups: quantiles, and all values while these are few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from array_api_compat import device

from groupmap._typing import Array, Namespace
from groupmap.backends import Ops
from groupmap.dtypes import as_widest_real, default_dtype
from groupmap.knots import Knots, averaged_knots, equal_steps, knots_of_sample, pooled_knots
from groupmap.weighted import weighted_quantiles


@final
@dataclass(frozen=True, eq=False)
class Learned:
    """The groups' quantiles, and how much was seen.

    `quantiles` is ``(g, k)`` at the probabilities ``(k,)``; `weight` is ``(g, 1)``, how many valid
    values there were or what they weighed. `everything` is ``(g, n)``, all values seen in
    ascending order with copies of the greatest behind them, or None once they are too many.
    """

    quantiles: Array
    probabilities: Array
    weight: Array
    everything: Array | None

    def knots(self, xp: Namespace) -> Knots:
        """The quantiles as knots."""
        p = xp.broadcast_to(self.probabilities, self.quantiles.shape)
        return Knots(self.quantiles, p, self.weight, keeps_all=False)


@final
@dataclass(frozen=True)
class Learning:
    """How to learn: up to how many quantiles, by which definition."""

    n_quantiles: int
    parameters: tuple[float, float]
    xp: Namespace
    ops: Ops

    def of_sample(
        self, rows: Array, missing: Array | None, weights: Array | None, *, keep_all: bool
    ) -> Learned:
        """What rows ``(g, n)`` teach; weights are of their shape."""
        if weights is not None:
            return self._of_weighted_sample(rows, missing, weights)
        if keep_all:
            everything = knots_of_sample(rows, missing, None, self.parameters, self.xp, self.ops)
            return self._of_everything(everything)
        knots = knots_of_sample(rows, missing, self.n_quantiles, self.parameters, self.xp, self.ops)
        return self._learned(knots, None)

    def of_both(self, one: Learned, other: Learned, *, keep_all: bool) -> Learned:
        """What the rows of both teach: exactly if all their values are kept, else by merging."""
        xp, ops = self.xp, self.ops
        all_of_one, all_of_other = self._everything(one), self._everything(other)
        if keep_all and all_of_one is not None and all_of_other is not None:
            pooled = pooled_knots(all_of_one, all_of_other, None, self.parameters, xp, ops)
            return self._of_everything(pooled)
        averaged = averaged_knots(
            all_of_one or one.knots(xp), all_of_other or other.knots(xp), self.n_quantiles, xp, ops
        )
        return self._learned(averaged, None)

    def _of_weighted_sample(self, rows: Array, missing: Array | None, weights: Array) -> Learned:
        xp = self.xp
        if missing is not None:
            weights = xp.where(missing, 0.0, weights)
        weights = as_widest_real(weights, xp, self.ops)
        p = equal_steps(self.n_quantiles, weights.dtype, device(rows), xp)
        quantiles, total = weighted_quantiles(rows, weights, p, self.parameters, xp, self.ops)
        return Learned(quantiles, p, total, None)

    def _of_everything(self, everything: Knots) -> Learned:
        knots = knots_of_sample(
            everything.values, self._is_copy(everything.values, everything.counts),
            self.n_quantiles, self.parameters, self.xp, self.ops,
        )  # fmt: skip
        return self._learned(knots, everything.values)

    def _learned(self, knots: Knots, everything: Array | None) -> Learned:
        weight = as_widest_real(knots.counts, self.xp, self.ops)
        return Learned(knots.values, knots.probabilities[0, :], weight, everything)

    def _everything(self, learned: Learned) -> Knots | None:
        """All values as knots, at their positions."""
        values = learned.everything
        if values is None:
            return None
        counts = self.xp.astype(learned.weight, default_dtype(self.xp, "integral"))
        is_copy = self._is_copy(values, counts)
        return knots_of_sample(values, is_copy, None, self.parameters, self.xp, self.ops)

    def _is_copy(self, values: Array, counts: Array) -> Array:
        return self.xp.arange(values.shape[-1], device=device(values)) >= counts
