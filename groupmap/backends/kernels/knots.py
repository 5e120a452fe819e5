"""Piecewise linear interpolation between the knots of fitted cdfs.

Buckets (see `knot_buckets`) stand in front of a bisection. Equal knots are looked at once, when the
table is made, and not with each value. Nothing depends on a branch that could not be foretold: a
wrong guess takes as long as all the rest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from groupmap.backends._bits import Rows, for_reading
from groupmap.backends.kernels.columns import contiguous
from groupmap.backends.kernels.compiled import inlined, kernel, numpy_kernel, part
from groupmap.backends.kernels.knot_buckets import (
    CHUNK,
    Buckets,
    find_places,
    is_less,
    make_buckets,
)
from groupmap.backends.kernels.threads import over_rows

ENTRIES_PER_BLOCK = 2**16
GREATEST_INT32 = 2**31 - 1
MIDDLES_PER_BLOCK = 2**15
MIDDLE, FIRST, LAST = 0, 1, 2
ON_RUNS = {"middle": MIDDLE, "first": FIRST, "last": LAST}


class MergedKnots(NamedTuple):
    """The different knots of each group, and what is taken on either side of each, and at it."""

    counts: Rows  # (g,): how many there are
    knots: Rows  # (g, k + 2): those, from the second place on, between infinities
    before: Rows  # and so these
    at: Rows
    behind: Rows
    buckets: Buckets

    @classmethod
    def of(cls, knots: Rows, values: Rows, on_runs: int) -> MergedKnots:
        """Those of knots and values ``(g, k)``."""
        n_groups, k = knots.shape
        different, before = (np.full((n_groups, k + 2), np.inf) for _ in range(2))
        different[:, 0] = -np.inf
        at = behind = before  # unless knots are equal
        if np.any(knots[:, 1:] == knots[:, :-1]):
            at, behind = np.full_like(before, np.inf), np.full_like(before, np.inf)
        made = cls(
            np.empty(n_groups, dtype=np.int64), different, before, at, behind,
            Buckets.for_knots(n_groups, k),
        )  # fmt: skip
        merge_runs(knots, values, on_runs, made)
        return made


class Interpolator:
    """As `groupmap.interpolation.interpolator` says, without extrapolation; made once, used often.

    Knots and values are ``(g, k)``.
    """

    def __init__(self, knots: Rows, values: Rows, on_runs: str) -> None:
        knots, values = np.ascontiguousarray(knots), np.ascontiguousarray(values)
        self._knots = MergedKnots.of(knots, values, ON_RUNS[on_runs])

    def __call__(self, x: Rows, *, threads: int) -> Rows:
        """The interpolant at x ``(g, n)`` of any strides, which the result shares."""
        y = np.empty_like(x)

        def work(_: None, begin: int, end: int) -> None:
            interpolate_columns(x[:, begin:end], self._knots, y[:, begin:end])

        over_rows(
            work, lambda _: None, x.shape[1], x.shape[0],
            entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
        )  # fmt: skip
        return y


@kernel
def merge_runs(knots: Rows, values: Rows, on_runs: int, made: MergedKnots) -> None:
    """Each run of equal knots to one: before it the first of their values is taken, behind it the
    last, and at it either, or the middle."""
    n_groups, k = knots.shape
    for g in range(n_groups):
        count = begin = 0
        while begin < k:
            end = begin + 1
            while end < k and knots[g, end] == knots[g, begin]:
                end += 1
            first, last = values[g, begin], values[g, end - 1]
            count += 1
            made.knots[g, count] = knots[g, begin]
            # These may be one array, where all knots are different.
            made.behind[g, count] = last
            made.before[g, count] = first
            made.at[g, count] = at_run(first, last, on_runs)
            begin = end
        made.counts[g] = count
        different = made.knots[g, 1 : count + 1]
        buckets = made.buckets
        buckets.steps[g] = make_buckets(different, buckets.starts[g], buckets.lines[g])


# Nothing is divided by 0, and to look whether it is takes time.
@numpy_kernel
def interpolate_columns(x: Rows, of: MergedKnots, y: Rows) -> None:
    """The interpolant at ``(g, n)`` values."""
    one, places = np.uint64(1), np.empty(CHUNK, dtype=np.int32)
    for g in range(x.shape[0]):
        starts, steps, line = of.buckets.starts[g], of.buckets.steps[g], of.buckets.lines[g]
        knots, before, at_knots, behind = of.knots[g], of.before[g], of.at[g], of.behind[g]
        n_knots = np.uint64(of.counts[g])
        lowest, highest = before[1], behind[n_knots]
        for begin in range(0, x.shape[1], CHUNK):
            some, out = x[g, begin : begin + CHUNK], y[g, begin : begin + CHUNK]
            find_places(some, knots, starts, line, steps, is_less, places)
            for i in range(some.size):
                at, below = some[i], np.uint64(places[i])
                low, high, at_high = knots[below], knots[below + one], at_knots[below + one]
                value = between(behind[below], before[below + one], fraction_between(low, high, at))
                value = lowest if below == 0 else value
                value = at_high if at == high else value
                value = highest if below == n_knots else value
                out[i] = at if np.isnan(at) else value


def bisect(x: Rows, knots: Rows, values: Rows, on_runs: str, *, threads: int) -> Rows:
    """The same for values so few that no table is worth its while; all of any strides."""
    y = np.empty_like(x)

    def work(_: None, begin: int, end: int) -> None:
        part = slice(begin, end)
        bisect_columns(x[part], knots[part], values[part], ON_RUNS[on_runs], y[part])

    over_rows(work, lambda _: None, *x.shape, entries_per_block=ENTRIES_PER_BLOCK, threads=threads)
    return y


@numpy_kernel
def bisect_columns(x: Rows, knots: Rows, values: Rows, on_runs: int, y: Rows) -> None:
    """The interpolant at ``(g, n)`` values."""
    n_groups, k = knots.shape
    for g in range(n_groups):
        for i in range(x.shape[1]):
            at, first, end = x[g, i], 0, k
            while first < end:  # to the first knot that is not below
                middle = (first + end) >> 1
                if knots[g, middle] < at:
                    first = middle + 1
                else:
                    end = middle
            if np.isnan(at):
                y[g, i] = np.nan
            elif first == k:
                y[g, i] = values[g, k - 1]
            elif knots[g, first] == at:
                last = first
                while last + 1 < k and knots[g, last + 1] == at:
                    last += 1
                y[g, i] = at_run(values[g, first], values[g, last], on_runs)
            elif first == 0:
                y[g, i] = values[g, 0]
            else:
                low, high = knots[g, first - 1], knots[g, first]
                fraction = fraction_between(low, high, at)
                y[g, i] = between(values[g, first - 1], values[g, first], fraction)


@inlined
def at_run(first: float, last: float, on_runs: int) -> float:
    """What is taken at a run of equal knots, of the values at its ends."""
    if on_runs == MIDDLE and first != last:
        return between(first, last, 0.5)
    return last if on_runs == LAST else first


@inlined
def fraction_between(low: float, high: float, at: float) -> float:
    """Of the way from low to high, how much lies below."""
    width = high / 2.0 - low / 2.0
    # Of numbers of no more than some units of the least that there is, it may be 0.
    return (at / 2.0 - low / 2.0) / width if width != 0.0 else 0.5


def order_statistics(ascending: Rows, index: Rows, *, threads: int) -> Rows:
    """The values at real, zero-based indices ``(k,)`` of a sorted row, which the ends clip."""
    ascending, index = for_reading(ascending), for_reading(index)
    result = np.empty(index.shape)

    def work(_: None, begin: int, end: int) -> None:
        at_indices(ascending, index[begin:end], result[begin:end])

    over_rows(
        work, lambda _: None, index.size, 1, entries_per_block=ENTRIES_PER_BLOCK, threads=threads
    )
    return result


def order_statistics_of_rows(ascending: Rows, index: Rows, *, threads: int) -> Rows:
    """The same at indices ``(r, k)``, each row in its own of ``(r, m)``."""
    ascending, index = (for_reading(contiguous(each)) for each in (ascending, index))
    result = np.empty(index.shape)

    def work(_: None, begin: int, end: int) -> None:
        for r in range(begin, end):
            at_indices(ascending[r], index[r], result[r])

    over_rows(
        work, lambda _: None, *index.shape, entries_per_block=ENTRIES_PER_BLOCK, threads=threads
    )
    return result


@kernel
def at_indices(ascending: Rows, index: Rows, result: Rows) -> None:
    """The values at real, zero-based indices of a sorted row, which the ends clip."""
    if ascending.size > GREATEST_INT32:
        at_indices_of_long_row(ascending, index, result)
        return
    places, fractions = np.empty(CHUNK, dtype=np.int32), np.empty(CHUNK)
    for begin in range(0, index.size, CHUNK):
        some, out = index[begin : begin + CHUNK], result[begin : begin + CHUNK]
        at_some_indices(ascending, some, places, fractions, out)


@inlined
def at_some_indices(
    ascending: Rows, index: Rows, places: Rows, fractions: Rows, result: Rows
) -> None:
    """The same of some, for which there is memory, and of no longer rows than integers of 32 bits
    count, to which vectors convert.

    First where they lie and then what they are: loops that do but one of these are done by vectors.
    """
    last, end = np.int32(ascending.size - 1), float(ascending.size - 1)
    for i in range(index.size):
        at = index[i] if index[i] > 0.0 else 0.0
        at = at if at < end else end
        places[i] = np.int32(at)
        fractions[i] = at - np.float64(places[i])
    for i in range(index.size):
        above = min(np.int32(places[i] + np.int32(1)), last)
        low, high = ascending[np.uint32(places[i])], ascending[np.uint32(above)]
        result[i] = between(np.float64(low), np.float64(high), fractions[i])


@part
def at_indices_of_long_row(ascending: Rows, index: Rows, result: Rows) -> None:
    """The same of any length."""
    last = ascending.size - 1
    for i in range(index.size):
        at = min(index[i], float(last)) if index[i] > 0.0 else 0.0
        below = int(at)
        low, high = ascending[below], ascending[min(below + 1, last)]
        result[i] = between(np.float64(low), np.float64(high), at - below)


def fill_with_middles(ascending: Rows, table: Rows, *, threads: int) -> None:
    """As `with_middles`, on some threads."""

    def work(_: None, begin: int, end: int) -> None:
        with_middles(ascending[begin : end + 1], table[2 * begin : 2 * end + 1])

    over_rows(
        work, lambda _: None, max(len(ascending) - 1, 1), 1,
        entries_per_block=MIDDLES_PER_BLOCK, threads=threads,
    )  # fmt: skip


@kernel
def with_middles(ascending: Rows, table: Rows) -> None:
    """The values of a sorted row, and between each two the middle."""
    last = ascending.size - 1
    for i in range(last):
        table[2 * i] = ascending[i]
        table[2 * i + 1] = between(ascending[i], ascending[i + 1], 0.5)
    table[2 * last] = ascending[last]


@inlined
def between(low: float, high: float, fraction: float) -> float:
    """low + fraction·(high − low), and never above `high`."""
    step = (high / 2.0 - low / 2.0) * fraction
    return min(low + step + step, high)
