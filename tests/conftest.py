"""Fixtures: every array library, and the numbers of groupmap 0.1."""

from __future__ import annotations

import contextlib
import gc
import json
import os
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from tests.backends import BACKENDS, kernels_for_all_sizes, no_kernels

DATA = Path(__file__).parent / "data"

settings.register_profile("groupmap", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("groupmap")

# With all libraries imported, every sixth second went to looking for cycles among what they keep.
gc.set_threshold(10_000, 20, 50)

# JAX compiles each operation anew for each shape, thousands of them here, and what takes the time
# is to make them fast. Its compiler aborts on options that it does not know, which come and go.
OPTIONS_OF_XLA = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"

# Inductor: no processes that import torch, too, no programs that find out about the processor, and
# plain loops, as vectors take twice as long to compile. Here and not in a test: inductor asks for
# the processor once a process, and what one test turns off would be off for those after it, too.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "0")

if find_spec("jax"):
    if version("jax").startswith("0.10."):
        os.environ.setdefault("XLA_FLAGS", OPTIONS_OF_XLA)
    import jax

    jax.config.update("jax_enable_x64", True)


@pytest.fixture(params=BACKENDS, ids=repr)
def backend(request):
    """One array library after the other; skips with the reason where it is not there."""
    request.param.skip_if_absent()
    with request.param.context():
        yield request.param


@pytest.fixture(params=[each for each in BACKENDS if each.module != "dask"], ids=repr)
def eager_backend(request):
    """The libraries that rank by themselves: Dask has its blocks' library do it."""
    request.param.skip_if_absent()
    with request.param.context():
        yield request.param


TABLES = ("numpy", "torch", "torch-cuda", "cupy", "jax", "jax-shared")


@pytest.fixture(params=[each for each in BACKENDS if each.name in TABLES], ids=repr)
def library(request):
    """The libraries whose arrays a transformer takes; kernels as they are by default."""
    request.param.skip_if_absent()
    is_jax = request.param.module == "jax"
    with request.param.context() if is_jax else contextlib.nullcontext():
        yield request.param


@pytest.fixture(
    params=[(each, dtype) for each in BACKENDS for dtype in each.dtypes],
    ids=lambda pair: f"{pair[0]}-{pair[1]}",
)
def typed_backend(request):
    """Every library with every dtype that it has."""
    backend, dtype = request.param
    backend.skip_if_absent()
    with backend.context():
        yield backend, dtype


@pytest.fixture(params=[no_kernels, kernels_for_all_sizes], ids=["plain", "kernels"])
def with_and_without_kernels(request):
    """Every test of a module that uses it: once without the compiled kernels, once with them."""
    with request.param():
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)


def golden_cases():
    """The calls that made the layers of groupmap 0.1."""
    return json.loads((DATA / "reference_v0_1.json").read_text())


@pytest.fixture(scope="session")
def golden():
    """Inputs, parameters and outputs of groupmap 0.1."""
    with np.load(DATA / "reference_v0_1.npz") as arrays:
        return dict(arrays)
