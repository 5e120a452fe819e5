"""A few entries of a row that tell, most likely, what the others are like."""

from __future__ import annotations

from numba import njit

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
