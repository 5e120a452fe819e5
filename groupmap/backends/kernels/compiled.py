"""How kernels are compiled that take many short parts of arrays.

Compiled code counts who uses an array, with a step of some nanoseconds each time a part of it is
taken: of rows of 128 entries, a quarter of the time. Where no array is made, nothing has to be
counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

# As a literal it would have a type of its own, and what is called with it would compile once more.
ZERO = cast(int, np.int64(0))

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

# Numba itself uses `_nrt`; its types leave it out.
_WITHOUT_ARRAYS: Any = {"nogil": True, "cache": True, "_nrt": False}
_WITH_ARRAYS: Any = {"nogil": True, "cache": True, "_nrt": True}


def uncounted(kernel: Kernel) -> Kernel:
    """One that makes no array, and so counts none; nor does what is first compiled for it."""
    decorate: Any = njit(**_WITHOUT_ARRAYS)
    compiled: Kernel = decorate(kernel)
    return compiled


def counted(kernel: Kernel) -> Kernel:
    """One that such a kernel reaches, and that makes arrays all the same."""
    decorate: Any = njit(**_WITH_ARRAYS)
    compiled: Kernel = decorate(kernel)
    return compiled
