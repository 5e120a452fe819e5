"""The normal quantile function on NumPy arrays, to the last bit what the kernel of it gives.

SciPy's is asked for each value by itself, whose branches take several times as long.
"""

from __future__ import annotations

import numpy as np

from groupmap._typing import Array
from groupmap.backends._normal import NDTRI_RANGES


def quantiles(p: Array, complement: Array, clamp: float) -> Array:
    """The quantiles at p, beside 1 − p, both of them at least the clamp, which is above 0."""
    is_lower: Array = p <= complement
    tail: Array = np.where(is_lower, p, complement)
    tail = np.where(tail < clamp, clamp, tail)
    distance = tail - 0.5
    lower = np.asarray(distance * NDTRI_RANGES["CENTRE"].at(0.180625 - distance * distance))
    in_tail = distance < -0.425
    r = np.sqrt(-np.log(tail[in_tail]))
    is_near = r <= 5.0
    far = NDTRI_RANGES["FAR_TAIL"].at(np.where(is_near, 0.0, r - 5.0))
    lower[in_tail] = np.where(is_near, -NDTRI_RANGES["TAIL"].at(r - 1.6), -far)
    return np.where(is_lower, lower, -lower)
