"""How kernels are compiled: what Python calls, what other kernels call, and what counts arrays.

To take arguments from Python takes time to compile, more than a small kernel itself, so only what
Python calls does. And compiled code counts who uses an array, with a step of some nanoseconds each
time a part of it is taken: of rows of 128 entries, a quarter of the time. Where no array is made,
nothing has to be counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

# As a literal it would have a type of its own, and what is called with it would compile once more,
# as it does for every width of a number.
ZERO = cast(int, np.int64(0))

Function = TypeVar("Function", bound=Callable[..., Any])


def _compiler(**options: Any) -> Callable[[Function], Function]:
    decorate: Any = njit(**options)
    return cast(Callable[[Function], Function], decorate)


# Without the GIL, kept on disk, and not to be called from C.
_COMMON: Any = {"nogil": True, "cache": True, "no_cfunc_wrapper": True}
_FROM_KERNELS: Any = {**_COMMON, "no_cpython_wrapper": True}
_AS_NUMPY: Any = {"error_model": "numpy"}

# Numba itself uses `_nrt`; its types leave it out.
_UNCOUNTED: Any = {"_nrt": False}
_COUNTED: Any = {"_nrt": True}

# What Python calls, and other kernels may.
kernel = _compiler(**_COMMON)
# One that makes no array, and so counts none; nor do the parts that are first compiled for it.
uncounted_kernel = _compiler(**_COMMON, **_UNCOUNTED)
# One that divides by zero as NumPy does.
numpy_kernel = _compiler(**_COMMON, **_AS_NUMPY)

# One so short that other threads may wait.
short_kernel = _compiler(**{**_COMMON, "nogil": False})

# What only kernels call: from Python it would end the process.
part = _compiler(**_FROM_KERNELS)
uncounted_part = _compiler(**_FROM_KERNELS, **_UNCOUNTED)
# One that an uncounted kernel reaches, and that makes arrays all the same.
counted_part = _compiler(**_FROM_KERNELS, **_COUNTED)
numpy_part = _compiler(**_FROM_KERNELS, **_AS_NUMPY)
# One whose sums may be taken in any order, several entries at once.
summing_part = _compiler(**_FROM_KERNELS, fastmath={"reassoc"})

# What is compiled anew wherever it is called.
inlined = _compiler(inline="always")
