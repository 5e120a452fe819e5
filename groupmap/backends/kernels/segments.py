"""Lines between knots with slopes that are known, and their derivatives: running quantiles.

As `groupmap.nn._piecewise` says, and to the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from groupmap.backends._bits import Rows
from groupmap.backends.kernels.compiled import kernel
from groupmap.backends.kernels.knot_buckets import (
    CHUNK,
    Buckets,
    find_places,
    is_at_most,
    make_buckets,
)
from groupmap.backends.kernels.knots import ENTRIES_PER_BLOCK
from groupmap.backends.kernels.threads import over_rows


class Segments(NamedTuple):
    """What begins at each of the different knots of a group, and is in the first place what lies
    before them all."""

    knots: Rows  # (g, k + 2); NaN behind the last
    heights: Rows  # just behind a knot
    at_knots: Rows
    slopes: Rows
    buckets: Buckets

    @classmethod
    def between(cls, knots: Rows, heights: Rows, at_knots: Rows, slopes: Rows) -> Segments:
        """Those between knots ``(g, k)``."""
        n_groups, k = knots.shape
        per_knot = np.full((4, n_groups, k + 2), np.nan, dtype=knots.dtype)
        made = cls(
            per_knot[0], per_knot[1], per_knot[2], per_knot[3],
            Buckets.for_knots(n_groups, k),
        )  # fmt: skip
        merge_runs(knots, heights, at_knots, slopes, made)
        return made


def through_knots(
    x: Rows,
    knots: Rows,
    heights: Rows,
    at_knots: Rows,
    slopes: Rows,
    *,
    with_slopes: bool,
    threads: int,
) -> tuple[Rows, Rows | None]:
    """The heights at x ``(g, n)`` of any strides, which they share; and the slopes there.

    Knots, heights and at_knots are ``(g, k)``; slopes, ``(g, k + 1)``, begin and end with those
    outside of all knots.
    """
    segments = Segments.between(knots, heights, at_knots, slopes)
    y, slopes_there = np.empty_like(x), np.empty_like(x) if with_slopes else None
    half, zero = x.dtype.type(0.5), x.dtype.type(0.0)

    def work(_: None, begin: int, end: int) -> None:
        own_slopes = None if slopes_there is None else slopes_there[:, begin:end]
        fill_columns(x[:, begin:end], segments, half, zero, y[:, begin:end], own_slopes)

    over_rows(
        work, lambda _: None, x.shape[1], x.shape[0],
        entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
    )  # fmt: skip
    return y, slopes_there


@kernel
def merge_runs(knots: Rows, heights: Rows, at_knots: Rows, slopes: Rows, made: Segments) -> None:
    """Of each run of equal knots, what is there of the last."""
    n_groups, k = knots.shape
    for g in range(n_groups):
        made.knots[g, 0], made.heights[g, 0] = knots[g, 0], heights[g, 0]
        made.at_knots[g, 0], made.slopes[g, 0] = at_knots[g, 0], slopes[g, 0]
        count = 0
        for i in range(k):
            if i + 1 < k and knots[g, i + 1] == knots[g, i]:
                continue
            count += 1
            made.knots[g, count], made.heights[g, count] = knots[g, i], heights[g, i]
            made.at_knots[g, count], made.slopes[g, count] = at_knots[g, i], slopes[g, i + 1]
        different = made.knots[g, 1 : count + 1]
        buckets = made.buckets
        buckets.steps[g] = make_buckets(different, buckets.starts[g], buckets.lines[g])


@kernel
def fill_columns(
    x: Rows, of: Segments, half: float, zero: float, y: Rows, slopes_there: Rows | None
) -> None:
    """The same for some columns; half and zero are of x's dtype, which nothing widens so."""
    places = np.empty(CHUNK, dtype=np.int32)
    for g in range(x.shape[0]):
        starts, steps, line = of.buckets.starts[g], of.buckets.steps[g], of.buckets.lines[g]
        knots, heights, at_knots, slopes = of.knots[g], of.heights[g], of.at_knots[g], of.slopes[g]
        for begin in range(0, x.shape[1], CHUNK):
            some, out = x[g, begin : begin + CHUNK], y[g, begin : begin + CHUNK]
            find_places(some, knots, starts, line, steps, is_at_most, places)
            for i in range(some.size):
                at, segment = some[i], np.uint64(places[i])
                low, height, slope = knots[segment], heights[segment], slopes[segment]
                at_low, rise = at_knots[segment], (at * half - low * half) * slope
                # Infinity is not to meet a slope of 0.
                value = height + (rise + rise) if slope != zero else height
                value = at_low if at == low else value
                out[i] = at if np.isnan(at) else value
                if slopes_there is not None:
                    slopes_there[g, begin + i] = zero if np.isnan(at) else slope
