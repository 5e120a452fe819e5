"""A few entries of a row that tell, most likely, what the others are like."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from groupmap.backends._bits import Bits
from groupmap.backends.kernels.compiled import part

SAMPLE = 64  # entries that are looked at
IRREGULAR, IRREGULAR_BITS = 40503, 16


def _sampled_index(k: Any, n: int, size: int) -> Any:
    """Which of n entries is the k-th of so many that are looked at, which are no more than n.

    They stand at no regular distance, as an image's border would.
    """
    step = max(n // size, 1)
    within = (k * IRREGULAR & ((1 << IRREGULAR_BITS) - 1)) * step >> IRREGULAR_BITS
    return k * step + within


sampled_index = part(_sampled_index)


@lru_cache(maxsize=16)
def sampled_indices(n: int, size: int = SAMPLE) -> Bits:
    """All of them, or of those that there are."""
    indices: Bits = _sampled_index(np.arange(min(n, size)), n, size)
    return indices
