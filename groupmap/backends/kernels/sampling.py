"""A few entries of a row that tell, most likely, what the others are like."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits

SAMPLE = 64  # entries that are looked at
IRREGULAR, IRREGULAR_BITS = 40503, 16


@njit(nogil=True, cache=True)
def sampled_index(k: int, n: int) -> int:
    """Which of n entries is the k-th of those that are looked at, which are no more than n.

    They stand at no regular distance, as an image's border would.
    """
    step = max(n // SAMPLE, 1)
    within = (k * IRREGULAR & ((1 << IRREGULAR_BITS) - 1)) * step >> IRREGULAR_BITS
    return k * step + within


@lru_cache(maxsize=16)
def sampled_indices(n: int, size: int = SAMPLE) -> Bits:
    """Some such entries of n, and no more than that."""
    k, step = np.arange(min(n, size)), max(n // size, 1)
    return k * step + ((k * IRREGULAR & ((1 << IRREGULAR_BITS) - 1)) * step >> IRREGULAR_BITS)
