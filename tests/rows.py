"""Rows that make life hard for a ranking, and their ranks by obvious counting."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

DTYPES = ("float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32",
          "int64", "uint64")  # fmt: skip
FLOATS = ("float16", "float32", "float64")
KINDS = ("random", "few values", "levels", "relu", "clipped", "clipped and crowded", "half zero",
         "rain", "some ties", "constant", "one far away")  # fmt: skip


def rows_of(kind, dtype, shape, rng):
    """Rows that make life hard for a sort."""
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        few = {"few values": 7, "levels": 100, "random": None}.get(kind, 1)
        if few is None:
            return rng.integers(limits.min, limits.max, size=shape, dtype=dtype, endpoint=True)
        return (limits.max - rng.integers(0, few, size=shape).astype(dtype)).astype(dtype)
    x = rng.normal(size=shape)
    tiny = np.finfo(dtype).smallest_subnormal
    if kind == "few values":
        x = rng.choice([-np.inf, np.inf, -0.0, 0.0, tiny, -tiny, 1.0], size=shape)
    elif kind == "levels":
        x = rng.integers(-100, 156, size=shape) / 255 * rng.choice([-0.0, 1.0], p=[0.1, 0.9])
    elif kind == "relu":
        x = np.maximum(x, 0)
    elif kind == "clipped":
        x = np.clip(x, -0.5, 1)
    elif kind == "clipped and crowded":
        x = np.clip(x, 0, 2) ** 9
    elif kind == "half zero":
        x = np.where(rng.random(shape) < 0.5, 0, x)
    elif kind == "rain":  # which on other days is as much as the gauge holds
        x = np.clip(3 * x - 6, 0, 1)
    elif kind == "some ties":  # too few in most rows to speak of a crowd, and too many in the first
        copied = rng.integers(0, shape[-1], size=shape[-1] // 20)
        x[..., copied] = np.flip(x, axis=-1)[..., copied]
        x[0] = np.maximum(x[0], 0)
    elif kind == "constant":
        x = np.where(x > 0, 0.0, -0.0)
    elif kind == "one far away":  # the others agree in all of the bits that words have room for
        x = 1 + 64 * np.finfo(dtype).eps * x
        x[..., 0] = np.finfo(dtype).max
    return x.astype(dtype)


def counted_ranks(x, ties):
    return np.stack([2 * rankdata(row + row.dtype.type(0), method=ties) - 2 for row in x])


def counted_ranks_by_ties(x):
    ranks = {ties: counted_ranks(x, ties) for ties in ("min", "max", "ordinal")}
    return ranks | {"average": (ranks["min"] + ranks["max"]) / 2}


def ascending_order(x):
    return np.argsort(x + x.dtype.type(0), axis=-1, stable=True)


SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)


BITS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: st.tuples(
        st.just(dtype), hnp.arrays(f"u{np.dtype(dtype).itemsize}", SHAPES, fill=st.nothing())
    )
)
