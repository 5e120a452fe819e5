"""Dask: block by block, lazily, with the primitives of the blocks' own library."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array

from groupmap._typing import Array, DType, Namespace, RandomSource
from groupmap.backends import generic, namespace_and_ops
from groupmap.backends._ops import Ops


def check(x: Array, name: str) -> None:
    """Unknown chunk sizes hide where the groups lie; masked blocks hide what is missing."""
    if any(math.isnan(size) for size in x.shape):
        raise ValueError(
            f"{name} has unknown chunk sizes {x.chunks}: where the groups lie cannot be told; "
            f"call {name}.compute_chunk_sizes() first."
        )
    if isinstance(meta_from_array(x), np.ma.MaskedArray):  # type: ignore[no-untyped-call]
        raise TypeError(
            f"{name} holds masked arrays; fill them by NaN first, with "
            f"dask.array.ma.filled({name}, numpy.nan)."
        )


def _check_whole(x: Array, whole_axes: Sequence[int]) -> None:
    split = [axis for axis in whole_axes if len(x.chunks[axis]) > 1]
    if split:
        remedy = ", ".join(f"{axis}: -1" for axis in split)
        raise ValueError(
            f"x is chunked along axes {split}, of which each is mapped as a whole, or has a target "
            f"for each group (chunks {x.chunks}); call x.rechunk({{{remedy}}}) first."
        )


def over_blocks(
    function: Callable[..., Array],
    x: Array,
    companions: Sequence[Array | None],
    reference: Array | None,
    *,
    whole_axes: Sequence[int],
    dtype: DType,
    xp: Namespace,
    ops: Ops,
) -> Array:
    """The function of each block of x and of the same blocks of what comes with it."""
    del xp, ops
    _check_whole(x, whole_axes)
    beside: list[Array | None] = [c if c is None else c.rechunk(x.chunks) for c in companions]
    shared = None
    if reference is not None and reference.ndim == 1:
        shared = reference  # a keyword reaches every block as one array
    elif reference is not None:
        beside.append(_chunked_like(reference, x, whole_axes))

    def on_block(x: Array, *blocks: Array, reference: Array | None = None) -> Array:
        rest = iter(blocks)
        arguments = [None if array is None else next(rest) for array in beside]
        if len(arguments) == len(companions):
            arguments.append(reference)
        xp, ops = namespace_and_ops(x=x)
        return function(x, *arguments, xp=xp, ops=ops)

    return da.map_blocks(  # type: ignore[no-untyped-call]  # Dask has few types
        on_block,
        x,
        *(array for array in beside if array is not None),
        reference=shared,
        meta=meta_from_array(x, dtype=dtype),  # type: ignore[no-untyped-call]
    )


def _chunked_like(reference: Array, x: Array, whole_axes: Sequence[int]) -> Array:
    """The reference in one block along the mapped axes, and in x's blocks along the others."""
    return reference.rechunk(
        tuple(-1 if axis in whole_axes else x.chunks[axis] for axis in range(x.ndim))
    )


def _refuse_other_generators(rng: RandomSource) -> None:
    if not isinstance(rng, da.random.Generator):
        error = ValueError if rng is None else TypeError
        raise error(
            f"rng={rng!r} is no generator for Dask arrays, which eps > 0 and ties='random' need; "
            "pass rng=dask.array.random.default_rng(seed)."
        )


def standard_normal(like: Array, dtype: DType, rng: RandomSource, xp: Namespace) -> Array:
    """Standard normal draws in the chunks of `like`."""
    del xp
    _refuse_other_generators(rng)
    return rng.standard_normal(like.shape, chunks=like.chunks).astype(dtype)


def random_keys(like: Array, rng: RandomSource, xp: Namespace) -> Array:
    """Uniform draws in the chunks of `like`."""
    del xp
    _refuse_other_generators(rng)
    return rng.random(like.shape, chunks=like.chunks)


OPS = replace(
    generic.OPS,
    check=check,
    standard_normal=standard_normal,
    random_keys=random_keys,
    over_blocks=over_blocks,
)
