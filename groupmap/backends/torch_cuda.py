"""The CUDA kernels on torch tensors: where they lie, and an operator for the gradient."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from groupmap._typing import Array, DType
from groupmap.backends import cuda
from groupmap.backends._ops import Formula, Scale, TieRule
from groupmap.backends.cuda import on_arrays
from groupmap.backends.cuda.launching import Place


def reaches(device: torch.device) -> bool:
    """Whether the kernels reach what lies there."""
    return cuda.INSTALLED and device.type == "cuda"


def _place(device: torch.device) -> Place:
    return Place(_index(device), torch.cuda.current_stream(device).cuda_stream)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _empty(shape: tuple[int, ...], dtype: DType | str, device: torch.device) -> Array:
    return torch.empty(shape, dtype=_dtype(dtype), device=device)


def _zeros(shape: tuple[int, ...], dtype: DType | str, device: torch.device) -> Array:
    return torch.zeros(shape, dtype=_dtype(dtype), device=device)


def _dtype(dtype: DType | str) -> torch.dtype:
    found: torch.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return found


def _current(device: torch.device) -> AbstractContextManager[object]:
    return torch.cuda.device(device)


MEMORY = on_arrays.Memory(
    reaches=reaches,
    contiguous=lambda x: x.detach().contiguous(),
    address=lambda x: x.data_ptr(),
    empty=_empty,
    zeros=_zeros,
    place=_place,
    current=_current,
)


def serve(rows: Array, *, ordered: bool = False) -> bool:
    """Whether there are kernels for such rows."""
    return on_arrays.serve(MEMORY, rows, ordered=ordered)


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


def count_less(rows: Array) -> tuple[Array, Array]:
    """As `on_arrays.count_less`."""
    return on_arrays.count_less(MEMORY, rows)


def table_of_formula(
    formula: Formula, n: int, parameters: tuple[float, float], dtype: DType, device: torch.device
) -> Array:
    """As `on_arrays.table_of_formula`."""
    return on_arrays.table_of_formula(MEMORY, formula, n, parameters, dtype, device)


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
