"""y = Q(F(x)) with fitted F, for tables whose features are columns; and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from groupmap._typing import Array, Namespace
from groupmap.backends import Ops
from groupmap.dtypes import as_widest_real, default_dtype, result_dtype
from groupmap.interpolation import interpolate
from groupmap.knots import Knots
from groupmap.tables import probabilities_of_values, quantiles_of_probabilities
from groupmap.targets import Target


@final
@dataclass(frozen=True, eq=False)
class FittedMap:
    """The map of each feature: its quantiles ``(features, k)`` at the probabilities ``(k,)``."""

    quantiles: Array
    probabilities: Array
    target: Target
    tails: str
    xp: Namespace
    ops: Ops

    def forward(self, table: Array) -> Array:
        """Q(F(x)) of the table ``(samples, features)``."""
        xp, ops = self.xp, self.ops
        cdf = self._knots().cdf(extrapolate=False, xp=xp, ops=ops)

        def mapped(x: Array) -> Array:
            p = cdf(x)
            return quantiles_of_probabilities(self.target, p, p.dtype, xp=xp, ops=ops)

        return self._by_features(mapped, self.quantiles, self.heights(), table)

    def back(self, table: Array) -> Array:
        """The inverse; it asks the target for its cdf."""
        xp, ops = self.xp, self.ops
        ppf = self._knots().ppf(extrapolate=False, xp=xp, ops=ops)

        def unmapped(y: Array) -> Array:
            return ppf(probabilities_of_values(self.target, y, xp=xp, ops=ops))

        return self._by_features(unmapped, self.heights(), self.quantiles, table)

    def heights(self) -> Array:
        """What the quantiles map to, ``(features, k)``."""
        mapped = quantiles_of_probabilities(
            self.target, self.probabilities, self.quantiles.dtype, xp=self.xp, ops=self.ops
        )
        return self.xp.broadcast_to(mapped, self.quantiles.shape)

    def _knots(self) -> Knots:
        xp = self.xp
        p = xp.broadcast_to(self.probabilities, self.quantiles.shape)
        is_there = ~xp.isnan(self.quantiles[:, :1])
        counts = xp.astype(is_there, default_dtype(xp, "integral"))  # none, or enough
        return Knots(self.quantiles, p, counts, keeps_all=False)

    def _by_features(
        self, function: Callable[[Array], Array], knots: Array, heights: Array, table: Array
    ) -> Array:
        """The function of the features as rows; outside of the knots, what `tails` says."""
        xp, ops = self.xp, self.ops
        dtype = result_dtype(table, xp)

        def on_samples(samples: Array) -> Array:
            x = xp.permute_dims(samples, (1, 0))
            y = function(x)
            if self.tails == "linear":
                y = with_linear_tails(as_widest_real(x, xp, ops), y, knots, heights, xp, ops)
            return xp.permute_dims(xp.astype(y, dtype, copy=False), (1, 0))

        return ops.in_blocks(on_samples, table, dtype)


def with_linear_tails(
    x: Array, y: Array, knots: Array, heights: Array, xp: Namespace, ops: Ops
) -> Array:
    """Y, and outside of the knots the outermost segments of (knots, heights), continued."""
    k = knots.shape[-1]
    for end, is_outside in (
        (slice(0, 2), x < knots[..., :1]),
        (slice(k - 2, k), x > knots[..., -1:]),
    ):
        if k >= 2:  # a segment
            line = interpolate(
                x, knots[..., end], heights[..., end], extrapolate=True, xp=xp, ops=ops
            )
            y = xp.where(is_outside, line, y)
    return y
