"""A promise: ranks are those that NumPy counts."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.failures import BrokenPromiseError
from groupmap.backends import ops_for

RANK_LENGTHS = (
    1, 2, 3, 31, 32, 33, 64, 127, 255, 512, 513, 1000, 2048, 4096, 4097, 8192, 8193, 16_384,
    20_000, 25_088, 32_768, 36_000, 65_535, 65_536, 100_000,
)  # fmt: skip
RANK_DTYPES = (
    "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip


def rank_inputs(dtype: str, n: int) -> Tensor:
    """Rows without NaN on the host: plain, tied, of extremes, of neighbours, constant."""
    rng = np.random.default_rng(n)
    of_torch = getattr(torch, dtype)
    if of_torch.is_floating_point:
        about = torch.finfo(of_torch)
        extremes = (0.0, -0.0, np.inf, -np.inf, about.max, about.min, about.tiny, about.tiny / 4)
        neighbours = 1.0 + about.eps * rng.permutation(n)
        neighbours[0] = about.max
        found = [
            rng.normal(size=n), rng.normal(size=n).round(), rng.choice(extremes, n), neighbours,
            np.ones(n),
        ]  # fmt: skip
        return torch.from_numpy(np.stack(found)).to(of_torch)
    range_of = np.iinfo(dtype)
    found = [
        rng.integers(range_of.min, range_of.max, n, dtype=dtype, endpoint=True),
        rng.integers(0, 5, n, dtype=dtype),
        rng.choice(np.array([range_of.min, range_of.max, 0], dtype=dtype), n),
        np.ones(n, dtype=dtype),
    ]
    return torch.from_numpy(np.stack(found))


def check_ranks(library: str, dtype: str, device: str = "cuda") -> str:
    """Numbers of lesser entries, and of those at most equal, as NumPy counts them."""
    for n in RANK_LENGTHS:
        rows = rank_inputs(dtype, n)
        # NumPy has no bfloat16, whose values single precision has.
        on_host = (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()
        expected = _counted(on_host)
        if library == "cupy":
            import cupy

            found = _counted(cupy.asarray(on_host))
        else:
            found = _counted(rows.to(device))
        for relation, ours, numpys in zip("<≤", found, expected, strict=True):
            if not np.array_equal(ours, numpys):
                raise BrokenPromiseError(
                    f"n = {n}: {np.sum(ours != numpys)} counts of {relation} differ"
                )
    return f"{len(RANK_LENGTHS)} lengths to {RANK_LENGTHS[-1]}"


def _counted(rows: Any) -> list[np.ndarray]:
    xp = array_api_compat.array_namespace(rows)
    ops = ops_for(xp)
    counts = ops.count_less(ops.sortable(rows, xp), xp)
    return [np.asarray(ops.to_host(each), dtype=np.int64) for each in counts]
