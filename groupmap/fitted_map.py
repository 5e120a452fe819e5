"""y = Q(F(x)) with fitted F, for tables whose features are columns; and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

from groupmap._typing import Array, Namespace
from groupmap.backends import Ops
from groupmap.dtypes import default_dtype, result_dtype
from groupmap.interpolation import continued
from groupmap.knots import Knots
from groupmap.tables import probabilities_of_values, quantiles_of_probabilities
from groupmap.targets import Target

KNOTS_AT_ONCE = 2**15  # what is made of them, some 64 bytes each, stays near
FEWEST_FEATURES = 16  # columns that lie in few lines of the cache


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
        return self._of_features(FittedMap._mapped, table)

    def back(self, table: Array) -> Array:
        """The inverse; it asks the target for its cdf."""
        return self._of_features(FittedMap._unmapped, table)

    def _mapped(self) -> Callable[[Array], Array]:
        xp, ops = self.xp, self.ops
        cdf = self._knots().cdf(extrapolate=False, xp=xp, ops=ops)

        def mapped(x: Array) -> Array:
            p = cdf(x)
            return quantiles_of_probabilities(self.target, p, p.dtype, xp=xp, ops=ops)

        if self.tails == "clip":
            return mapped
        return self._continued(mapped, self.quantiles, self.heights())

    def _unmapped(self) -> Callable[[Array], Array]:
        xp, ops = self.xp, self.ops
        ppf = self._knots().ppf(extrapolate=False, xp=xp, ops=ops)

        def unmapped(y: Array) -> Array:
            return ppf(probabilities_of_values(self.target, y, xp=xp, ops=ops))

        if self.tails == "clip":
            return unmapped
        return self._continued(unmapped, self.heights(), self.quantiles)

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

    def _of_features(
        self, function_of: Callable[[FittedMap], Callable[[Array], Array]], table: Array
    ) -> Array:
        """The function of the features as rows; of some features and samples at a time, where that
        is the same.

        A user's target may not be asked in parts.
        """
        xp = self.xp
        dtype = result_dtype(table, xp)

        def on_samples_of(features: slice) -> Callable[[Array], Array]:
            function = function_of(replace(self, quantiles=self.quantiles[features, ...]))

            def on_samples(samples: Array) -> Array:
                y = function(xp.permute_dims(samples, (1, 0)))
                return xp.permute_dims(xp.astype(y, dtype, copy=False), (1, 0))

            return on_samples

        if not self.target.is_elementwise:
            return on_samples_of(slice(None))(table)
        at_once = max(FEWEST_FEATURES, KNOTS_AT_ONCE // self.quantiles.shape[1])
        return self.ops.by_features(
            on_samples_of, table, at_once, dtype, learns=self.target.learns(self.ops)
        )

    def _continued(
        self, function: Callable[[Array], Array], knots: Array, heights: Array
    ) -> Callable[[Array], Array]:
        """The function, and outside of the knots the outermost segments of (knots, heights)."""
        xp, ops = self.xp, self.ops
        absent = xp.isnan(self.quantiles[:, :1])
        # What is NaN may take the other features with it.
        knots, heights = (xp.where(absent, 0.0, each) for each in (knots, heights))
        with_tails = continued(function, knots, heights, None, xp, ops)

        def at(x: Array) -> Array:
            return xp.where(absent, xp.nan, with_tails(x))

        return at
