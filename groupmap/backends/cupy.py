"""CuPy: its own special functions and generators; nothing passes through the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cupy
import numpy as np
from cupyx.scipy import special

from groupmap._typing import Array, DType, Namespace, RandomSource
from groupmap.backends import generic


def ndtri(p: Array, xp: Namespace) -> Array:
    """The quantile function of the standard normal distribution."""
    del xp
    return special.ndtri(p)


def ndtr(x: Array, xp: Namespace) -> Array:
    """The cdf of the standard normal distribution."""
    del xp
    return special.ndtr(x)


def _generator(rng: RandomSource) -> Any:
    remedy = "pass rng=cupy.random.default_rng(seed), or the seed itself."
    if rng is None:
        raise ValueError(
            "rng=None: eps > 0 and ties='random' draw random numbers and need a generator; "
            + remedy
        )
    if isinstance(rng, cupy.random.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)):
        raise TypeError(f"rng={rng!r} is no generator for CuPy arrays; {remedy}")
    return cupy.random.default_rng(rng)


def standard_normal(like: Array, dtype: DType, rng: RandomSource, xp: Namespace) -> Array:
    """Standard normal draws on the device of `like`, made in float64 and rounded to `dtype`."""
    del xp
    with like.device:
        return _generator(rng).standard_normal(like.shape).astype(dtype)


def random_keys(like: Array, rng: RandomSource, xp: Namespace) -> Array:
    """Uniform draws on the device of `like`."""
    del xp
    with like.device:
        return _generator(rng).random(like.shape)


def to_host(x: Array) -> np.ndarray[Any, Any]:
    """Return an array as a NumPy array."""
    return x.get()  # type: ignore[no-any-return]  # CuPy has no type hints


OPS = replace(
    generic.OPS,
    ndtri=ndtri,
    ndtr=ndtr,
    standard_normal=standard_normal,
    random_keys=random_keys,
    to_host=to_host,
)
