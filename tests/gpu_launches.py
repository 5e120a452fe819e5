"""What is launched on an emulated GPU, and rows that are hard to rank there."""

from __future__ import annotations

import contextlib
import itertools
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import pytest

import groupmap as gm
from groupmap.backends.cuda import launching, programs
from groupmap.mapping import MID_POSITIONS
from groupmap.ranks import COUNTING_TIES
from tests import cuda_emulation, oracle
from tests.emulated_gpu import emulated_gpu
from tests.rows import rows_of

pytest.importorskip("torch")
import torch

from groupmap.backends import torch_cuda

if not cuda_emulation.AVAILABLE:
    pytest.skip("there is no g++ to compile kernels with", allow_module_level=True)

CPU = torch.device("cpu")
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int16", "int32", "int64", "uint16", "uint32", "uint64")
HALVES = FLOATS[:2]
NAMED = sorted(oracle.QUANTILES)
TIES = ("average", "min", "max", "ordinal")
ENTRIES_OF_A_WARP = 512  # and of more, a block takes care
LONGEST_SORTED = 128  # by a warp
NO_ROOM = (100, 132)  # for any row in shared memory

needs_compiler = pytest.mark.skipif(
    find_spec("cuda") is None or find_spec("cuda.core") is None,
    reason="cuda.core is not installed",
)


class Launch(NamedTuple):
    """What an emulated GPU is asked to do."""

    program: programs.Program
    shape: launching.Shape

    @property
    def kernel(self):
        return self.program.kernel


@contextlib.contextmanager
def launches(seed=0, *, run=True, **options):
    """An emulated GPU, on which something is launched; and a list of what is."""
    launched = []
    with emulated_gpu(seed, **options), pytest.MonkeyPatch.context() as patch:
        emulate = launching.launch

        def launch(program, shape, *rest):
            launched.append(Launch(program, shape))
            if run:
                emulate(program, shape, *rest)

        patch.setattr(launching, "launch", launch)
        yield launched
    assert launched


def kernels_of(launched):
    return {each.kernel for each in launched}


def dtype_of(name):
    return getattr(torch, name)


def bytes_of(tensor):
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()


def numbers_in(tensor):
    """The same numbers for NumPy, which has no bfloat16."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def random_signs(rng, shape, bits):
    return rng.integers(0, 2, size=shape, dtype=np.uint64) << (bits - 1)


def any_bits(rng, numbers, shape):
    """Bit patterns of all numbers, and of infinities."""
    most = numbers.infinity or 2 ** (numbers.bits - 1) - 1
    magnitudes = rng.integers(0, most, size=shape, dtype=np.uint64, endpoint=True)
    return magnitudes | random_signs(rng, shape, numbers.bits)


def half_zeros(rng, numbers, shape):
    return np.where(rng.random(shape) < 0.5, np.uint64(0), any_bits(rng, numbers, shape))


def clusters(rng, shape, starts):
    """Bit patterns one after the other, from each start."""
    n = shape[-1]
    of_row = np.resize(np.asarray(starts, dtype=np.uint64), n)
    of_row += np.arange(n, dtype=np.uint64) // np.uint64(len(starts))
    return np.stack([rng.permutation(of_row) for _ in range(shape[0])])


def one_far_away(rng, numbers, shape):
    """All but one in a single bucket, if there are many bits."""
    top = 1 << (numbers.bits - 1)
    patterns = clusters(rng, shape, [top // 2 - (1 << numbers.mantissa)])  # 1.0, of floats
    patterns[:, 0] = top - (top >> 4)
    return patterns


def several_clusters(rng, numbers, shape):
    return clusters(
        rng, shape, [(each << (numbers.bits - 6)) + 3 for each in (1, 2, 5, 11, 40, 45)]
    )


def geometric_clusters(rng, numbers, shape):
    exponents = rng.integers(0, numbers.bits - 2, size=shape, dtype=np.uint64)
    magnitudes = (1 << exponents) + rng.integers(0, 40, size=shape, dtype=np.uint64)
    return magnitudes | random_signs(rng, shape, numbers.bits)


HARD_BITS = (any_bits, half_zeros, one_far_away, several_clusters, geometric_clusters)
HARD_VALUES = ("random", "few values", "relu", "some ties", "constant", "one far away")
KINDS = (*HARD_VALUES, *itertools.product(HARD_BITS, ("as drawn", "ascending", "descending")))


def hard_rows(kind, dtype, shape, rng):
    """A tensor of rows without NaN that make life hard for buckets."""
    if kind in HARD_VALUES:
        rows = rows_of(kind, "float32" if dtype == "bfloat16" else dtype, shape, rng)
        return torch.as_tensor(rows).to(dtype_of(dtype))
    draw, arrangement = kind
    numbers = programs.numbers_of(dtype_of(dtype))
    patterns = (
        draw(rng, numbers, shape).astype(f"u{numbers.bits // 8}").view(f"i{numbers.bits // 8}")
    )
    rows = torch.as_tensor(patterns).view(dtype_of(dtype))
    if arrangement != "as drawn":
        order = np.argsort(numbers_in(rows), axis=-1)
        order = order if arrangement == "ascending" else np.flip(order, axis=-1)
        patterns = np.take_along_axis(patterns, order, axis=-1)
    return torch.as_tensor(patterns).view(dtype_of(dtype))


def map_with_order(x, where, ties="average"):
    """The normal map of rows, and their order."""
    table = torch_cuda.table_of_formula(
        gm.gaussian.formula, x.shape[-1], MID_POSITIONS, torch.float32, CPU
    )
    return torch_cuda.map_rows(
        x, where, table, COUNTING_TIES.get(ties), gm.gaussian.formula, MID_POSITIONS,
        with_order=True,
    )  # fmt: skip
