"""Kernels for arrays in main memory, compiled by Numba; each kind in a file of its own.

They take and return NumPy arrays. Compiled code is kept on disk, beside the source or in the
user's cache directory.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from groupmap.backends.kernels.threads import default_threads

__all__ = ["INSTALLED", "default_threads", "serve"]

INSTALLED = find_spec("numba") is not None

# Below this many entries the few microseconds of a call outweigh what a kernel saves, and Numba's
# import (some 0.3 s, once) all the more.
LEAST_SIZE = 2**12


def serve(*arrays: np.ndarray[Any, Any]) -> bool:
    """Whether there are kernels, and the arrays, of which the first is the data, are for them."""
    return (
        INSTALLED
        and arrays[0].size >= LEAST_SIZE
        and all(
            each.dtype.kind in "fiu" and each.dtype.itemsize <= 8 and each.dtype.isnative
            for each in arrays
        )
    )
