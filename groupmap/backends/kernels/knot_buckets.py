"""Buckets that say between which knots a value lies, so that few steps of a bisection are left.

They are equally wide, unless most knots would then come to few of them, as where tails are heavy.
In that case they are equally wide on a line that is bent around a centre,

    b(x) = ±(1 − 1/(1 + |x − centre|·stretch)),

so that on the way out each is wider than the one before. It rises with x even as it is rounded,
since each of its operations does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from groupmap.backends._bits import Rows
from groupmap.backends.kernels.compiled import inlined, numpy_part, part
from groupmap.backends.kernels.vectors import bit_length

BUCKETS_PER_KNOT = 8  # so that most buckets hold no knot or one
FEW_STEPS = 3  # for fewer it does not pay to look for a line that is bent
STEPS_OF_BENDING = 1  # that it takes as long as
CHUNK = 256  # values whose buckets are found together, as vectors


class Buckets(NamedTuple):
    """Those of the knots of each group."""

    starts: Rows  # (g, bucket): how many knots lie in the buckets before
    lines: Rows  # (g, 4): centre, stretch (0: straight), where buckets begin, and how many a unit
    steps: Rows  # (g,): of a bisection of the knots in one bucket, whichever it is

    @classmethod
    def for_knots(cls, n_groups: int, k: int) -> Buckets:
        """Memory for those of k knots each."""
        return cls(
            np.empty((n_groups, BUCKETS_PER_KNOT * k + 2), dtype=np.int32),
            np.empty((n_groups, 4)),
            np.empty(n_groups, dtype=np.int64),
        )


@part
def make_buckets(knots: Rows, starts: Rows, line: Rows) -> int:
    """Those of knots that ascend and are all different; how many steps are left."""
    n_buckets, bucket_of = starts.size - 2, np.empty(knots.size, dtype=np.int32)
    # For knots that are equally far apart, one for each will do, and they lie closer together.
    draw_line(knots, 0.0, 0.0, knots.size, line)
    steps = count_knots(knots, line, bucket_of, starts)
    if steps == 1:
        return steps
    draw_line(knots, 0.0, 0.0, n_buckets, line)
    steps = count_knots(knots, line, bucket_of, starts)
    if steps <= FEW_STEPS:
        return steps
    least, greatest = np.float64(knots[0]), np.float64(knots[knots.size - 1])
    quarter, median = np.float64(knots[knots.size // 4]), np.float64(knots[knots.size // 2])
    best, fewest = line.copy(), steps - STEPS_OF_BENDING
    for centre, reach in (
        (median, median - quarter),
        (least, median - least),
        (greatest, greatest - median),
    ):
        draw_line(knots, centre, 1.0 / reach if reach > 0.0 else 0.0, n_buckets, line)
        steps = count_knots(knots, line, bucket_of, starts)
        if steps < fewest:
            best[:], fewest = line, steps
    line[:] = best
    return count_knots(knots, line, bucket_of, starts)


@part
def draw_line(knots: Rows, centre: float, stretch: float, n_buckets: int, line: Rows) -> None:
    """The buckets from the least knot to the greatest; all are one where that is too wide."""
    line[0], line[1] = centre, stretch if np.isfinite(stretch) else 0.0
    least = along(np.float64(knots[0]), line)  # as wide as what is read back
    width = along(np.float64(knots[knots.size - 1]), line) - least
    per_unit = n_buckets / width if width > 0.0 else 0.0
    line[2], line[3] = least, per_unit if np.isfinite(per_unit) else 0.0


@part
def count_knots(knots: Rows, line: Rows, bucket_of: Rows, starts: Rows) -> int:
    """Where the knots of each bucket begin; how many steps to bisect those of the fullest takes."""
    find_buckets(knots, line, starts.size - 2, bucket_of)
    starts[:] = 0
    for i in range(knots.size):
        starts[bucket_of[i] + 1] += 1
    before = most = np.int32(0)
    for b in range(starts.size):
        most = max(most, starts[b])
        before += starts[b]
        starts[b] = before
    return int(bit_length(np.uint64(most)))


@numpy_part
def find_buckets(x: Rows, line: Rows, n_buckets: int, buckets: Rows) -> None:
    """The bucket of each value, which rises with it; that of NaN is the first."""
    stretch, least, per_unit, last = line[1], line[2], line[3], float(n_buckets)
    if stretch == 0.0:
        for i in range(x.size):
            buckets[i] = in_range((x[i] - least) * per_unit, last)
    else:
        for i in range(x.size):
            buckets[i] = in_range((bent(x[i], line[0], stretch) - least) * per_unit, last)


@inlined
def in_range(position: float, last: float) -> np.int32:
    """The bucket at a position."""
    position = position if position > 0.0 else 0.0
    return np.int32(min(position, last))


@inlined
def bent(x: float, centre: float, stretch: float) -> float:
    """The place of x on the bent line."""
    away = (x - centre) * stretch
    share = 1.0 - 1.0 / (1.0 + abs(away))
    return share if away > 0.0 else -share


@numpy_part
def along(x: float, line: Rows) -> float:
    """The place of x on the line."""
    return x if line[1] == 0.0 else bent(x, line[0], line[1])


@inlined
def is_less(a: float, b: float) -> bool:
    """Whether a is less than b."""
    return a < b


@inlined
def is_at_most(a: float, b: float) -> bool:
    """Whether a is less than b, or equal to it."""
    return a <= b


@inlined
def find_places(
    x: Rows,
    knots: Rows,
    starts: Rows,
    line: Rows,
    steps: int,
    is_before: Callable[[float, float], bool],
    places: Rows,
) -> None:
    """How many of the knots come before each of some values, no more than a CHUNK: those in the
    buckets before, and what few steps add. The knots begin in the second place."""
    one, furthest = np.uint64(1), np.uint64(knots.size - 1)
    find_buckets(x, line, starts.size - 2, places)
    for i in range(x.size):
        at, count = x[i], np.uint64(starts[places[i]])
        for s in range(steps - 1, 0, -1):
            knot = knots[min(count + (one << np.uint64(s)), furthest)]
            count += np.uint64(is_before(knot, at)) << np.uint64(s)
        places[i] = count + np.uint64(is_before(knots[count + one], at))
