"""Piecewise linear interpolation between the knots of fitted cdfs.

A table of buckets of equal width stands in front of the bisection: a bucket says between which
knots its values lie, so that few steps or none are left. Equal knots are looked at once, when the
table is made, and not with each value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from groupmap.backends.kernels.threads import over_rows

Rows = np.ndarray[Any, Any]
ENTRIES_PER_BLOCK = 2**16
BUCKETS_PER_KNOT = 8  # so that most buckets hold no knot or one
MIDDLE, FIRST, LAST = 0, 1, 2
ON_RUNS = {"middle": MIDDLE, "first": FIRST, "last": LAST}


class Interpolator:
    """As `groupmap.interpolation.interpolator` says, without extrapolation; made once, used often.

    Knots and values are ``(g, k)``.
    """

    def __init__(self, knots: Rows, values: Rows, on_runs: str) -> None:
        n_groups, k = knots.shape
        self._knots, self._values = np.ascontiguousarray(knots), np.ascontiguousarray(values)
        self._on_runs = ON_RUNS[on_runs]
        self._starts = np.empty((n_groups, BUCKETS_PER_KNOT * k + 2), dtype=np.int32)
        self._run_ends = np.empty((n_groups, k), dtype=np.int32)
        self._scales = np.empty((n_groups, 2))
        make_tables(self._knots, self._starts, self._run_ends, self._scales)

    def __call__(self, x: Rows, *, threads: int) -> Rows:
        """The interpolant at x ``(g, n)`` of any strides, which the result shares."""
        y = np.empty_like(x)

        def work(_: None, begin: int, end: int) -> None:
            interpolate_columns(
                x[:, begin:end], self._knots, self._values, self._starts, self._run_ends,
                self._scales, self._on_runs, y[:, begin:end],
            )  # fmt: skip

        over_rows(
            work, lambda _: None, x.shape[1], x.shape[0],
            entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
        )  # fmt: skip
        return y


@njit(nogil=True, cache=True)
def bucket_of(x: float, least: float, per_unit: float, n_buckets: int) -> int:
    """The bucket of a value that is not NaN; rises with x."""
    position = (x - least) * per_unit
    if position >= n_buckets:
        return n_buckets
    return int(position) if position > 0.0 else 0


@njit(nogil=True, cache=True)
def make_tables(knots: Rows, starts: Rows, run_ends: Rows, scales: Rows) -> None:
    """Where the knots of each bucket begin, and where the run of equals of each knot ends."""
    n_groups, k = knots.shape
    n_buckets = starts.shape[1] - 2
    for g in range(n_groups):
        least = np.float64(knots[g, 0])  # as wide as what is read back
        width = np.float64(knots[g, k - 1]) - least
        per_unit = n_buckets / width if width > 0.0 else 0.0
        if not np.isfinite(per_unit):
            per_unit = 0.0  # all in one bucket: plain bisection
        scales[g, 0], scales[g, 1] = least, per_unit
        bucket = 0
        for i in range(k):
            while bucket <= bucket_of(knots[g, i], least, per_unit, n_buckets):
                starts[g, bucket] = i
                bucket += 1
        while bucket < n_buckets + 2:
            starts[g, bucket] = k
            bucket += 1
        run_ends[g, k - 1] = k
        for i in range(k - 2, -1, -1):
            run_ends[g, i] = run_ends[g, i + 1] if knots[g, i] == knots[g, i + 1] else i + 1


@njit(nogil=True, cache=True)
def interpolate_columns(
    x: Rows,
    knots: Rows,
    values: Rows,
    starts: Rows,
    run_ends: Rows,
    scales: Rows,
    on_runs: int,
    y: Rows,
) -> None:
    """The interpolant at ``(g, n)`` values."""
    n_groups, k = knots.shape
    n_buckets = starts.shape[1] - 2
    for g in range(n_groups):
        least, per_unit = scales[g]
        own_knots, own_values = knots[g], values[g]
        for i in range(x.shape[1]):
            at = x[g, i]
            if np.isnan(at):
                y[g, i] = np.nan
                continue
            bucket = bucket_of(at, least, per_unit, n_buckets)
            first, end = starts[g, bucket], starts[g, bucket + 1]
            while first < end:  # to the first knot that is not below x
                middle = (first + end) >> 1
                if own_knots[middle] < at:
                    first = middle + 1
                else:
                    end = middle
            if first == k:
                y[g, i] = own_values[k - 1]
            elif own_knots[first] == at:
                last = run_ends[g, first] - 1
                if on_runs == FIRST:
                    last = first
                elif on_runs == LAST:
                    first = last
                y[g, i] = between(own_values[first], own_values[last], 0.5)
            elif first == 0:
                y[g, i] = own_values[0]
            else:
                low, high = own_knots[first - 1], own_knots[first]
                fraction = (at / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0)
                y[g, i] = between(own_values[first - 1], own_values[first], fraction)


@njit(nogil=True, cache=True)
def at_indices(ascending: Rows, index: Rows, result: Rows) -> None:
    """The values at real, zero-based indices of a sorted row, which the ends clip."""
    last = ascending.size - 1
    for i in range(index.size):
        at = min(index[i], float(last)) if index[i] > 0.0 else 0.0
        whole = np.floor(at)
        below = int(whole)
        high = ascending[min(below + 1, last)]
        result[i] = between(ascending[below], high, at - whole)


@njit(nogil=True, cache=True)
def with_middles(ascending: Rows, table: Rows) -> None:
    """The values of a sorted row, and between each two the middle."""
    last = ascending.size - 1
    for i in range(last):
        table[2 * i] = ascending[i]
        table[2 * i + 1] = between(ascending[i], ascending[i + 1], 0.5)
    table[2 * last] = ascending[last]


@njit(inline="always")
def between(low: float, high: float, fraction: float) -> float:
    """low + fraction·(high − low), and never above `high`."""
    step = (high / 2.0 - low / 2.0) * fraction
    return min(low + step + step, high)
