"""CuPy: kernels for the map, its own special functions and generators; all on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cupy
import numpy as np
from cupyx.scipy import special

from groupmap._typing import Array, DType, Namespace, RandomSource
from groupmap.backends import cuda, generic
from groupmap.backends._ops import Ask, Formula, Kind, Kinds, MapWanted, TieRule
from groupmap.backends.cuda import launching, on_arrays, steps
from groupmap.backends.cuda.launching import Place


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


class _Device(cupy.cuda.Device):  # type: ignore[misc]  # CuPy has no type hints
    """A device that can be a key, by which tables are remembered."""

    def __hash__(self) -> int:
        return int(self.id)


def device(x: Array) -> _Device:
    """Where x lies."""
    return _Device(x.device.id)


def can_read(x: Array) -> bool:
    """Not while what is done is only noted, for a CUDA graph."""
    return not cupy.cuda.get_current_stream(x.device.id).is_capturing()


def _array(made_by: Callable[..., Array]) -> Callable[..., Array]:
    """A function that makes arrays of a shape and a dtype, on a device."""

    def on_device(shape: tuple[int, ...], dtype: DType | str, device: cupy.cuda.Device) -> Array:
        with device:
            return made_by(shape, dtype=dtype)

    return on_device


def _contiguous(x: Array) -> Array:
    with x.device:
        return cupy.ascontiguousarray(x)


MEMORY = on_arrays.Memory(
    reaches=lambda device: cuda.INSTALLED and launching.serves(device.id),
    contiguous=_contiguous,
    address=lambda x: x.data.ptr,
    empty=_array(cupy.empty),
    empty_like=lambda x, dtype: _array(cupy.empty)(x.shape, dtype, x.device),
    zeros=_array(cupy.zeros),
    place=lambda device: Place(device.id, cupy.cuda.get_current_stream(device.id).ptr),
    current=lambda device: cupy.cuda.Device(device.id),
)


def count_less(rows: Array, xp: Namespace) -> tuple[Array, Array]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    if on_arrays.serve(MEMORY, rows):
        return on_arrays.count_less(MEMORY, rows)
    return generic.count_less(rows, xp)


def rank_and_gather(
    rows: Array, table: Array, tie_rule: TieRule | None, with_order: bool, xp: Namespace
) -> tuple[Array, Array | None]:
    """The value of the table at each entry's doubled mid-rank."""
    if on_arrays.serve(MEMORY, rows):
        # Nothing differentiates here, so nothing asks for the order.
        return on_arrays.map_rows(MEMORY, rows, None, table, tie_rule, with_order=False)
    return generic.rank_and_gather(rows, table, tie_rule, with_order, xp)


def map_rows(
    rows: Array, where: Array | None, table: Callable[[], Array], wanted: MapWanted
) -> tuple[Array, Array | None] | None:
    """The whole map by kernels that need not know what is missing; nothing differentiates here."""
    if not on_arrays.serve(MEMORY, rows):
        return None
    return on_arrays.map_rows(
        MEMORY, rows, where, table(), wanted.tie_rule, wanted.formula, wanted.parameters,
        with_order=False, scale=wanted.scale,
    )  # fmt: skip


def repeats(x: Array, weight: Array | None, bias: Array | None) -> Kinds | None:
    """Not while a graph is captured, whose memory is not to be that of a step."""
    given = [each for each in (x, weight, bias) if each is not None]
    if not can_read(x) or not all(each.flags.c_contiguous for each in given):
        return None
    of_x, of_weight, of_bias = (
        None if each is None else Kind(each.shape, each.dtype, device(each))
        for each in (x, weight, bias)
    )
    assert of_x is not None
    return of_x, of_weight, of_bias


def step(ask: Ask, table: Array) -> steps.Step | None:
    """Of rows that fit a block."""
    return steps.step(MEMORY, ask, table)


def settle(array: Array) -> None:
    """Other streams do not wait for the one that made it."""
    cupy.cuda.get_current_stream(array.device.id).synchronize()


def has_native_map(x: Array) -> bool:
    """Whether kernels are there."""
    return MEMORY.reaches(x.device)


def table_of_formula(
    formula: Formula,
    n: int,
    parameters: tuple[float, float],
    dtype: DType,
    device: cupy.cuda.Device,
) -> Array | None:
    """The table by the code that `map_rows` evaluates the formula with."""
    if not MEMORY.reaches(device):
        return None
    return on_arrays.table_of_formula(MEMORY, formula, n, parameters, dtype, device)


def interpolator(
    knots: Array, values: Array, on_runs: str
) -> Callable[[Array], Array | None] | None:
    """A kernel for doubles."""
    return on_arrays.interpolator(MEMORY, knots, values, on_runs)


def order_statistics(sorted_rows: Array, index: Array) -> Array | None:
    """A kernel for indices in double precision."""
    return on_arrays.order_statistics(MEMORY, sorted_rows, index)


def reads_at_once(x: Array) -> bool:
    """Never: the device has to finish first."""
    del x
    return False


OPS = replace(
    generic.OPS,
    count_less=count_less,
    rank_and_gather=rank_and_gather,
    map_rows=map_rows,
    repeats=repeats,
    step=step,
    settle=settle,
    device=device,
    can_read=can_read,
    has_native_map=has_native_map,
    table_of_formula=table_of_formula,
    interpolator=interpolator,
    order_statistics=order_statistics,
    reads_at_once=reads_at_once,
    ndtri=ndtri,
    ndtr=ndtr,
    standard_normal=standard_normal,
    random_keys=random_keys,
    to_host=to_host,
)
