"""Windows of ranks on sorted rows, by prefix sums: what lies w ranks away, means, their adjoint."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import Ops


class Windows(ABC):
    """The windows of w ranks to either side of each of n sorted entries."""

    width: Array
    """How many ranks apart the ends of each window are, min(i + w, n − 1) − max(i − w, 0)."""

    @abstractmethod
    def ends(self, values: Array) -> tuple[Array, Array]:
        """The values at the lower and at the upper end of each window."""

    @abstractmethod
    def mean(self, values: Array) -> Array:
        """S: the mean over ranks i − k … i + k, k = min(w, i, n − 1 − i)."""

    @abstractmethod
    def mean_adjoint(self, values: Array) -> Array:
        """Sᵀ: what each entry gives to the means that it takes part in."""


def default_window(n: int) -> int:
    """The w that balances noise against resolution: √n, rounded, at least 1."""
    return max(1, round(math.sqrt(n)))


@final
class SharedWindows(Windows):
    """Of rows that are all complete: the same slices in every row."""

    def __init__(
        self, n: int, w: int | None, dtype: DType, on: object, xp: Namespace, ops: Ops
    ) -> None:
        self._xp, self._ops, self._n = xp, ops, n
        self._w = min(default_window(n) if w is None else w, n - 1)
        self._reach = min(self._w, (n - 1) // 2)
        rank = xp.arange(n, dtype=dtype, device=on)
        from_end = (n - 1.0) - rank
        reach = xp.full_like(rank, float(self._reach))
        self._size = 2.0 * xp.minimum(reach, xp.minimum(rank, from_end)) + 1.0
        w_or_less = xp.full_like(rank, float(self._w))
        self.width = xp.minimum(w_or_less, rank) + xp.minimum(w_or_less, from_end)

    def ends(self, values: Array) -> tuple[Array, Array]:
        xp, n, w = self._xp, self._n, self._w
        lowest, greatest = values[..., :1], values[..., n - 1 :]
        at_edge = (*values.shape[:-1], w)
        lower = xp.concat([xp.broadcast_to(lowest, at_edge), values[..., : n - w]], axis=-1)
        upper = xp.concat([values[..., w:], xp.broadcast_to(greatest, at_edge)], axis=-1)
        return lower, upper

    def mean(self, values: Array) -> Array:
        xp, n, k = self._xp, self._n, self._reach
        sums = self._ops.prefix_sums(values, xp)
        from_start = sums[..., 1 : 2 * k : 2]
        around = sums[..., 2 * k + 1 :] - sums[..., : n - 2 * k]
        to_end = sums[..., n:] - sums[..., n + 1 - 2 * k : n : 2]
        return xp.concat([from_start, around, to_end], axis=-1) / self._size

    def mean_adjoint(self, values: Array) -> Array:
        # Rank j takes part in the means of ranks max(j − w, ⌈j/2⌉) … min(j + w, ⌊(n − 1 + j)/2⌋).
        xp, n, k = self._xp, self._n, self._reach
        sums = self._ops.prefix_sums(values / self._size, xp)
        before = [self._interleaved(sums[..., :k], sums[..., 1 : k + 1]), sums[..., k : n - k]]
        through = [
            sums[..., k + 1 : n - k + 1],
            self._interleaved(sums[..., n - k : n], sums[..., n - k + 1 :]),
        ]
        return xp.concat(through, axis=-1) - xp.concat(before, axis=-1)

    def _interleaved(self, even: Array, odd: Array) -> Array:
        pairs = self._xp.stack([even, odd], axis=-1)
        return self._xp.reshape(pairs, (*even.shape[:-1], 2 * even.shape[-1]))


@final
class RowWindows(Windows):
    """Of rows of which only the first n, ``(..., 1)``, count: indices of each row's own."""

    def __init__(
        self,
        n: Array,
        length: int,
        w: int | None,
        dtype: DType,
        on: object,
        xp: Namespace,
        ops: Ops,
    ) -> None:
        self._xp, self._ops = xp, ops
        integer = n.dtype
        rank = xp.arange(length, dtype=integer, device=on)
        last = xp.maximum(n - 1, xp.zeros_like(n))
        rank = xp.minimum(rank, last)  # entries that do not count look at the last that does
        if w is None:
            root = xp.astype(xp.round(xp.sqrt(xp.astype(n, dtype))), integer)
            window = xp.maximum(root, xp.ones_like(n))
        else:
            window = xp.full_like(n, w)
        self._lower = xp.maximum(rank - window, xp.zeros_like(rank))
        self._upper = xp.minimum(rank + window, last)
        self.width = xp.astype(self._upper - self._lower, dtype)
        reach = xp.minimum(window, xp.minimum(rank, last - rank))
        self._first, self._behind = rank - reach, rank + reach + 1
        self._size = xp.astype(self._behind - self._first, dtype)
        self._first_mean = xp.maximum(rank - window, (rank + 1) // 2)
        self._behind_means = xp.minimum(rank + window, (last + rank) // 2) + 1

    def _differences(self, values: Array, first: Array, behind: Array) -> Array:
        xp = self._xp
        sums = self._ops.prefix_sums(values, xp)
        return xp.take_along_axis(sums, behind, axis=-1) - xp.take_along_axis(sums, first, axis=-1)

    def ends(self, values: Array) -> tuple[Array, Array]:
        xp = self._xp
        return (
            xp.take_along_axis(values, self._lower, axis=-1),
            xp.take_along_axis(values, self._upper, axis=-1),
        )

    def mean(self, values: Array) -> Array:
        return self._differences(values, self._first, self._behind) / self._size

    def mean_adjoint(self, values: Array) -> Array:
        return self._differences(values / self._size, self._first_mean, self._behind_means)
