"""The array libraries under test, one row each: how to get arrays into and out of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import array_api_compat
import numpy as np
import pytest

from groupmap.backends import kernels
from tests.emulated_gpu import emulated_gpu

FLOATS = ("float32", "float64")
HALVES = ("float16", "bfloat16")
INTEGERS = ("int32", "int64", "uint64")


@dataclass(frozen=True)
class Backend:
    """A library on a device, and the dtypes that it has."""

    name: str
    module: str
    dtypes: tuple[str, ...]
    make: Callable[[np.ndarray, str | None], Any]
    to_numpy: Callable[[Any], np.ndarray]
    needs_gpu: bool = False
    context: Callable[[], Any] = contextlib.nullcontext
    reads_host: bool = field(default=True)  # whether NumPy can see its memory

    def __repr__(self) -> str:
        return self.name

    def asarray(self, x, dtype=None):
        return self.make(np.asarray(x), dtype)

    @property
    def xp(self):
        return array_api_compat.array_namespace(self.asarray([0.0]))

    def skip_if_absent(self):
        if find_spec(self.module) is None:
            pytest.skip(f"{self.module} is not installed")
        if self.needs_gpu and not _has_gpu(self.module):
            pytest.skip(f"no GPU here for {self.module}")

    def check_like(self, y, x, dtype=None):
        """The result has x's namespace, device and shape, and the dtype expected."""
        assert type(y) is type(x)
        assert y.shape == x.shape
        assert y.dtype == (x.dtype if dtype is None else dtype)
        assert array_api_compat.device(y) == array_api_compat.device(x)


def pairs_of_library_and_dtype(*dtypes):
    """Every library with those of the dtypes that it has, for the fixture `typed_backend`."""
    pairs = [(each, dtype) for each in BACKENDS for dtype in each.dtypes if dtype in dtypes]
    return pytest.mark.parametrize(
        "typed_backend", pairs, indirect=True, ids=[f"{each}-{dtype}" for each, dtype in pairs]
    )


def _has_gpu(module):
    if module == "torch":
        import torch

        return torch.cuda.is_available()
    import cupy

    try:
        return cupy.cuda.runtime.getDeviceCount() > 0
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


@contextlib.contextmanager
def kernels_for_all_sizes():
    """The compiled kernels for arrays of any size; a skip where Numba is not installed."""
    if find_spec("numba") is None:
        pytest.skip("numba is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "INSTALLED", True)
        patch.setattr(kernels, "LEAST_SIZE", 0)
        yield


@contextlib.contextmanager
def no_kernels():
    """As if Numba were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "INSTALLED", False)
        yield


@contextlib.contextmanager
def without_numpy():
    """JAX computes itself even what NumPy could do for it, as it does where arrays are traced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("groupmap.backends.jax.PLATFORM_OF_NUMPY", "")
        yield


def _numpy(x, dtype):
    return np.array(x, dtype=dtype)


def _numpy_readonly(x, dtype):
    y = _numpy(x, dtype)
    y.flags.writeable = False
    return y


def _strict(x, dtype, device=None):
    import array_api_strict as xp

    dtype = dtype and getattr(xp, dtype)
    on = None if device is None else xp.Device(device)
    return xp.asarray(x, dtype=dtype, device=on)


def _strict_to_numpy(x):
    import array_api_strict as xp

    return np.asarray(x.to_device(xp.Device("CPU_DEVICE")))


def _strictest():
    import array_api_strict as xp

    return xp.ArrayAPIStrictFlags(
        boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
    )


def _torch(x, dtype, device="cpu"):
    import torch

    if x.dtype == np.uint64 and dtype is None:
        dtype = "uint64"
    return torch.tensor(x, dtype=dtype and getattr(torch, dtype), device=device)


def _torch_to_numpy(x):
    import torch

    x = x.detach().cpu()
    return (x.double() if x.dtype == torch.bfloat16 else x).numpy()


def _cupy(x, dtype):
    import cupy

    return cupy.asarray(x, dtype=dtype)


def _jax(x, dtype):
    import jax.numpy as jnp

    return jnp.asarray(x, dtype=dtype and getattr(jnp, dtype))


def _jax_to_numpy(x):
    y = np.asarray(x)
    return y.astype(np.float64) if y.dtype.name == "bfloat16" else y


def _dask(x, dtype):
    import dask.array as da

    y = np.array(x, dtype=dtype)
    # Blocks of two along the first axis, which no test maps as a whole without rechunking.
    chunks = (2, *y.shape[1:]) if y.ndim > 1 else -1
    return da.from_array(y, chunks=chunks)


BACKENDS = (
    Backend(
        "numpy", "numpy", ("float16", *FLOATS, *INTEGERS), _numpy, np.asarray, context=no_kernels
    ),
    Backend(
        "numpy-kernels", "numpy", ("float16", *FLOATS, *INTEGERS), _numpy, np.asarray,
        context=kernels_for_all_sizes,
    ),
    Backend(
        "numpy-readonly", "numpy", ("float16", *FLOATS, *INTEGERS), _numpy_readonly, np.asarray,
        context=kernels_for_all_sizes,
    ),
    Backend("strict", "array_api_strict", (*FLOATS, *INTEGERS), _strict, _strict_to_numpy),
    Backend(
        "strictest", "array_api_strict", (*FLOATS, *INTEGERS), _strict, _strict_to_numpy,
        context=_strictest,
    ),
    Backend(
        "strict-other-device", "array_api_strict", (*FLOATS, *INTEGERS),
        lambda x, dtype: _strict(x, dtype, "device1"), _strict_to_numpy, reads_host=False,
    ),
    Backend(
        "torch", "torch", (*HALVES, *FLOATS, *INTEGERS), _torch, _torch_to_numpy,
        context=no_kernels,
    ),
    Backend(
        "torch-kernels", "torch", (*HALVES, *FLOATS, *INTEGERS), _torch, _torch_to_numpy,
        context=kernels_for_all_sizes,
    ),
    Backend(
        "torch-emulated-gpu", "torch", (*HALVES, *FLOATS, *INTEGERS), _torch, _torch_to_numpy,
        context=emulated_gpu,
    ),
    Backend(
        "torch-cuda", "torch", (*HALVES, *FLOATS, *INTEGERS),
        lambda x, dtype: _torch(x, dtype, "cuda"), _torch_to_numpy,
        needs_gpu=True, reads_host=False,
    ),
    Backend(
        "cupy", "cupy", ("float16", *FLOATS, *INTEGERS), _cupy, lambda x: x.get(),
        needs_gpu=True, reads_host=False,
    ),
    Backend(
        "jax", "jax", (*HALVES, *FLOATS, *INTEGERS), _jax, _jax_to_numpy, context=without_numpy
    ),
    Backend("jax-shared", "jax", ("float16", *FLOATS, *INTEGERS), _jax, _jax_to_numpy),
    Backend("dask", "dask", ("float16", *FLOATS, *INTEGERS), _dask, lambda x: x.compute()),
)  # fmt: skip


def with_kernels_and_without(function):
    """What it gives with the kernels, and without."""
    with kernels_for_all_sizes():
        found = function()
    with no_kernels():
        return found, function()
