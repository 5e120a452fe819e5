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
from groupmap.backends.kernels.knot_buckets import CHUNK
from groupmap.backends.kernels.knots import at_some_indices


class Sums(NamedTuple):
    """The sums at each of n ranks, and what some rows add there: their order statistics at
    ``rank * ratio + offset``, of so many entries."""

    values: np.ndarray[Any, Any]  # (n,)
    counts: Bits  # (r,)
    ratios: np.ndarray[Any, Any]
    offsets: np.ndarray[Any, Any]
    are_whole: bool  # no row misses an entry

    @classmethod
    def none(cls) -> Sums:
        """Where nothing is added up."""
        nothing = np.empty(0)
        return cls(nothing, np.empty(0, dtype=np.int64), nothing, nothing, True)

    @classmethod
    def of_rows(cls, values: np.ndarray[Any, Any], counts: Bits, line: LineOfRanks) -> Sums:
        """Of rows that have so many entries each."""
        n = len(values)
        if np.all(counts == n):
            return cls(values, counts, np.ones(len(counts)), np.zeros(len(counts)), True)
        return cls(values, counts, *line(n, counts), False)

    def of_some(self, rows: slice, values: np.ndarray[Any, Any]) -> Sums:
        """Other sums, of some of the rows."""
        return Sums(
            values, self.counts[rows], self.ratios[rows], self.offsets[rows], self.are_whole
        )

    def since(self, r: int) -> Sums:
        """The same for the rows from that one on."""
        return self.of_some(slice(r, None), self.values)


@kernel
def add_keys(keys: Bits, code: Code, floats: np.ndarray[Any, Any], r: int, sums: Sums) -> None:
    """Add a row in ascending order, of which there are the keys, whose memory the floats share."""
    for i in range(keys.size):
        keys[i] = bits_of(keys[i], code)
    values = sums.values
    if sums.counts[r] == values.size:
        for i in range(values.size):
            values[i] += floats[i]
    else:
        add_quantiles(floats, r, sums)


@part
def add_quantiles(floats: np.ndarray[Any, Any], r: int, sums: Sums) -> None:
    """Add the quantiles of the first entries of an ascending row; of none there are none."""
    values, count = sums.values, sums.counts[r]
    if count == 0:
        return
    ratio, offset = sums.ratios[r], sums.offsets[r]
    at, fractions, own = np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK)
    places = np.empty(CHUNK, dtype=np.int32)
    for begin in range(0, values.size, CHUNK):
        some = values[begin : begin + CHUNK]
        for i in range(some.size):
            at[i] = np.float64(begin + i) * ratio + offset
        at_some_indices(floats[:count], at[: some.size], places, fractions, own)
        for i in range(some.size):
            some[i] += own[i]


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
