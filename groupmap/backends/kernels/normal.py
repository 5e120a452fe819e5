"""The normal cdf of many values, by the formulas of `groupmap.backends._normal`.

All three of Cody's quotients are computed for each value and one of them is taken: without
branches, several values at once, that is faster than to choose first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from groupmap.backends._normal import ERF, ERFC, FAR_ERFC, Rational
from groupmap.backends.kernels.compiled import inlined, numpy_kernel

Values = np.ndarray[Any, Any]


def probabilities(x: Values, last: float) -> Values:
    """The cdf at x ``(n,)``, with 0 at or below −last and 1 at or above last; last is below 40."""
    x = np.clip(x, -NOTHING_LEFT, NOTHING_LEFT)
    result: Values = np.exp(-0.5 * x * x)
    from_densities(x, last, result)
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
NOTHING_LEFT = 40.0  # Φ(−40) is below every positive float64
SQRT_HALF, SQRT_OF_PI = math.sqrt(0.5), math.sqrt(math.pi)


@numpy_kernel
def from_densities(x: Values, last: float, p: Values) -> None:
    """The cdf, in the place of exp(−x²/2); both tails as the lower one."""
    for i in range(x.size):
        size = abs(x[i]) * SQRT_HALF
        squared = size * size
        inverse = 1.0 / squared
        small = 0.5 - 0.5 * size * _erf(squared)
        middle = 0.5 * p[i] * _erfc(size)
        far = 0.5 * p[i] * (1.0 / SQRT_OF_PI - inverse * _far_erfc(inverse)) / size
        lower = small if size <= 0.5 else middle if size <= 4.0 else far
        inside = lower if x[i] <= 0.0 else 1.0 - lower
        p[i] = 0.0 if x[i] <= -last else 1.0 if x[i] >= last else inside
