"""Rows in sorted order and what estimates of the gradient ask of them."""

from __future__ import annotations

from typing import final

from groupmap._typing import Array, Namespace
from groupmap.backends import Ops
from groupmap.dtypes import default_dtype
from groupmap.interpolation import order_statistics
from groupmap.windows import RowWindows, SharedWindows, Windows

UPPER, LOWER = 0.84, 0.16  # of a normal distribution, one standard deviation from the mean


@final
class Centred:
    """Rows scaled to at most 1 and centred, so that no square overflows or vanishes.

    `inside` says which entries count (None: all); the others are 0.
    """

    def __init__(self, x: Array, inside: Array | None, xp: Namespace) -> None:
        self._xp, self._inside = xp, inside
        self.count: Array | float = float(x.shape[-1])
        if inside is not None:
            count = xp.sum(xp.astype(inside, x.dtype), axis=-1, keepdims=True)
            self.count = xp.maximum(count, xp.ones_like(count))
        peak = xp.max(xp.abs(x), axis=-1, keepdims=True)
        self.scale = xp.where(peak > 0.0, peak, 1.0)
        self.scaled = x / self.scale
        self.centred = self.only_inside(self.scaled - self._mean(self.scaled))
        square = xp.sum(self.centred * self.centred, axis=-1, keepdims=True)
        self._square = xp.where(square > 0.0, square, 1.0)

    def _mean(self, values: Array) -> Array:
        return self._xp.sum(values, axis=-1, keepdims=True) / self.count

    def only_inside(self, values: Array) -> Array:
        """The values, 0 in place of entries that do not count."""
        return values if self._inside is None else self._xp.where(self._inside, values, 0.0)

    def component(self, values: Array) -> Array:
        """The slope of the regression of the values on the scaled rows."""
        return self._xp.sum(self.centred * values, axis=-1, keepdims=True) / self._square

    def residual(self, values: Array) -> Array:
        """The values less their projection on span{1, x}."""
        values = self.only_inside(values)
        values = self.only_inside(values - self._mean(values))
        return values - self.component(values) * self.centred

    def mean_deviation(self) -> Array:
        """The mean distance from the mean, of the scaled rows."""
        return self._mean(self._xp.abs(self.centred))


@final
class SortedRows:
    """Rows ``(..., n)`` in ascending order, what is excluded behind them.

    Everything is in the units of the rows scaled by `scale`, their greatest absolute value.
    """

    def __init__(
        self,
        x: Array,
        order: Array | None,
        excluded: Array | None,
        window: int | None,
        xp: Namespace,
        ops: Ops,
    ) -> None:
        self._xp, self._ops = xp, ops
        n = x.shape[-1]
        keys = x if excluded is None else xp.where(excluded, xp.inf, x)
        if order is None:
            order = ops.stable_argsort(keys, xp)
        self._order = xp.astype(order, default_dtype(xp, "integral"), copy=False)
        ascending = self.sort(keys)
        self._runs = ops.runs(ascending, xp)
        inside = None
        self.windows: Windows
        if excluded is None:
            self.windows = SharedWindows(n, window, x.dtype, ops.device(x), xp, ops)
        else:
            n_valid = xp.count_nonzero(~excluded, axis=-1, keepdims=True)
            inside = xp.arange(n, device=ops.device(x)) < n_valid
            self.windows = RowWindows(n_valid, n, window, x.dtype, ops.device(x), xp, ops)
            ascending = xp.where(inside, ascending, 0.0)
        changes = ascending[..., 1:] != ascending[..., :-1]
        self._changes = changes if inside is None else changes & inside[..., 1:]
        self._centred = Centred(ascending, inside, xp)
        self.values, self.scale = self._centred.scaled, self._centred.scale
        self.count = self._centred.count
        self.only_inside = self._centred.only_inside
        self.without_affine_part = self._centred.residual

    def sort(self, values: Array) -> Array:
        """Values that stand as the rows did, into the rows' ascending order."""
        return self._xp.take_along_axis(values, self._order, axis=-1)

    def unsort(self, values: Array) -> Array:
        """Back from ascending order to where the rows' entries stood."""
        return self._ops.unsort(values, self._order, self._xp)

    def has_three_distinct(self) -> Array:
        """Whether a row has at least three distinct values, ``(..., 1)``."""
        return self._xp.count_nonzero(self._changes, axis=-1, keepdims=True) >= 2

    def spread(self) -> Array:
        """Half the width of the middle 68 %, or a quarter of the mean deviation if that is more."""
        xp, ops = self._xp, self._ops
        last = xp.zeros_like(self.values[..., :1]) + (self.count - 1.0)
        upper = order_statistics(self.values, UPPER * last, xp, ops)
        lower = order_statistics(self.values, LOWER * last, xp, ops)
        return xp.maximum((upper - lower) / 2.0, 0.25 * self._centred.mean_deviation())

    def average_ties(self, values: Array) -> Array:
        """B: each value replaced by the mean over its run of tied entries."""
        if self._runs is None:
            return values
        xp, (begin, end) = self._xp, self._runs
        sums = self._ops.prefix_sums(values, xp)
        total = xp.take_along_axis(sums, end, axis=-1) - xp.take_along_axis(sums, begin, axis=-1)
        length = end - begin
        return xp.where(length > 1, total / xp.astype(length, values.dtype), values)
