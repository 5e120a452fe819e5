"""Rows added up in ascending order: the sums that the mean of their quantile functions takes.

A row that misses entries has as many quantiles as the others, between those that it has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from groupmap.backends._bits import Bits, Code
from groupmap.backends._ops import LineOfRanks
from groupmap.backends.kernels.compiled import kernel, part
from groupmap.backends.kernels.keys import bits_of
from groupmap.backends.kernels.knots import between


class Sums(NamedTuple):
    """The sums at each of n ranks, and what some rows add there: their order statistics at
    ``rank * ratio + offset``, of so many entries."""

    values: np.ndarray[Any, Any]  # (n,)
    counts: Bits  # (r,)
    ratios: np.ndarray[Any, Any]
    offsets: np.ndarray[Any, Any]

    @classmethod
    def none(cls) -> Sums:
        """Where nothing is added up."""
        nothing = np.empty(0)
        return cls(nothing, np.empty(0, dtype=np.int64), nothing, nothing)

    @classmethod
    def of_rows(cls, values: np.ndarray[Any, Any], counts: Bits, line: LineOfRanks) -> Sums:
        """Of rows that have so many entries each."""
        return cls(values, counts, *line(len(values), counts))

    @property
    def are_whole(self) -> bool:
        """Whether none of the rows misses an entry."""
        return bool(np.all(self.counts == self.values.size))

    def since(self, r: int) -> Sums:
        """The same for the rows from that one on."""
        return Sums(self.values, self.counts[r:], self.ratios[r:], self.offsets[r:])


@kernel
def add_keys(keys: Bits, code: Code, floats: np.ndarray[Any, Any], r: int, sums: Sums) -> None:
    """Add a row in ascending order, of which there are the keys, whose memory the floats share."""
    for i in range(keys.size):
        keys[i] = bits_of(keys[i], code)
    if sums.counts[r] == floats.size:
        for i in range(floats.size):
            sums.values[i] += floats[i]
    else:
        add_quantiles(floats, r, sums)


@part
def add_quantiles(floats: np.ndarray[Any, Any], r: int, sums: Sums) -> None:
    """Add the quantiles of the first entries of an ascending row; of none there are none."""
    last, ratio, offset = sums.counts[r] - 1, sums.ratios[r], sums.offsets[r]
    if last < 0:
        return
    for i in range(sums.values.size):
        at = min(max(i * ratio + offset, 0.0), np.float64(last))
        below = np.uint64(at)
        low, high = floats[below], floats[min(below + np.uint64(1), np.uint64(last))]
        sums.values[i] += between(np.float64(low), np.float64(high), at - np.float64(below))


@kernel
def add_quantiles_in_order(rows: np.ndarray[Any, Any], order: Bits, sums: Sums) -> None:
    """Add rows, some of which miss entries, sorted."""
    ascending = np.empty(rows.shape[1], dtype=rows.dtype)
    for r in range(rows.shape[0]):
        row, own_order = rows[r], order[r]
        for i in range(ascending.size):
            ascending[i] = row[own_order[i]]
        add_quantiles(ascending, r, sums)


@kernel
def add_in_order(rows: np.ndarray[Any, Any], order: Bits, sums: np.ndarray[Any, Any]) -> None:
    """Add each row, sorted; one after the other, but several while a sum is at hand."""
    n_rows = rows.shape[0]
    in_fours = n_rows - n_rows % 4
    for r in range(0, in_fours, 4):
        first, second, third, fourth = rows[r], rows[r + 1], rows[r + 2], rows[r + 3]
        order_1, order_2, order_3, order_4 = order[r], order[r + 1], order[r + 2], order[r + 3]
        for i in range(sums.size):
            so_far = sums[i] + first[order_1[i]] + second[order_2[i]]
            sums[i] = so_far + third[order_3[i]] + fourth[order_4[i]]
    for r in range(in_fours, n_rows):
        row, own_order = rows[r], order[r]
        for i in range(sums.size):
            sums[i] += row[own_order[i]]
