"""PyTorch in operations that tracing keeps general, and in those that every exporter knows.

What is compiled serves any size of the batch. What is exported is captured by ONNX, too: its
results are those of `groupmap.backends.torch`; programs that are saved need no kernel and no
operator of groupmap's where they are loaded.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import array_api_compat.torch as xp_torch
import torch

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import _normal, generic, torch_sorts
from groupmap.backends import torch as native
from groupmap.backends._ops import TieRule, no_native_form


def tan(x: Array) -> Array:
    """The tangent for |x| ≤ π/4; ONNX Runtime's own is of single precision."""
    return torch.sin(x) / torch.sin(x + math.pi / 2.0)


def take_along_axis(x: Array, index: Array, *, axis: int) -> Array:
    """The entries that the index names; torch's take_along_dim fixes the sizes that it sees."""
    return torch.gather(x, axis, index)


def count_less(rows: Array, xp: Namespace) -> tuple[Array, Array]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    del xp
    ascending, order = torch.sort(rows, dim=-1)
    less, less_equal = _run_ends(_run_numbers(ascending))
    return torch_sorts.unsort(less, order, None), torch_sorts.unsort(less_equal, order, None)


def rank_and_gather(
    rows: Array, table: Array, tie_rule: TieRule | None, with_order: bool, xp: Namespace
) -> tuple[Array, Array | None]:
    """The value of the table at each entry's doubled mid-rank: in sorted order, then scattered."""
    if tie_rule is None:
        order = stable_argsort(rows, xp)
        values = table[::2].expand(rows.shape)
    else:
        ascending, order = torch.sort(rows, dim=-1)
        values = table[tie_rule.doubled_midrank(*_run_ends(_run_numbers(ascending)))]
    return torch_sorts.unsort(values, order, None), order if with_order else None


def sort_rows(rows: Array, xp: Namespace, dtype: DType | None = None) -> Array:
    """Each row in ascending order."""
    del xp
    ascending = torch.sort(rows, dim=-1).values
    return ascending if dtype is None else ascending.to(dtype)


def stable_argsort(rows: Array, xp: Namespace) -> Array:
    """The order of each row's entries, equal ones in order of appearance.

    A stable sort has no name in ONNX; keys of run and place are all distinct and need none.
    """
    del xp
    ascending, order = torch.sort(rows, dim=-1)
    n = rows.shape[-1]
    return torch.sort(_run_numbers(ascending) * n + order, dim=-1).values % n


def _run_numbers(ascending: Array) -> Array:
    """The number of each entry's run of equals, from 0."""
    begins = ascending[..., 1:] != ascending[..., :-1]
    begins = torch.cat([torch.zeros_like(ascending[..., :1], dtype=torch.bool), begins], dim=-1)
    return torch.cumsum(begins.to(torch.int64), dim=-1)


def _run_ends(run: Array) -> tuple[Array, Array]:
    """Where the run of each entry begins, and where the next one does."""
    n = run.shape[-1]
    index = torch.arange(n, device=run.device).expand(run.shape)
    first = torch.full_like(run, n).scatter_reduce(-1, run, index, "amin")
    last = torch.zeros_like(run).scatter_reduce(-1, run, index, "amax")
    return torch.gather(first, -1, run), torch.gather(last, -1, run) + 1


TRACED_XP = SimpleNamespace(**{**vars(xp_torch), "take_along_axis": take_along_axis})
XP = SimpleNamespace(**{**vars(TRACED_XP), "tan": tan})
OPS = replace(
    native.OPS,
    count_less=count_less,
    map_rows=no_native_form,
    has_native_map=generic.has_native_map,
    normalize_rows=no_native_form,
    with_middles=no_native_form,
    interpolator=no_native_form,
    order_statistics=no_native_form,
    rank_and_gather=rank_and_gather,
    sort_rows=sort_rows,
    stable_argsort=stable_argsort,
    ndtri=_normal.ndtri,
)
