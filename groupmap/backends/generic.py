"""The primitives in nothing but the array API standard: any compliant library runs on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import array_api_compat
import array_api_extra as xpx
import numpy as np

from groupmap._typing import Array, DType, Namespace, RandomSource, Side
from groupmap.backends._normal import ndtr, ndtri
from groupmap.backends._ops import OfFeatures, Ops, TieRule


def check(x: Array, name: str) -> None:
    """Every array of the standard can be mapped."""
    del x, name


def sortable(rows: Array, xp: Namespace) -> Array:
    """Return the rows themselves: the standard sorts and compares every real dtype."""
    del xp
    return rows


def count_less(rows: Array, xp: Namespace) -> tuple[Array, Array]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    ascending = sort_rows(rows, xp)
    return (
        search_rows(ascending, rows, "left", xp),
        search_rows(ascending, rows, "right", xp),
    )


def rank_and_gather(
    rows: Array, table: Array, tie_rule: TieRule | None, with_order: bool, xp: Namespace
) -> tuple[Array, Array | None]:
    """The value of the table at each entry's doubled mid-rank; and the order, if it was found."""
    del with_order
    order = None
    if tie_rule is None:
        order = stable_argsort(rows, xp)
        h = 2 * stable_argsort(order, xp)  # the inverse permutation
    else:
        h = tie_rule.doubled_midrank(*count_less(rows, xp))
    return xp.reshape(xp.take(table, xp.reshape(h, (-1,)), axis=0), h.shape), order


def settle(array: Array) -> None:
    """What is made here is there."""
    del array


def has_native_map(x: Array) -> bool:
    """There is none."""
    del x
    return False


def runs(sorted_rows: Array, xp: Namespace) -> tuple[Array, Array] | None:
    """Where the run of equals of each entry begins, and where the next one does."""
    return (
        search_rows(sorted_rows, sorted_rows, "left", xp),
        search_rows(sorted_rows, sorted_rows, "right", xp),
    )


def prefix_sums(values: Array, xp: Namespace) -> Array:
    """The sums of the first 0, 1, … n entries of each row."""
    return xp.cumulative_sum(values, axis=-1, include_initial=True)


def unsort(values: Array, order: Array, xp: Namespace) -> Array:
    """Back where the values stood: by the inverse permutation, as the standard has no scatter."""
    return xp.take_along_axis(values, stable_argsort(order, xp), axis=-1)


def search_rows(sorted_rows: Array, values: Array, side: Side, xp: Namespace) -> Array:
    """`searchsorted` on the last axis, each row of values in its own sorted row."""
    return xpx.searchsorted(sorted_rows, values, side=side, xp=xp)


def sort_rows(rows: Array, xp: Namespace, dtype: DType | None = None) -> Array:
    """Each row in ascending order."""
    ascending = xp.sort(rows, axis=-1, stable=False)
    return ascending if dtype is None else xp.astype(ascending, dtype, copy=False)


def in_blocks(function: Callable[..., Array], arrays: Sequence[Array], dtype: DType) -> Array:
    """The function of all of them."""
    del dtype
    return function(*arrays)


def by_features(
    function_of: OfFeatures, table: Array, at_once: int, dtype: DType, *, learns: bool
) -> Array:
    """All of them at once."""
    del at_once, dtype, learns
    return function_of(slice(None))(table)


def stack_of(function: Callable[[int], Array], count: int, dtype: DType, xp: Namespace) -> Array:
    """One after the other."""
    del dtype
    return xp.stack([function(i) for i in range(count)])


def stable_argsort(rows: Array, xp: Namespace) -> Array:
    """The order of each row's entries, equal ones in order of appearance."""
    return xp.argsort(rows, axis=-1, stable=True)


def host_generator(
    rng: RandomSource, remedy: str = "pass rng=numpy.random.default_rng(seed), or the seed itself."
) -> np.random.Generator:
    """The NumPy generator that `rng` names: a Generator, or a seed for one."""
    if rng is None:
        raise ValueError(
            "rng=None: eps > 0 and ties='random' draw random numbers and need a generator; "
            + remedy
        )
    if isinstance(rng, bool) or not isinstance(rng, (np.random.Generator, int, np.integer)):
        raise TypeError(f"rng={rng!r} is no generator for this array library; {remedy}")
    if not isinstance(rng, np.random.Generator) and rng < 0:
        raise ValueError(f"rng={rng} is negative, which no seed is; {remedy}")
    return np.random.default_rng(rng)


def standard_normal(like: Array, dtype: DType, rng: RandomSource, xp: Namespace) -> Array:
    """Standard normal draws, made by NumPy in float64 and rounded to `dtype`."""
    draws = host_generator(rng).standard_normal(like.shape)
    return xp.asarray(draws, dtype=dtype, device=array_api_compat.device(like))


def random_keys(like: Array, rng: RandomSource, xp: Namespace) -> Array:
    """Uniform draws, made by NumPy."""
    draws = host_generator(rng).random(like.shape)
    return xp.asarray(draws, device=array_api_compat.device(like))


def widest_real(like: Array, xp: Namespace) -> DType:
    """float64, or float32 where the device of `like` has none."""
    info = xp.__array_namespace_info__()
    offered = info.dtypes(kind="real floating", device=array_api_compat.device(like))
    return offered.get("float64", xp.float32)


def can_read(x: Array) -> bool:
    """Whether Python may branch on the data of x."""
    return not array_api_compat.is_lazy_array(x)


def screen(x: Array, xp: Namespace) -> tuple[bool, bool]:
    """Whether any float is NaN, and whether any is infinite or NaN.

    The greatest of some values is NaN where one of them is: one look at each, and no new array.
    """
    greatest = xp.max(x)
    not_finite = ~(xp.isfinite(greatest) & xp.isfinite(xp.min(x)))
    return bool(xp.isnan(greatest)), bool(not_finite)


def detach(x: Array) -> Array:
    """Return x itself: nothing differentiates here."""
    return x


def wants_gradient(*arrays: Array) -> bool:
    """Nothing differentiates here."""
    del arrays
    return False


def connect(
    y: Array, x: Array, saved: tuple[Array | None, ...], vjp: Callable[..., Array], sees_y: bool
) -> Array:
    """Return y itself: nothing differentiates here."""
    del x, saved, vjp, sees_y
    return y


def scale(y: Array, weight: Array | None, bias: Array | None) -> Array:
    """y·weight + bias, in two roundings; what is None is left out."""
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def to_host(x: Array) -> np.ndarray[Any, Any]:
    """Return an array as a NumPy array."""
    try:
        return np.asarray(x)
    except (RuntimeError, TypeError):  # on a device that NumPy does not reach
        return np.from_dlpack(x, device="cpu", copy=True)


def keep_layout(y: Array, like: Array) -> Array:
    """Return y itself: the standard has no memory layout."""
    del like
    return y


def program(function: Callable[..., Array], **fixed: object) -> Callable[..., Array]:
    """The function itself: its operations are done one by one."""
    return partial(function, **fixed)


def programs_read(*arrays: Array | None) -> bool:
    """They do, as everything does."""
    del arrays
    return True


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
    """The function of the whole arrays: they have no blocks."""
    del whole_axes, dtype
    return function(x, *companions, reference, xp=xp, ops=ops)


OPS = Ops(
    check=check,
    sortable=sortable,
    count_less=count_less,
    rank_and_gather=rank_and_gather,
    settle=settle,
    has_native_map=has_native_map,
    runs=runs,
    prefix_sums=prefix_sums,
    unsort=unsort,
    search_rows=search_rows,
    sort_rows=sort_rows,
    in_blocks=in_blocks,
    by_features=by_features,
    stack_of=stack_of,
    stable_argsort=stable_argsort,
    ndtri=ndtri,
    ndtr=ndtr,
    standard_normal=standard_normal,
    random_keys=random_keys,
    device=array_api_compat.device,
    widest_real=widest_real,
    can_read=can_read,
    reads_at_once=can_read,
    screen=screen,
    detach=detach,
    wants_gradient=wants_gradient,
    connect=connect,
    scale=scale,
    to_host=to_host,
    keep_layout=keep_layout,
    keeps_tables=True,
    program=program,
    programs_read=programs_read,
    over_blocks=over_blocks,
)
