"""The kernels on arrays: the same for PyTorch and CuPy, but for how they name memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

from groupmap._typing import Array, DType
from groupmap.backends._ops import Formula, Scale, TieRule
from groupmap.backends.cuda import estimating, interpolating, ranking, tables
from groupmap.backends.cuda.launching import Place
from groupmap.backends.cuda.programs import Numbers, numbers_of
from groupmap.backends.cuda.requests import Addresses, Request, Spans


@dataclass(frozen=True)
class Memory:
    """How a library says where its arrays lie, and makes new ones."""

    reaches: Callable[[Any], bool]
    """``(device)``: whether the kernels reach it."""

    contiguous: Callable[[Array], Array]
    address: Callable[[Array], int]
    empty: Callable[..., Array]
    """``(shape, dtype name or dtype, device)``."""

    empty_like: Callable[..., Array]
    """``(array, dtype name or dtype)``: contiguous, of its shape and on its device."""

    zeros: Callable[..., Array]
    """``(shape, dtype name or dtype, device)``."""

    place: Callable[[Any], Place]
    """``(device)``: its number, and the stream that the caller uses there."""

    current: Callable[[Any], AbstractContextManager[object]]
    """``(device)``: makes it the current one."""

    def addresses(self, *arrays: Array | None) -> list[int]:
        """The addresses, 0 for None."""
        return [0 if each is None else self.address(each) for each in arrays]

    def all_contiguous(self, *arrays: Array | None) -> list[Array | None]:
        """What is not contiguous, copied."""
        return [None if each is None else self.contiguous(each) for each in arrays]


def serve(memory: Memory, rows: Array) -> bool:
    """Whether there are kernels that rank such rows."""
    reached = memory.reaches(rows.device)
    return reached and numbers_of(rows.dtype) is not None and rows.shape[-1] <= ranking.LONGEST


def map_rows(
    memory: Memory,
    rows: Array,
    where: Array | None,
    table: Array,
    tie_rule: TieRule | None,
    formula: Formula | None = None,
    parameters: tuple[float, float] = (0.0, 0.0),
    *,
    with_order: bool,
    scale: Scale | None = None,
) -> tuple[Array, Array | None]:
    """``table[h]`` of each entry of rows ``(..., n)``, scaled; and the order.

    In the table's dtype, or the one that the scale names. NaN where an entry is NaN or masked; its
    row evaluates the formula at its own positions. The order ends with −1 for each of those.
    """
    weight = bias = spans = None
    dtype = table.dtype
    if scale is not None:
        weight, bias, spans, dtype = scale
    y = memory.empty_like(rows, dtype)
    order = memory.empty_like(rows, "int32") if with_order else None
    *free, n = rows.shape
    request = Request(
        math.prod(free), n, _known(rows.dtype), _known(table.dtype), _known(dtype),
        tie_rule, formula, parameters, None if spans is None else Spans(*spans),
    )  # fmt: skip
    _launch(memory, request, (rows, where, table, weight, bias), (y, order, None, None))
    return y, order


def count_less(memory: Memory, rows: Array) -> tuple[Array, Array]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    less, less_equal = (memory.empty_like(rows, "int64") for _ in range(2))
    no_table = _known("float32")
    request = Request(
        math.prod(rows.shape[:-1]), rows.shape[-1], _known(rows.dtype), no_table, no_table,
        TieRule(1, 1), None, (0.0, 0.0),
    )  # fmt: skip
    _launch(memory, request, (rows, None, None, None, None), (None, None, less, less_equal))
    return less, less_equal


def table_of_formula(
    memory: Memory,
    formula: Formula,
    n: int,
    parameters: tuple[float, float],
    dtype: DType,
    device: object,
) -> Array:
    """Q at the positions of all 2n − 1 doubled mid-ranks of n values."""
    table = memory.empty((2 * n - 1,), dtype, device)
    with memory.current(device):
        tables.fill_table(
            memory.address(table), n, _known(dtype), formula, parameters, memory.place(device)
        )
    return table


def transport(
    memory: Memory,
    x: Array,
    grad: Array,
    order: Array,
    excluded: Array | None,
    mid_quantiles: Array,
    window: int | None,
    floor: float,
    formula: Formula | None,
) -> Array:
    """J·dL/dy of rows ``(..., n)``, of dL/dy's dtype.

    Mid-quantiles are doubles, ``(n,)`` or a row each. With a formula the order is that of
    `map_rows`; without one it has what is excluded, or not finite, at its end.
    """
    _check_on_one_device(x, grad, order, excluded, mid_quantiles)
    if 0 in x.shape:
        return memory.empty_like(grad, grad.dtype)
    n = x.shape[-1]
    n_rows = math.prod(x.shape[:-1])
    values, results = _known(x.dtype), _known(grad.dtype)
    place = memory.place(x.device)
    plan = estimating.plan_for(n_rows, n, values, place.device)
    result = memory.empty_like(grad, grad.dtype)
    scratch = None
    if plan.scratch_bytes:
        scratch = memory.empty((plan.all_scratch_bytes,), "uint8", x.device)
    read = memory.all_contiguous(x, grad, order, excluded, mid_quantiles)
    addresses = memory.addresses(*read, result, scratch)
    with memory.current(x.device):
        estimating.transport(
            estimating.Addresses(*addresses), plan, n_rows, n, values, results,
            n if mid_quantiles.ndim > 1 else 0, window, floor, formula, place,
        )  # fmt: skip
    return result


def affine(memory: Memory, x: Array, y: Array, grad: Array, excluded: Array | None) -> Array:
    """s·(I − Π)·dL/dy of rows ``(..., n)``, of dL/dy's dtype, which is y's."""
    _check_on_one_device(x, y, grad, excluded)
    result = memory.empty_like(grad, grad.dtype)
    if 0 in x.shape:
        return result
    read = memory.all_contiguous(x, y, grad, excluded)
    addresses = memory.addresses(*read, result)
    with memory.current(x.device):
        estimating.affine(
            estimating.AffineAddresses(*addresses), math.prod(x.shape[:-1]), x.shape[-1],
            _known(x.dtype), _known(grad.dtype), memory.place(x.device),
        )  # fmt: skip
    return result


def interpolator(
    memory: Memory, knots: Array, values: Array, on_runs: str
) -> Callable[[Array], Array | None] | None:
    """The line through knots and values, of doubles; None of others, or where no kernel reaches.

    Its results are doubles, too; None where x is not of floats beside the knots.
    """
    k = knots.shape[-1]
    reached = memory.reaches(knots.device) and values.device == knots.device
    doubles = numbers_of(knots.dtype) == numbers_of(values.dtype) == numbers_of("float64")
    if not (reached and doubles and values.shape == knots.shape):
        return None
    if not 0 < k <= interpolating.MOST_KNOTS:
        return None

    def at(x: Array) -> Array | None:
        if not _are_floats(x) or x.device != knots.device:
            return None
        if knots.ndim > 1 and x.shape[:-1] != knots.shape[:-1]:
            return None
        y = memory.empty(x.shape, knots.dtype, x.device)
        size = math.prod(x.shape)
        if size == 0:
            return y
        n_rows = math.prod(knots.shape[:-1])  # one, where all of x has the same knots
        with memory.current(x.device):
            read = [memory.contiguous(each) for each in (x, knots, values)]
            addresses = interpolating.Addresses(*map(memory.address, (*read, y)))
            interpolating.interpolate(
                addresses, n_rows, size // n_rows, k, _known(x.dtype), on_runs,
                memory.place(x.device),
            )  # fmt: skip
        return y

    return at


def order_statistics(memory: Memory, sorted_rows: Array, index: Array) -> Array | None:
    """Doubles, at the indices, doubles ``(..., n)``, of rows of floats, ``(m,)`` or ``(..., m)``.

    None of others, or where no kernel reaches.
    """
    if not (memory.reaches(index.device) and sorted_rows.device == index.device):
        return None
    if not _are_floats(sorted_rows) or numbers_of(index.dtype) != numbers_of("float64"):
        return None
    if sorted_rows.ndim > 1 and sorted_rows.shape[:-1] != index.shape[:-1]:
        return None
    y = memory.empty(index.shape, index.dtype, index.device)
    size, m = math.prod(index.shape), sorted_rows.shape[-1]
    if size == 0 or m == 0:
        return y if size == 0 else None
    n = size if sorted_rows.ndim == 1 else index.shape[-1]
    rows, at = (memory.contiguous(each) for each in (sorted_rows, index))
    with memory.current(index.device):
        interpolating.order_statistics(
            memory.address(rows), memory.address(at), memory.address(y), size, n, m,
            _known(rows.dtype), memory.place(index.device),
        )  # fmt: skip
    return y


def _are_floats(array: Array) -> bool:
    values = numbers_of(array.dtype)
    return values is not None and values.kind == "f"


def _launch(
    memory: Memory,
    request: Request,
    read: Sequence[Array | None],
    written: Sequence[Array | None],
) -> None:
    """Rank rows, in the order of `requests.Addresses`."""
    if request.n_rows == 0 or request.n == 0:
        return
    rows, order = read[0], written[1]
    assert rows is not None
    _check_on_one_device(*read)
    device = rows.device
    place = memory.place(device)
    ordered = request.tie_rule is None or order is not None
    n_zeros, n_others = ranking.scratch_bytes(request, place.device, ordered=ordered)
    zeros = memory.zeros((n_zeros,), "uint8", device) if n_zeros else None
    scratch = memory.empty((n_others,), "uint8", device) if n_others else None
    kept = memory.all_contiguous(*read)
    *addresses, zeros_at, scratch_at = memory.addresses(*kept, *written, zeros, scratch)
    with memory.current(device):
        ranking.map_rows(Addresses(*addresses), request, place, zeros=zeros_at, scratch=scratch_at)


def _check_on_one_device(*arrays: Array | None) -> None:
    """Kernels would take an address on another device for one of their own."""
    first, *others = [each.device for each in arrays if each is not None]
    for device in others:
        if device != first:
            raise RuntimeError(
                "Expected all arrays to be on the same device, but found at least two, "
                f"{first} and {device}; move all to the one that the data are on."
            )


@cache
def _known(dtype: object) -> Numbers:
    numbers = numbers_of(dtype)
    assert numbers is not None, f"no kernel reads {dtype}"
    return numbers
