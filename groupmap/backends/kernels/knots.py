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
ON_RUNS = {
    "first": 0.0,
    "middle": 0.5,
    "last": 1.0,
}  # how far from its run's first knot to its last


class Interpolator:
    """As `groupmap.interpolation.interpolator` says; made once, used often.

    Knots and values are ``(g, k)``. In place of a rule for runs of equal knots there may be the
    values at each knot. Outside of the knots the values at the ends are kept, unless there are
    `outer_slopes`, ``(g, 2)``.
    """

    def __init__(
        self, knots: Rows, values: Rows, on_runs: str | Rows, outer_slopes: Rows | None = None
    ) -> None:
        n_groups, k = knots.shape
        self._knots, self._values = np.ascontiguousarray(knots), np.ascontiguousarray(values)
        self._starts = np.empty((n_groups, BUCKETS_PER_KNOT * k + 2), dtype=np.int32)
        run_ends = np.empty((n_groups, k), dtype=np.int32)
        self._scales = np.empty((n_groups, 2))
        make_tables(self._knots, self._starts, run_ends, self._scales)
        if isinstance(on_runs, str):
            self._at_knots = np.empty_like(self._values)
            fill_at_knots(self._values, run_ends, ON_RUNS[on_runs], self._at_knots)
        else:
            self._at_knots = np.ascontiguousarray(on_runs)
        self._outer = np.zeros((n_groups, 2)) if outer_slopes is None else outer_slopes

    def __call__(self, x: Rows, *, threads: int, slopes: Rows | None = None) -> Rows:
        """The interpolant at x ``(g, n)`` of any strides, which the result shares.

        The derivatives at x are put into `slopes`, which has its shape.
        """
        y = np.empty_like(x)
        nowhere = np.empty((x.shape[0], 0), dtype=x.dtype) if slopes is None else slopes

        def work(_: None, begin: int, end: int) -> None:
            interpolate_columns(
                x[:, begin:end], self._knots, self._values, self._at_knots, self._starts,
                self._scales, self._outer, y[:, begin:end], nowhere[:, begin:end],
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
        least, width = knots[g, 0], knots[g, k - 1] - knots[g, 0]
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
def fill_at_knots(values: Rows, run_ends: Rows, share: float, at_knots: Rows) -> None:
    """The values at that share of the way through the run of each run's first knot."""
    for g in range(values.shape[0]):
        for i in range(values.shape[1]):
            last = values[g, run_ends[g, i] - 1]
            at_knots[g, i] = last if share == 1.0 else between(values[g, i], last, share)


@njit(nogil=True, cache=True)
def interpolate_columns(
    x: Rows,
    knots: Rows,
    values: Rows,
    at_knots: Rows,
    starts: Rows,
    scales: Rows,
    outer: Rows,
    y: Rows,
    slopes: Rows,
) -> None:
    """The interpolant at ``(g, n)`` values; and where there is room for them its derivatives."""
    n_groups, k = knots.shape
    n_buckets = starts.shape[1] - 2
    with_slopes = slopes.shape[1] > 0
    for g in range(n_groups):
        least, per_unit = scales[g]
        own_knots, own_values = knots[g], values[g]
        for i in range(x.shape[1]):
            at, slope = x[g, i], 0.0
            if np.isnan(at):
                at = own_knots[0]  # something to go on with
            bucket = bucket_of(at, least, per_unit, n_buckets)
            first, end = starts[g, bucket], starts[g, bucket + 1]
            while first < end:  # to the first knot that is not below x
                middle = (first + end) >> 1
                if own_knots[middle] < at:
                    first = middle + 1
                else:
                    end = middle
            if first < k and own_knots[first] == at:
                y[g, i] = at_knots[g, first]
                slope = slope_between(own_knots, own_values, min(first, k - 2))
            elif 0 < first < k:
                low, high = own_knots[first - 1], own_knots[first]
                fraction = (at / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0)
                y[g, i] = between(own_values[first - 1], own_values[first], fraction)
                slope = slope_between(own_knots, own_values, first - 1)
            else:
                nearest, slope = (0, outer[g, 0]) if first == 0 else (k - 1, outer[g, 1])
                y[g, i] = own_values[nearest]
                if slope != 0.0:  # times infinity
                    y[g, i] += slope * (at - own_knots[nearest])
            if np.isnan(x[g, i]):
                y[g, i], slope = np.nan, 0.0
            if with_slopes:
                slopes[g, i] = slope


@njit(inline="always")
def slope_between(knots: Rows, values: Rows, i: int) -> float:
    """The slope between two neighbours; 0 where they are one."""
    if i < 0:  # a single knot
        return 0.0
    run = knots[i + 1] - knots[i]
    return (values[i + 1] - values[i]) / run if run > 0.0 else 0.0


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


@njit(inline="always")
def between(low: float, high: float, fraction: float) -> float:
    """low + fraction·(high − low), and never above `high`."""
    step = (high / 2.0 - low / 2.0) * fraction
    return min(low + step + step, high)
