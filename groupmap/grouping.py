"""Shapes only: which entries share a distribution, and how to lay them out as ``(..., n)``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from operator import index
from typing import NamedTuple

import numpy as np

from groupmap._typing import Array, Namespace
from groupmap.counts import checked_count

BATCH_AND_CHANNEL = 2


class Layout(NamedTuple):
    """How the array of one shape becomes rows ``(..., n)``, a group a row."""

    shape: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...] | None  # of the split axes; None where they are in order as they are
    rows: tuple[int, ...]

    def to_rows(self, x: Array, xp: Namespace) -> Array:
        """X as ``(..., n)``."""
        if self.order is not None:
            x = xp.permute_dims(xp.reshape(x, self.split), self.order)
        return xp.reshape(x, self.rows)

    def from_rows(self, rows: Array, xp: Namespace) -> Array:
        """Back from rows to the shape of x."""
        order = self.order
        if order is not None:
            inverse = tuple(order.index(axis) for axis in range(len(order)))
            rows = xp.reshape(rows, tuple(self.split[axis] for axis in order))
            rows = xp.permute_dims(rows, inverse)
        return xp.reshape(rows, self.shape)


class Grouping(NamedTuple):
    """The axes that are pooled into one group; first, one axis may be split into equal blocks.

    `pooled` counts the axes after the split, which turns axis c of length C into two, of lengths
    num_groups and C / num_groups.
    """

    pooled: tuple[int, ...]
    split_axis: int | None = None
    num_groups: int = 1

    @property
    def whole_axes(self) -> tuple[int, ...]:
        """The axes of the array itself whose entries are mapped together."""
        if self.split_axis is None:
            return self.pooled
        after = tuple(axis - (axis > self.split_axis) for axis in self.pooled)
        return tuple(sorted({self.split_axis, *after}))

    def axes_of_last_groups(self, ndim: int) -> tuple[int, ...]:
        """The axis of the array itself along which the last axis of groups lies, if any."""
        if self.split_axis is not None:
            return (self.split_axis,)
        return self._free(ndim)[-1:]

    def _split_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.split_axis is None:
            return shape
        c = self.split_axis
        return (*shape[:c], self.num_groups, shape[c] // self.num_groups, *shape[c + 1 :])

    def _free(self, ndim: int) -> tuple[int, ...]:
        return tuple([axis for axis in range(ndim) if axis not in self.pooled])

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """How arrays of that shape become rows."""
        split = self._split_shape(shape)
        free = self._free(len(split))
        order = (*free, *self.pooled)
        lengths = [split[axis] for axis in free]
        n = math.prod([split[axis] for axis in self.pooled])  # a list, for torch.compile
        return Layout(shape, split, None if _is_in_order(order) else order, (*lengths, n))

    @lru_cache(maxsize=1024)  # noqa: B019  # layers ask the same again and again
    def remembered_layout(self, shape: tuple[int, ...]) -> Layout:
        """The same; torch.compile, which follows no memory, is not to meet it."""
        return self.layout(shape)

    def to_rows(self, x: Array, xp: Namespace) -> Array:
        """X as ``(..., n)``, a group a row."""
        return self.layout(x.shape).to_rows(x, xp)

    @lru_cache(maxsize=1024)  # noqa: B019  # likewise
    def spans(
        self, parameter: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[int, int, int, int] | None:
        """Which entry of a parameter that broadcasts to x serves the entry i of its row r.

        The ``(r // each_rows % own_rows) * own_entries + i // each_entries``-th, all rows of x laid
        end to end; the result is (each_rows, own_rows, each_entries, own_entries). None where the
        parameter does not lie so.
        """
        lengths = self._split_shape(shape)
        of_x = (1,) * (len(shape) - len(parameter)) + tuple(parameter)
        if self.split_axis is not None and of_x[self.split_axis] == 1:
            c = self.split_axis
            own = (*of_x[:c], 1, 1, *of_x[c + 1 :])
        else:
            own = self._split_shape(of_x)
        varies = [axis for axis, length in enumerate(own) if length > 1]
        free = self._free(len(lengths))
        in_free, in_pooled = (
            [axis for axis in axes if axis in varies] for axes in (free, self.pooled)
        )
        follows = [*in_free, *in_pooled] == varies
        if not (follows and _adjoin(in_free, free) and _adjoin(in_pooled, self.pooled)):
            return None
        before, after = _around(in_pooled, self.pooled)
        if math.prod([lengths[axis] for axis in before]) != 1:
            return None
        _, after_free = _around(in_free, free)
        each_rows, own_rows, each_entries, own_entries = (
            math.prod([lengths[axis] for axis in axes])
            for axes in (after_free if in_free else (), in_free, after, in_pooled)
        )
        return each_rows, own_rows, each_entries, own_entries

    def from_rows(self, rows: Array, shape: tuple[int, ...], xp: Namespace) -> Array:
        """Back from rows to an array of the given shape."""
        return self.layout(shape).from_rows(rows, xp)


def _adjoin(some: Sequence[int], axes: Sequence[int]) -> bool:
    """Whether some of the axes follow one another among all of them."""
    return not some or list(some) == list(axes[axes.index(some[0]) :][: len(some)])


def _around(some: Sequence[int], axes: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """The axes before some adjoining ones, and those after them; all are after none."""
    if not some:
        return (), axes
    return axes[: axes.index(some[0])], axes[axes.index(some[-1]) + 1 :]


def _is_in_order(axes: tuple[int, ...]) -> bool:
    return axes == tuple(range(len(axes)))


def normalized_axis(axis: object, ndim: int, name: str = "axis") -> int:
    """A valid axis, counted from the front."""
    try:
        value = None if isinstance(axis, bool) else index(axis)  # type: ignore[arg-type]  # asked
    except TypeError:
        value = None
    if value is None:
        raise TypeError(f"{name}={axis!r} is no axis; pass an integer.")
    if ndim == 0:
        raise ValueError(f"{name}={value}, but the array has no axes; pass axis=None.")
    if not -ndim <= value < ndim:
        raise ValueError(
            f"{name}={value} is out of bounds for an array of {ndim} dimensions; "
            f"use one from {-ndim} to {ndim - 1}."
        )
    return value % ndim


def pool_axes(axis: int | Sequence[int] | None, ndim: int) -> Grouping:
    """Pool the axes named, or all of them."""
    if axis is None:
        return Grouping(tuple(range(ndim)))
    axes = axis if isinstance(axis, Sequence) else (axis,)
    pooled = tuple(normalized_axis(each, ndim) for each in axes)
    if len(set(pooled)) != len(pooled):
        raise ValueError(f"axis={axis!r} names an axis twice; name each one once.")
    return Grouping(tuple(sorted(pooled)))


def channel_groups(shape: tuple[int, ...], num_groups: object, channel_axis: int) -> Grouping:
    """Each sample, and `num_groups` equal blocks of its channels (torch's group layout)."""
    channel_axis = normalized_channel_axis(shape, channel_axis)
    num_groups = checked_count(num_groups, "num_groups")
    check_divides(num_groups, shape[channel_axis])
    return blocks_of_channels(len(shape), num_groups, channel_axis)


def blocks_of_channels(ndim: int, num_groups: int, channel_axis: int) -> Grouping:
    """As `channel_groups`, of arguments that are known to fit."""
    pooled = (*range(1, channel_axis), *range(channel_axis + 1, ndim + 1))
    return Grouping(pooled, channel_axis, num_groups)


def check_divides(num_groups: int, num_channels: int) -> None:
    """Refuse groups that would not be equal."""
    if num_channels % num_groups:
        raise ValueError(
            f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})"
        )


def along_axis(parameter: Array | None, axis: int, ndim: int, xp: Namespace) -> Array | None:
    """A parameter ``(C,)``, shaped to broadcast along one of ndim axes."""
    return None if parameter is None else xp.reshape(parameter, shape_along_axis(-1, axis, ndim))


def shape_along_axis(length: int, axis: int, ndim: int) -> tuple[int, ...]:
    """The shape of what broadcasts along one of ndim axes."""
    shape = [1] * ndim
    shape[axis] = length
    return tuple(shape)


def each_channel(shape: tuple[int, ...], channel_axis: int) -> Grouping:
    """Each sample and channel (torch's instance layout)."""
    channel_axis = normalized_channel_axis(shape, channel_axis)
    return Grouping((*range(1, channel_axis), *range(channel_axis + 1, len(shape))))


def channels_of_batch(shape: tuple[int, ...], channel_axis: int) -> Grouping:
    """Each channel over all samples and space (torch's batch layout)."""
    channel_axis = normalized_channel_axis(shape, channel_axis)
    return Grouping((*range(channel_axis), *range(channel_axis + 1, len(shape))))


def trailing_axes(shape: tuple[int, ...], normalized_shape: int | Sequence[int]) -> Grouping:
    """The trailing axes, which must have the lengths given (torch's layer layout)."""
    return last_axes(shape, checked_normalized_shape(normalized_shape))


def last_axes(shape: tuple[int, ...], expected: tuple[int, ...]) -> Grouping:
    """As `trailing_axes`, of a shape that was checked before."""
    if len(shape) < len(expected) or tuple(shape[len(shape) - len(expected) :]) != expected:
        star = "".join(f", {size}" for size in expected)
        raise ValueError(
            f"Given normalized_shape={list(expected)}, expected input with shape [*{star}], "
            f"but got input of size{list(shape)}"
        )
    return Grouping(tuple(range(len(shape) - len(expected), len(shape))))


def checked_normalized_shape(normalized_shape: object) -> tuple[int, ...]:
    """`normalized_shape` as a tuple of at least one int."""
    sizes = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    try:
        expected = tuple(index(size) for size in sizes)  # type: ignore[arg-type]  # as above
    except TypeError:
        raise TypeError(
            f"normalized_shape={normalized_shape!r} must be an integer or a sequence of them."
        ) from None
    if not expected or min(expected) < 0:
        raise ValueError(
            f"normalized_shape={normalized_shape!r} must name at least one axis, with lengths ≥ 0."
        )
    return expected


def normalized_channel_axis(shape: tuple[int, ...], channel_axis: int) -> int:
    """The channel axis of a batch ``(N, …, C, …)``, counted from the front."""
    if len(shape) < BATCH_AND_CHANNEL:
        raise ValueError(
            f"x has shape {tuple(shape)}; expected at least 2 dimensions, a batch and channels. "
            "Add the batch with x[None]."
        )
    channel = normalized_axis(channel_axis, len(shape), "channel_axis")
    if channel == 0:
        raise ValueError(
            "channel_axis=0 is the batch; add one with x[None] and pass channel_axis=1."
        )
    return channel


def broadcast_mask(where: Array, x: Array, xp: Namespace, name: str = "x") -> Array:
    """The mask in the shape of x, if it is one."""
    if isinstance(where, np.ma.MaskedArray):
        raise TypeError(
            f"where is a masked array of dtype {where.dtype}, and so some of it says neither; pass "
            "where.filled(False), or True in its place."
        )
    if not xp.isdtype(where.dtype, "bool"):
        raise TypeError(
            f"where has dtype {where.dtype}; it must be bool, True where an entry counts."
        )
    return broadcast_beside(where, "where", x, name, xp)


def broadcast_beside(array: Array, name: str, x: Array, name_of_x: str, xp: Namespace) -> Array:
    """The array in the shape of x, if it broadcasts to it."""
    try:
        return xp.broadcast_to(array, x.shape)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}, which does not broadcast to the shape "
            f"{tuple(x.shape)} of {name_of_x}; give it that shape or one that broadcasts to it."
        ) from error
