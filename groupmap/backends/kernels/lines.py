"""Lines between knots with slopes that are known, and their derivatives: running quantiles.

As `groupmap.nn._piecewise` says, and to the same bits; the buckets are those of `knots.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from groupmap.backends.kernels.knots import (
    BUCKETS_PER_KNOT,
    ENTRIES_PER_BLOCK,
    bucket_of,
    make_starts,
)
from groupmap.backends.kernels.threads import over_rows

Rows = np.ndarray[Any, Any]


def through_knots(
    x: Rows, knots: Rows, heights: Rows, at_knots: Rows, slopes: Rows, *, threads: int
) -> tuple[Rows, Rows]:
    """The heights at x ``(g, n)``, and the slopes there.

    Knots, heights and at_knots are ``(g, k)``; slopes, ``(g, k + 1)``, begin and end with those
    outside of all knots.
    """
    n_groups, k = knots.shape
    starts = np.empty((n_groups, BUCKETS_PER_KNOT * k + 2), dtype=np.int32)
    scales = np.empty((n_groups, 2))
    make_tables(knots, starts, scales)
    y, slopes_there = np.empty_like(x), np.empty_like(x)
    half, zero = x.dtype.type(0.5), x.dtype.type(0.0)

    def work(_: None, begin: int, end: int) -> None:
        fill_columns(
            x[:, begin:end], knots, heights, at_knots, slopes, starts, scales, half, zero,
            y[:, begin:end], slopes_there[:, begin:end],
        )  # fmt: skip

    over_rows(
        work, lambda _: None, x.shape[1], n_groups,
        entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
    )  # fmt: skip
    return y, slopes_there


@njit(nogil=True, cache=True)
def make_tables(knots: Rows, starts: Rows, scales: Rows) -> None:
    """Where the knots of each bucket begin, in each group."""
    for g in range(knots.shape[0]):
        make_starts(knots[g], starts[g], scales[g])


@njit(nogil=True, cache=True)
def fill_columns(
    x: Rows,
    knots: Rows,
    heights: Rows,
    at_knots: Rows,
    slopes: Rows,
    starts: Rows,
    scales: Rows,
    half: float,
    zero: float,
    y: Rows,
    slopes_there: Rows,
) -> None:
    """The same for some columns; half and zero are of x's dtype, which nothing widens so."""
    n_groups, k = knots.shape
    n_buckets = starts.shape[1] - 2
    for g in range(n_groups):
        least, per_unit = scales[g]
        own_knots, own_heights, own_slopes = knots[g], heights[g], slopes[g]
        for i in range(x.shape[1]):
            at = x[g, i]
            if np.isnan(at):
                y[g, i], slopes_there[g, i] = at, zero
                continue
            bucket = bucket_of(at, least, per_unit, n_buckets)
            segment, end = starts[g, bucket], starts[g, bucket + 1]
            while end - segment > 1:  # rare
                middle = (segment + end) >> 1
                if own_knots[middle] <= at:
                    segment = middle + 1
                else:
                    end = middle
            # Whether the bucket's one knot is passed; if it has none, the next is not.
            segment += own_knots[min(segment, k - 1)] <= at and segment < end
            slope, nearest = own_slopes[segment], max(segment - 1, 0)
            low = own_knots[nearest]
            distance = at * half - low * half
            if at == low:
                y[g, i] = at_knots[g, nearest]
            elif slope == zero:  # which infinity is not to meet
                y[g, i] = own_heights[nearest]
            else:
                rise = distance * slope
                y[g, i] = own_heights[nearest] + (rise + rise)
            slopes_there[g, i] = slope
