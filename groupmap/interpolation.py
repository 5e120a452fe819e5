"""Between sorted values: the one linear interpolation that samples and fitted cdfs share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import Ops
from groupmap.dtypes import as_widest_real, default_dtype


def between(low: Array, high: Array, fraction: Array, xp: Namespace) -> Array:
    """low + fraction·(high − low) for low ≤ high and a fraction in [0, 1).

    Exact where the fraction is 0 or the ends are equal, and never above `high`.
    """
    return xp.minimum(_on_line(low, high, fraction), high)


def _on_line(low: Array, high: Array, fraction: Array) -> Array:
    # Half the difference of two finite numbers is finite, the difference may not be.
    step = (high / 2.0 - low / 2.0) * fraction
    return low + step + step


def order_statistics(sorted_rows: Array, index: Array, xp: Namespace, ops: Ops) -> Array:
    """The values at real, zero-based indices of each sorted row, which the ends clip.

    `sorted_rows` is ``(m,)`` for all rows of the index, or ``(..., m)`` beside ``(..., n)``, or
    beside ``(1, ..., n)`` for all rows.
    """
    native = ops.order_statistics(sorted_rows, index)
    if native is not None:
        return native
    taken = partial(take_rows, sorted_rows, xp=xp)
    return _between_whole(taken, sorted_rows.shape[-1], index, xp, ops)


def ordered_statistics(
    rows: Array,
    order: Array,
    index: Array,
    ends: tuple[Array, Array],
    xp: Namespace,
    ops: Ops,
) -> Array:
    """The same of rows ``(..., m)`` that are not sorted, whose order is known, between its entries
    at these ends."""
    first, last = ends

    def taken(at: Array) -> Array:
        which = take_rows(order, xp.minimum(first + at, last), xp)
        which = xp.astype(which, default_dtype(xp, "integral"))
        return take_rows(rows, xp.maximum(which, xp.zeros_like(which)), xp)  # −1 has no entry

    return _between_whole(taken, rows.shape[-1], index, xp, ops)


def counted_order_statistics(
    numbers: Array, less_equal: Array, m: int, index: Array, xp: Namespace, ops: Ops
) -> Array:
    """The same of m entries a row, given by their different numbers ``(..., k)`` in ascending
    order and how many of the entries are at most equal to each."""
    ends = as_widest_real(less_equal, xp, ops)

    def taken(at: Array) -> Array:
        wanted = as_widest_real(at, xp, ops)
        if ends.ndim == 1:
            wanted = xp.reshape(wanted, (-1,))
        found = xp.reshape(ops.search_rows(ends, wanted, "right", xp), at.shape)
        return take_rows(numbers, found, xp)

    return _between_whole(taken, m, index, xp, ops)


def _between_whole(
    taken: Callable[[Array], Array], m: int, index: Array, xp: Namespace, ops: Ops
) -> Array:
    """What is taken of m sorted entries at the whole numbers around each index, interpolated."""
    index = xp.where(index < 0.0, 0.0, xp.where(index > m - 1.0, m - 1.0, index))
    whole = xp.floor(index)
    below = xp.astype(whole, default_dtype(xp, "integral"))
    above = xp.minimum(below + 1, xp.full_like(below, m - 1))
    low, high = (as_widest_real(each, xp, ops) for each in (taken(below), taken(above)))
    return between(low, high, index - whole, xp)


def with_middles(ascending: Array, dtype: DType, xp: Namespace, ops: Ops) -> Array:
    """The values of one sorted row, and between each two the middle, in `dtype`."""
    native = ops.with_middles(ascending, dtype)
    if native is not None:
        return native
    ascending = as_widest_real(ascending, xp, ops)
    low = ascending[:-1]
    pairs = xp.stack([low, between(low, ascending[1:], 0.5, xp)], axis=-1)
    table = xp.concat([xp.reshape(pairs, (-1,)), ascending[-1:]])
    return xp.astype(table, dtype, copy=False)


def take_rows(rows: Array, index: Array, xp: Namespace) -> Array:
    """``rows[..., index]``, each row of the index in its own row, or all in the one row given; one
    row of the index, ``(1, ..., n)``, in all rows."""
    if rows.ndim == 1:
        return xp.reshape(xp.take(rows, xp.reshape(index, (-1,)), axis=0), index.shape)
    if all(length == 1 for length in index.shape[:-1]):
        return xp.take(rows, xp.reshape(index, (-1,)), axis=-1)
    return xp.take_along_axis(rows, index, axis=-1)


def interpolator(
    knots: Array,
    values: Array,
    *,
    on_runs: str = "middle",
    extrapolate: bool = False,
    last: Array | None = None,
    xp: Namespace,
    ops: Ops,
) -> Callable[[Array], Array]:
    """Piecewise linear through (knots, values), both ``(..., k)`` and rising, at x ``(..., n)``.

    NaN where x is NaN. On a run of equal knots it takes the "middle" between the values at the
    run's ends, or the "first" or the "last" of them. Outside the knots it keeps the value of the
    nearest end, or goes on along the outermost segment. `last`, ``(..., 1)``, is the index of each
    row's last knot, where copies of it follow.
    """
    native = ops.interpolator(knots, values, on_runs)
    interpolated = ops.program(_interpolated, on_runs=on_runs, xp=xp, ops=ops)

    def at(x: Array) -> Array:
        y = None if native is None else native(x)
        return interpolated(x, knots, values) if y is None else y

    return continued(at, knots, values, last, xp, ops) if extrapolate else at


def continued(
    inside: Callable[[Array], Array],
    knots: Array,
    values: Array,
    last: Array | None,
    xp: Namespace,
    ops: Ops,
) -> Callable[[Array], Array]:
    """The function, and outside of the knots the outermost segments of (knots, values), where they
    have a length; `last` as in `interpolator`."""
    if knots.shape[-1] < 2:  # no segment
        return inside
    with_tails = ops.program(_with_tails, xp=xp, ops=ops)

    def at(x: Array) -> Array:
        return with_tails(inside(x), as_widest_real(x, xp, ops), knots, values, last)

    return at


def _with_tails(
    y: Array,
    x: Array,
    knots: Array,
    values: Array,
    last: Array | None,
    *,
    xp: Namespace,
    ops: Ops,
) -> Array:
    """Y, and outside of the knots the lines through the outermost two."""
    first, second = slice(0, 1), slice(1, 2)
    end = xp.full_like(knots[..., first], knots.shape[-1] - 1, dtype=default_dtype(xp, "integral"))
    if last is not None:
        end = xp.minimum(end, xp.maximum(xp.astype(last, end.dtype), xp.zeros_like(end)))
    before_end = xp.maximum(end - 1, xp.zeros_like(end))
    low = (knots[..., first], knots[..., second], values[..., first], values[..., second])
    high = tuple(
        take_rows(each, index, xp) for each in (knots, values) for index in (before_end, end)
    )
    for is_outside, segment in ((x < low[0], low), (x > high[1], high)):
        left, right, *_ = segment
        beyond = is_outside & (left < right)
        if ops.reads_at_once(beyond) and not bool(xp.any(beyond)):
            continue
        # What lies inside may be so far away from a short segment that its line overflows there.
        outside = xp.where(beyond, x, left)
        y = xp.where(beyond, _on_segment(outside, *segment, xp=xp), y)
    return y


def _on_segment(
    x: Array, left: Array, right: Array, y_left: Array, y_right: Array, *, xp: Namespace
) -> Array:
    """The line through two knots; anything where they are one."""
    width = right / 2.0 - left / 2.0
    fraction = (x / 2.0 - left / 2.0) / xp.where(width == 0.0, 1.0, width)
    return _on_line(y_left, y_right, fraction)


def interpolate(x: Array, knots: Array, values: Array, **options: Any) -> Array:
    """What `interpolator` is at x."""
    return interpolator(knots, values, **options)(x)


def _interpolated(
    x: Array,
    knots: Array,
    values: Array,
    *,
    on_runs: str,
    xp: Namespace,
    ops: Ops,
) -> Array:
    k = knots.shape[-1]
    first = ops.search_rows(knots, x, "left", xp)  # of the knots that are not below x
    after = ops.search_rows(knots, x, "right", xp)  # of the knots that are above x
    is_knot = after > first
    if on_runs == "first":
        after = xp.where(is_knot, first + 1, after)
    elif on_runs == "last":
        first = xp.where(is_knot, after - 1, first)
    first_knot, last_knot = xp.zeros_like(first), xp.full_like(first, k - 1)
    # On a knot: from the run's first to its last. Else: from the knot below to the knot above.
    left = xp.clip(xp.where(is_knot, first, first - 1), first_knot, last_knot)
    right = xp.clip(xp.where(is_knot, after - 1, first), first_knot, last_knot)
    x_left, x_right = take_rows(knots, left, xp), take_rows(knots, right, xp)
    y_left, y_right = take_rows(values, left, xp), take_rows(values, right, xp)
    width = x_right / 2.0 - x_left / 2.0
    flat = width == 0.0
    # In the middle of a run, and at the end outside of all knots.
    fraction = xp.where(flat, 0.5, (x / 2.0 - x_left / 2.0) / xp.where(flat, 1.0, width))
    y = between(y_left, y_right, xp.clip(fraction, 0.0, 1.0), xp)
    return xp.where(xp.isnan(x), xp.nan, y)
