"""Kernels for arrays on NVIDIA GPUs: one CUDA C++ source for PyTorch and CuPy, in `source`.

They are compiled by NVRTC when they are first needed, for the numbers at hand, and kept on disk;
`cuda.core` compiles and launches them, on the arrays as they lie and on the caller's stream.
"""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["INSTALLED"]


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it would be in
        return False


INSTALLED = _is_there("cuda.core") and _is_there("cuda.bindings")
