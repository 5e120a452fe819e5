"""The CUDA kernels on torch tensors: where they lie, and an operator for the gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from groupmap._typing import Array, DType
from groupmap.backends import cuda
from groupmap.backends._ops import Ask, Formula, Scale, TieRule
from groupmap.backends.cuda import launching, on_arrays, steps
from groupmap.backends.cuda.launching import Place
from groupmap.backends.torch_kernels import operator


def reaches(device: torch.device) -> bool:
    """Whether the kernels reach what lies there."""
    return device.type == "cuda" and cuda.INSTALLED and _serves(device)


def lies_there(x: Array) -> bool:
    """Whether x is where kernels may reach."""
    return bool(x.is_cuda)


def _serves(device: torch.device) -> bool:
    return torch.version.hip is None and launching.serves(_index(device))


# What torch.compiler.assume_constant_result does, which imports Dynamo for it, a second's work.
_serves._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _place(device: torch.device) -> Place:
    index = _index(device)
    return Place(index, _stream(index))


def _stream(index: int) -> int:
    """The stream that is current on the device, which each launch has to ask for.

    A remembered one would not be that of a graph that is captured.
    """
    if _raw_stream is None:
        return int(torch.cuda.current_stream(index).cuda_stream)
    return int(_raw_stream(index))


# What the launchers of Inductor and Triton ask; the public question makes an object to answer it.
_raw_stream = getattr(torch._C, "_cuda_getCurrentRawStream", None)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _empty(shape: tuple[int, ...], dtype: DType | str, device: torch.device) -> Array:
    return torch.empty(shape, dtype=_dtype(dtype), device=device)


def _empty_like(x: Array, dtype: DType | str) -> Array:
    # Of a shape that is a tuple torch makes a tensor in thrice the time.
    return torch.empty_like(x, dtype=_dtype(dtype), memory_format=torch.contiguous_format)


def _zeros(shape: tuple[int, ...], dtype: DType | str, device: torch.device) -> Array:
    return torch.zeros(shape, dtype=_dtype(dtype), device=device)


def _dtype(dtype: DType | str) -> torch.dtype:
    found: torch.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return found


def _current(device: torch.device) -> AbstractContextManager[object]:
    index = _index(device)
    return _AS_IT_IS if index == torch.cuda.current_device() else torch.cuda.device(index)


_AS_IT_IS = nullcontext()


def _contiguous(x: Array) -> Array:
    return x if x.is_contiguous() else x.detach().contiguous()


MEMORY = on_arrays.Memory(
    reaches=reaches,
    contiguous=_contiguous,
    address=torch.Tensor.data_ptr,
    empty=_empty,
    empty_like=_empty_like,
    zeros=_zeros,
    place=_place,
    current=_current,
)


def serve(rows: Array) -> bool:
    """Whether there are kernels for such rows."""
    return on_arrays.serve(MEMORY, rows)


def map_rows(
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
    """As `on_arrays.map_rows`."""
    return on_arrays.map_rows(
        MEMORY, rows, where, table, tie_rule, formula, parameters,
        with_order=with_order, scale=scale,
    )  # fmt: skip


def step(ask: Ask, table: Array) -> steps.Step | None:
    """As `steps.step`."""
    return steps.step(MEMORY, ask, table)


def _map_rows_traced(
    rows: Array,
    where: Array | None,
    table: Array,
    formula: str,
    parameter: float,
    alphap: float,
    betap: float,
    tie: Sequence[int],
    with_order: bool,
) -> tuple[Array, Array]:
    tie_rule = TieRule(*tie) if tie else None
    y, order = map_rows(
        rows, where, table, tie_rule, Formula(formula, parameter), (alphap, betap),
        with_order=with_order,
    )  # fmt: skip
    return y, rows.new_empty(0, dtype=torch.int32) if order is None else order


map_rows_operator = operator(
    "map_rows",
    "(Tensor rows, Tensor? where, Tensor table, str formula, float parameter, float alphap, "
    "float betap, int[] tie, bool with_order) -> (Tensor, Tensor)",
    devices=None,
)(_map_rows_traced)


@map_rows_operator.register_fake  # type: ignore[untyped-decorator]
def _(rows: Array, where: Array | None, table: Array, *rest: Any) -> tuple[Array, Array]:
    del where
    with_order = rest[-1]
    return (
        rows.new_empty(rows.shape, dtype=table.dtype),
        rows.new_empty(rows.shape if with_order else 0, dtype=torch.int32),
    )


@map_rows_operator.register_vmap  # type: ignore[untyped-decorator]
def _(
    info: Any,
    in_dims: tuple[int | None, ...],
    rows: Array,
    where: Array | None,
    table: Array,
    *rest: Any,
) -> tuple[tuple[Array, Array], tuple[int, int | None]]:
    rows, where = (
        None if each is None
        else each.expand(info.batch_size, *each.shape) if dim is None
        else each.movedim(dim, 0)
        for each, dim in zip((rows, where), in_dims, strict=False)
    )  # fmt: skip
    return map_rows_operator(rows, where, table, *rest), (0, 0 if rest[-1] else None)


def map_rows_traced(
    rows: Array,
    where: Array | None,
    table: Array,
    tie_rule: TieRule | None,
    formula: Formula,
    parameters: tuple[float, float],
    *,
    with_order: bool,
) -> tuple[Array, Array | None]:
    """The same in code that is traced or transformed, which meets it as an operator."""
    y, order = map_rows_operator(
        rows, where, table, formula.name, float(formula.parameter), *parameters,
        [] if tie_rule is None else list(tie_rule), with_order,
    )  # fmt: skip
    return y, order if with_order else None


def count_less(rows: Array) -> tuple[Array, Array]:
    """As `on_arrays.count_less`."""
    return on_arrays.count_less(MEMORY, rows)


def table_of_formula(
    formula: Formula, n: int, parameters: tuple[float, float], dtype: DType, device: torch.device
) -> Array:
    """As `on_arrays.table_of_formula`."""
    return on_arrays.table_of_formula(MEMORY, formula, n, parameters, dtype, device)


def affine(x: Array, y: Array, grad: Array, excluded: Array | None) -> Array:
    """As `on_arrays.affine`."""
    return on_arrays.affine(MEMORY, x, y.to(grad.dtype), grad, excluded)


def transport(
    x: Array,
    grad: Array,
    order: Array | None,
    excluded: Array | None,
    mid_quantiles: Array,
    window: int | None,
    floor: float,
    formula: Formula | None = None,
) -> Array:
    """As `on_arrays.transport`; without an order, in the one that a sort finds."""
    if order is None:
        keys = x if excluded is None else torch.where(excluded, torch.inf, x)
        order = torch.sort(keys, dim=-1, stable=True).indices.to(torch.int32)
    return on_arrays.transport(
        MEMORY, x, grad, order, excluded, mid_quantiles.double(), window, floor, formula
    )


def interpolator(
    knots: Array, values: Array, on_runs: str
) -> Callable[[Array], Array | None] | None:
    """As `on_arrays.interpolator`."""
    return on_arrays.interpolator(MEMORY, knots, values, on_runs)


def order_statistics(sorted_rows: Array, index: Array) -> Array | None:
    """As `on_arrays.order_statistics`."""
    return on_arrays.order_statistics(MEMORY, sorted_rows, index)
