"""The normal cdf and quantiles of many values, by the formulas of `groupmap.backends._normal`.

All three of Cody's quotients are computed for each value and one of them is taken: without
branches, several values at once, that is faster than to choose first; the exponential function is
our own (see `exponential`), since a library's is called for one value at a time. Of Wichura's
quotients the central one is computed so, and the probabilities of the tails are collected: NumPy
takes their logarithms faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from groupmap.backends._normal import ERF, ERFC, FAR_ERFC, NDTRI_RANGES, Rational
from groupmap.backends.kernels.compiled import inlined, numpy_kernel
from groupmap.backends.kernels.exponential import exp

Values = np.ndarray[Any, Any]


def probabilities(x: Values, last: float) -> Values:
    """The cdf at x ``(n,)``, with 0 at or below −last and 1 at or above last; last is below 40."""
    p = np.empty_like(x)
    fill = from_two_ranges if last * SQRT_HALF <= NEAR else from_three_ranges
    fill(x, last, p)
    return p


def quantiles(p: Values, complement: Values, clamp: float) -> Values:
    """The quantiles at p ``(n,)``, beside 1 − p, both of them at least the clamp, above 0."""
    result = np.empty_like(p)
    room = min(p.size, AT_ONCE)
    tails, places = np.empty(room + 1), np.empty(room + 1, dtype=np.int32)
    for begin in range(0, p.size, AT_ONCE):
        lower, upper, q = (each[begin : begin + AT_ONCE] for each in (p, complement, result))
        count = from_centre(lower, upper, clamp, q, tails, places)
        from_tails(np.sqrt(-np.log(tails[:count])), places, lower, upper, q)
    return result


def _compiled(rational: Rational) -> Callable[[float], float]:
    numerator, denominator = rational

    @inlined
    def at(x: float) -> float:
        above, below = numerator[-1], denominator[-1]
        for k in range(len(numerator) - 2, -1, -1):
            above = above * x + numerator[k]
        for k in range(len(denominator) - 2, -1, -1):
            below = below * x + denominator[k]
        return above / below

    return at


_erf, _erfc, _far_erfc = (_compiled(each) for each in (ERF, ERFC, FAR_ERFC))
_centre, _near, _far = (_compiled(each) for each in NDTRI_RANGES.values())
AT_ONCE = 2**16  # values: of fewer, threads would wait for one another more than for memory
NEAR = 4.0  # of |x|·√½, beyond which another quotient begins
SQRT_HALF, SQRT_OF_PI = math.sqrt(0.5), math.sqrt(math.pi)


@numpy_kernel
def from_three_ranges(x: Values, last: float, p: Values) -> None:
    """The cdf; both tails as the lower one."""
    for i in range(x.size):
        distance = _distance(x[i], last)
        size = distance * SQRT_HALF
        squared, density = size * size, _density(distance)
        inverse = 1.0 / squared
        small = 0.5 - 0.5 * size * _erf(squared)
        middle = 0.5 * density * _erfc(size)
        far = 0.5 * density * (1.0 / SQRT_OF_PI - inverse * _far_erfc(inverse)) / size
        lower = small if size <= 0.5 else middle if size <= NEAR else far
        p[i] = _on_its_side(x[i], last, lower)


@numpy_kernel
def from_two_ranges(x: Values, last: float, p: Values) -> None:
    """The same for values of which none lies so far off that it would need the third quotient."""
    for i in range(x.size):
        distance = _distance(x[i], last)
        size = distance * SQRT_HALF
        small = 0.5 - 0.5 * size * _erf(size * size)
        middle = 0.5 * _density(distance) * _erfc(size)
        p[i] = _on_its_side(x[i], last, small if size <= 0.5 else middle)


@inlined
def _distance(x: float, last: float) -> float:
    """From 0, no more than that of the last; so is that of NaN."""
    distance = abs(x)
    return distance if distance < last else last


@inlined
def _density(distance: float) -> float:
    """exp(−distance²/2). The square has more digits than a double, and each of those that are lost
    would count: of the part that has half of them it is exact."""
    head = np.float64(np.float32(distance))
    return exp(-0.5 * (head * head), 0.5 * ((distance - head) * (distance + head)))


@inlined
def _on_its_side(x: float, last: float, lower: float) -> float:
    inside = lower if x <= 0.0 else 1.0 - lower
    p = 0.0 if x <= -last else 1.0 if x >= last else inside
    return x if np.isnan(x) else p


@inlined
def _tail(p: float, complement: float, clamp: float) -> float:
    tail = p if p <= complement else complement
    return clamp if tail < clamp else tail


@numpy_kernel
def from_centre(
    p: Values, complement: Values, clamp: float, q: Values, tails: Values, places: Values
) -> int:
    """The quantiles, but for the tails': their lower probabilities, where they stand, how many."""
    for i in range(p.size):
        distance = _tail(p[i], complement[i], clamp) - 0.5
        lower = distance * _centre(0.180625 - distance * distance)
        q[i] = lower if p[i] <= complement[i] else -lower
    count = np.uint64(0)
    for i in range(p.size):  # without a branch: in no order they lie here or there
        tail = _tail(p[i], complement[i], clamp)
        tails[count], places[count] = tail, i
        count += np.uint64(tail - 0.5 < -0.425)
    return int(count)


@numpy_kernel
def from_tails(roots: Values, places: Values, p: Values, complement: Values, q: Values) -> None:
    """The quantiles of the tails, of √−ln of their probabilities, put in their places."""
    for k in range(roots.size):
        r = roots[k]
        lower = -(_near(r - 1.6) if r <= 5.0 else _far(r - 5.0))
        i = places[k]
        q[i] = lower if p[i] <= complement[i] else -lower
