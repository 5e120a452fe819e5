"""JAX: what is traced as one program, what lies in main memory by NumPy; keys as its source of
randomness, and gradients that are said and not inherited."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import array_api_compat.numpy
import jax
import jax.numpy as jnp
import numpy as np

from groupmap._typing import Array, DType, Namespace, RandomSource, Side
from groupmap.backends import Ops, TieRule, generic, numpy
from groupmap.backends._ops import LineOfRanks

MOST_PROGRAMS = 128  # that are kept, each for as many shapes as it is asked for
PLATFORM_OF_NUMPY = "cpu"


def _is_key(rng: RandomSource) -> bool:
    return isinstance(rng, jax.Array) and (
        jnp.issubdtype(rng.dtype, jax.dtypes.prng_key) or rng.dtype == jnp.uint32
    )


def _host_generator(like: Array, rng: RandomSource) -> np.random.Generator:
    remedy = "pass rng=jax.random.key(seed), as an argument of the function where it is traced."
    if isinstance(like, jax.core.Tracer):
        raise TypeError(
            f"rng={rng!r} would draw on the host, and only once for a traced function; {remedy}"
        )
    return generic.host_generator(rng, remedy)


def _keys(rows: Array) -> Array:
    """Integers that compare as the rows' entries do, which XLA sorts several times as fast on a
    CPU, and by digits on a GPU."""
    if not jnp.issubdtype(rows.dtype, jnp.floating):
        return rows
    rows = jnp.where(rows == 0.0, jnp.zeros_like(rows), rows)  # which may be negative
    kind = jnp.dtype(f"i{rows.dtype.itemsize}")
    return _flipped_where_negative(jax.lax.bitcast_convert_type(rows, kind))


def _flipped_where_negative(bits: Array) -> Array:
    """What makes keys of bits makes bits of keys."""
    kind = np.iinfo(bits.dtype)
    return bits ^ ((bits >> (kind.bits - 1)) & bits.dtype.type(kind.max))


def sort_rows(rows: Array, xp: Namespace, dtype: DType | None = None) -> Array:
    """Each row in ascending order."""
    is_real = xp.issubdtype(rows.dtype, xp.floating)
    ascending = _sorted_floats(rows) if is_real else xp.sort(rows, axis=-1, stable=False)
    return ascending if dtype is None else xp.astype(ascending, dtype, copy=False)


@jax.custom_jvp
def _sorted_floats(rows: Array) -> Array:
    keys = jnp.sort(_keys(rows), axis=-1, stable=False)
    return jax.lax.bitcast_convert_type(_flipped_where_negative(keys), rows.dtype)


@_sorted_floats.defjvp
def _sorted_floats_jvp(rows: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """What is sorted as integers has no derivative of its own."""
    order = stable_argsort(rows[0], jnp)
    return _sorted_floats(rows[0]), jnp.take_along_axis(tangents[0], order, axis=-1)


def stable_argsort(rows: Array, xp: Namespace) -> Array:
    """The order of each row's entries, equal ones in order of appearance."""
    if are_shared_with_numpy(rows):
        return _placed_as(rows, numpy.stable_argsort(np.asarray(rows), array_api_compat.numpy))
    return xp.argsort(_keys(rows), axis=-1, stable=True)


def rank_and_gather(
    rows: Array, table: Array, tie_rule: TieRule | None, with_order: bool, xp: Namespace
) -> tuple[Array, Array | None]:
    """The value of the table at each entry's doubled mid-rank; and the order, if it was found."""
    if are_shared_with_numpy(rows, table):
        shared = np.asarray(rows), np.asarray(table)
        y, _ = numpy.rank_and_gather(*shared, tie_rule, with_order, array_api_compat.numpy)
        return _placed_as(rows, y), None
    if tie_rule is None:
        order = stable_argsort(rows, xp)
        index = xp.broadcast_to(xp.arange(rows.shape[-1]), rows.shape)
        return xp.take(table, 2 * unsort(index, order, xp), axis=0), order
    return xp.take(table, tie_rule.doubled_midrank(*count_less(rows, xp)), axis=0), None


def search_rows(sorted_rows: Array, values: Array, side: Side, xp: Namespace) -> Array:
    """`searchsorted` on the last axis: floats by NumPy, which has a way for them, where it sees
    them; else as one loop for all rows."""
    are_floats = xp.issubdtype(sorted_rows.dtype, xp.floating)
    if are_floats and are_shared_with_numpy(sorted_rows, values):
        shared = np.asarray(sorted_rows), np.asarray(values)
        return _placed_as(values, numpy.search_rows(*shared, side, array_api_compat.numpy))
    search = partial(jnp.searchsorted, side=side)
    for _ in sorted_rows.shape[:-1]:
        search = jax.vmap(search)
    return search(sorted_rows, values)


def count_less(rows: Array, xp: Namespace) -> tuple[Array, Array]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    keys = _keys(rows)
    ascending = xp.sort(keys, axis=-1, stable=False)
    less = search_rows(ascending, keys, "left", xp)  # where the run of the entry's equals begins
    _, ends = runs(ascending, xp)
    return less, xp.take_along_axis(ends, less, axis=-1)


def runs(sorted_rows: Array, xp: Namespace) -> tuple[Array, Array]:
    """Where the run of equals of each entry begins, and where the next one does."""
    n, axis = sorted_rows.shape[-1], sorted_rows.ndim - 1
    index = xp.arange(n, dtype=xp.int32)
    differs = sorted_rows[..., 1:] != sorted_rows[..., :-1]
    at_end = xp.ones_like(sorted_rows[..., :1], dtype=xp.bool)
    is_first, is_last = (
        xp.concat(each, axis=-1) for each in ([at_end, differs], [differs, at_end])
    )
    return (
        jax.lax.cummax(xp.where(is_first, index, 0), axis=axis),
        jax.lax.cummin(xp.where(is_last, index + 1, n), axis=axis, reverse=True),
    )


def unsort(values: Array, order: Array, xp: Namespace) -> Array:
    """Back where the values stood, put there one by one."""
    return xp.put_along_axis(xp.empty_like(values), order, values, axis=-1, inplace=False)


def ndtri(p: Array, xp: Namespace) -> Array:
    """The quantile function of the standard normal distribution."""
    del xp
    return jax.scipy.special.ndtri(p)


def ndtr(x: Array, xp: Namespace) -> Array:
    """The cdf of the standard normal distribution."""
    del xp
    return jax.scipy.special.ndtr(x)


def standard_normal(like: Array, dtype: DType, rng: RandomSource, xp: Namespace) -> Array:
    """Standard normal draws, from a JAX key or (outside of tracing) a NumPy generator."""
    if _is_key(rng):
        return jax.random.normal(rng, like.shape, dtype)
    return generic.standard_normal(like, dtype, _host_generator(like, rng), xp)


def random_keys(like: Array, rng: RandomSource, xp: Namespace) -> Array:
    """Uniform draws, from a JAX key or (outside of tracing) a NumPy generator."""
    if _is_key(rng):
        return jax.random.uniform(rng, like.shape)
    return generic.random_keys(like, _host_generator(like, rng), xp)


def is_concrete(x: Array) -> bool:
    """Whether NumPy may read the data of x."""
    return not isinstance(x, jax.core.Tracer)


def can_read(x: Array) -> bool:
    """Whether Python may branch on what is computed of x: within `jit`, not even of constants."""
    return is_concrete(x) and is_concrete(jax.lax.add(1.0, 1.0))


def screen(x: Array, xp: Namespace) -> tuple[bool, bool]:
    """Whether any float is NaN, and whether any is infinite or NaN: each is asked, since on a CPU
    XLA leaves NaN out of the greatest of many (https://github.com/openxla/xla/issues/21461)."""
    if are_shared_with_numpy(x):
        return numpy.screen(np.asarray(x), array_api_compat.numpy)
    return bool(xp.any(xp.isnan(x))), not bool(xp.all(xp.isfinite(x)))


def normalize_rows(
    x: Array, rows: Callable[[], Array], tie_rule: TieRule | None, line: LineOfRanks
) -> Array | None:
    """NumPy's, for arrays that it sees."""
    if not are_shared_with_numpy(x):
        return None
    y = numpy.normalize_rows(np.asarray(x), lambda: np.asarray(rows()), tie_rule, line)
    return None if y is None else _placed_as(x, y)


def device(x: Array) -> Any:
    """Where x lies; None, wherever JAX likes, if it is spread over several devices."""
    place = array_api_compat.device(x)
    return place if isinstance(place, jax.Device) else None


def wants_gradient(*arrays: Array) -> bool:
    """Any real array may be differentiated: what asks for it is seen only later."""
    return any(jnp.issubdtype(each.dtype, jnp.floating) for each in arrays)


def connect(
    y: Array, x: Array, saved: tuple[Array | None, ...], vjp: Callable[..., Array], sees_y: bool
) -> Array:
    """Return y, with ``vjp(x, y, grad, *saved)`` as its gradient to x."""
    del sees_y

    @jax.custom_vjp
    def connected(y: Array, x: Array, saved: tuple[Array | None, ...]) -> Array:
        del x, saved
        return y

    def forward(y: Array, x: Array, saved: tuple[Array | None, ...]) -> tuple[Array, Any]:
        # What comes out depends on x here, too: a second derivative differentiates this.
        return connected(y, x, saved), (x, y, saved)

    def backward(residuals: Any, grad: Array) -> tuple[Array, Array, None]:
        # A second derivative takes the Jacobian as constant.
        x, y, saved = jax.lax.stop_gradient(residuals)
        return grad, vjp(x, y, grad, *saved).astype(x.dtype), None

    connected.defvjp(forward, backward)
    return connected(y, x, saved)


def program(function: Callable[..., Array], **fixed: Any) -> Callable[..., Array]:
    """The function: by NumPy where its arrays lie in main memory, else compiled for each shape."""

    def run(*arrays: Any) -> Any:
        if not are_shared_with_numpy(*arrays):
            return compiled(function, **fixed)(*arrays)
        changed = {"xp": array_api_compat.numpy, "ops": numpy.OPS}
        if "dtype" in fixed:
            changed["dtype"] = np.dtype(fixed["dtype"])
        with np.errstate(all="ignore"):  # as JAX does
            results = function(*jax.tree.map(np.asarray, arrays), **fixed | changed)
        like = max(jax.tree.leaves(arrays), key=lambda each: each.committed)
        return jax.tree.map(lambda result: _placed_as(like, result), results)

    return run


@lru_cache(maxsize=MOST_PROGRAMS)
def compiled(function: Callable[..., Array], **fixed: object) -> Callable[..., Array]:
    """The function as one program of XLA, which sorts many times slower than NumPy on a CPU."""
    return jax.jit(partial(function, **fixed))


def are_shared_with_numpy(*arrays: Any) -> bool:
    """Whether NumPy sees the memory of all of them, and has their dtypes; they are on one device,
    unless they are bound to none."""
    leaves = jax.tree.leaves(arrays)
    return all(
        is_concrete(each)
        and each.dtype.isbuiltin == 1  # to NumPy, to which bfloat16 is not
        and [device.platform for device in each.devices()] == [PLATFORM_OF_NUMPY]
        for each in leaves
    ) and (len({device for each in leaves if each.committed for device in each.devices()}) <= 1)


def _placed_as(like: Array, result: np.ndarray[Any, Any]) -> Array:
    """The result on the device of an array; bound to it only if that one is."""
    (device,) = like.devices()
    if like.committed:
        return jax.device_put(result, device)
    with jax.default_device(device):
        return jnp.asarray(result)


def sums_in_order(values: Array, order: Array) -> Array | None:
    """NumPy's, for arrays that it sees."""
    if not are_shared_with_numpy(values, order):
        return None
    sums = numpy.sums_in_order(np.asarray(values), np.asarray(order))
    return None if sums is None else _placed_as(values, sums)


def interpolator(
    knots: Array, values: Array, on_runs: str
) -> Callable[[Array], Array | None] | None:
    """NumPy's, for arrays that it sees."""
    if not are_shared_with_numpy(knots, values):
        return None
    native = numpy.interpolator(np.asarray(knots), np.asarray(values), on_runs)
    if native is None:
        return None

    def at(x: Array) -> Array | None:
        y = native(np.asarray(x)) if are_shared_with_numpy(x, knots) else None
        return None if y is None else _placed_as(knots, y)

    return at


def scale_learning(y: Array, weight: Array | None, bias: Array | None, dtype: DType) -> Array:
    """The same, as one program; whether something learns is seen only later."""
    del dtype
    return program(_scaled_where_valid, xp=jnp, ops=OPS)(y, weight, bias)


def _scaled_where_valid(
    y: Array, weight: Array | None, bias: Array | None, *, xp: Namespace, ops: Ops
) -> Array:
    missing = xp.isnan(y)
    return xp.where(missing, xp.nan, ops.scale(xp.where(missing, 0.0, y), weight, bias))


OPS = replace(
    generic.OPS,
    sort_rows=sort_rows,
    stable_argsort=stable_argsort,
    count_less=count_less,
    rank_and_gather=rank_and_gather,
    interpolator=interpolator,
    sums_in_order=sums_in_order,
    runs=runs,
    unsort=unsort,
    search_rows=search_rows,
    ndtri=ndtri,
    ndtr=ndtr,
    standard_normal=standard_normal,
    random_keys=random_keys,
    can_read=can_read,
    screen=screen,
    normalize_rows=normalize_rows,
    device=device,
    reads_at_once=can_read,
    keeps_tables=False,  # made inside jit, even of constants, they are tracers
    detach=jax.lax.stop_gradient,
    wants_gradient=wants_gradient,
    connect=connect,
    scale_learning=scale_learning,
    program=program,
    programs_read=are_shared_with_numpy,
)
