"""exp(x) of x ≤ 0 inside of compiled loops, several at once, which calls of a library are not.

x = n·ln 2 + r with a whole n and |r| ≤ ln 2 / 2, where n·ln 2 is taken away in two parts, the first
of them without rounding (Cody & Waite); e^r is its Taylor polynomial of degree 13, whose remainder
is less than 1e-17.

References
----------
Cody, W. J. and Waite, W. (1980). Software Manual for the Elementary Functions. Prentice-Hall,
chapter 6.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from groupmap.backends.kernels.compiled import inlined

LEAST = -800.0  # and below: 0, as of all less than −746
LOG2_OF_E = 1.0 / math.log(2.0)
LN2_HIGH = math.floor(math.log(2.0) * 2**32) / 2**32  # so that n times it is a double
LN2_LOW = float(Decimal(2).ln() - Decimal(LN2_HIGH))
COEFFICIENTS = tuple(1.0 / math.factorial(k) for k in range(14))
BIAS, BITS_OF_FRACTION = 1023, 52  # of doubles


def _double_of(typing_context: Any, bits: Any) -> Any:
    """The double that has these 64 bits."""
    del typing_context, bits

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


double_of: Any = intrinsic(_double_of)


@inlined
def exp(x: float, less: float) -> float:
    """e^(x − less) of x ≤ 0, and of a number that is small, as what x was rounded by; 0 of NaN."""
    x = x if x > LEAST else LEAST
    n = np.floor(x * LOG2_OF_E + 0.5)
    rest = (x - n * LN2_HIGH) - (n * LN2_LOW + less)
    value = COEFFICIENTS[-1]
    for k in range(len(COEFFICIENTS) - 2, -1, -1):
        value = value * rest + COEFFICIENTS[k]
    whole = np.int32(n)
    half = whole >> np.int32(1)  # 2^n itself may be too small
    return value * power_of_two(half) * power_of_two(whole - half)


@inlined
def power_of_two(n: Any) -> float:
    """2^n, where that is a normal number."""
    power: float = double_of((np.int64(n) + BIAS) << BITS_OF_FRACTION)
    return power
