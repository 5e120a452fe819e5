"""Ranks and searches by torch's own sorts, on any device and while it traces."""

from __future__ import annotations

import torch

from groupmap._typing import Array, Namespace, Side
from groupmap.backends._ops import TieRule
from groupmap.backends.torch_tracing import can_read

# searchsorted has no kernel for these: https://github.com/pytorch/pytorch/issues/58734
_WIDER_SIGNED = {torch.uint16: torch.int32, torch.uint32: torch.int64}


def sortable(rows: Array, xp: Namespace) -> Array:
    """Keys in the order of the rows' entries, of a dtype that torch sorts and searches."""
    del xp
    if rows.dtype in _WIDER_SIGNED:
        return rows.to(_WIDER_SIGNED[rows.dtype])
    if rows.dtype == torch.uint64:
        return rows.contiguous().view(torch.int64) ^ torch.iinfo(torch.int64).min
    return rows


def count_less(rows: Array) -> tuple[Array, Array]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    ascending, order = torch.sort(rows, dim=-1)
    less, less_equal = _count_less_in_order(ascending)
    return (
        torch.empty_like(order).scatter(-1, order, less),
        torch.empty_like(order).scatter(-1, order, less_equal),
    )


def rank_and_gather(rows: Array, table: Array, tie_rule: TieRule | None) -> tuple[Array, Array]:
    """The value of the table at each entry's doubled mid-rank, and the order of each row."""
    ascending, order = torch.sort(rows, dim=-1, stable=tie_rule is None)
    if tie_rule is None or _is_certainly_distinct(ascending):
        values = table[::2].expand(rows.shape)
    else:
        values = table[tie_rule.doubled_midrank(*_count_less_in_order(ascending))]
    return unsort(values, order, None), order


def runs(sorted_rows: Array, xp: Namespace) -> tuple[Array, Array] | None:
    """Where the run of equals of each entry begins, and where the next one does."""
    del xp
    return None if _is_certainly_distinct(sorted_rows) else _count_less_in_order(sorted_rows)


def prefix_sums(values: Array, xp: Namespace) -> Array:
    """The sums of the first 0, 1, … n entries of each row."""
    del xp
    return torch.nn.functional.pad(torch.cumsum(values, dim=-1), (1, 0))


def unsort(values: Array, order: Array, xp: Namespace) -> Array:
    """Back where the values stood."""
    del xp
    return torch.empty(order.shape, dtype=values.dtype, device=values.device).scatter(
        -1, order, values
    )


def search_rows(sorted_rows: Array, values: Array, side: Side, xp: Namespace) -> Array:
    """`searchsorted` on the last axis, each row of values in its own sorted row."""
    del xp
    return torch.searchsorted(sorted_rows.contiguous(), values.contiguous(), side=side)


def stable_argsort(rows: Array, xp: Namespace) -> Array:
    """The order of each row's entries, equal ones in order of appearance."""
    del xp
    return torch.sort(rows, dim=-1, stable=True).indices


def _is_certainly_distinct(ascending: Array) -> bool:
    """Whether sorted rows have no ties; False where their data may not be read."""
    return can_read(ascending) and not bool((ascending[..., 1:] == ascending[..., :-1]).any())


def _count_less_in_order(ascending: Array) -> tuple[Array, Array]:
    """The same counts for each entry of sorted rows: where its run of equals begins, and ends."""
    n = ascending.shape[-1]
    index = torch.arange(n, device=ascending.device)
    changes = ascending[..., 1:] != ascending[..., :-1]
    is_first = torch.nn.functional.pad(changes, (1, 0), value=True)
    is_last = torch.nn.functional.pad(changes, (0, 1), value=True)
    begin = torch.cummax(torch.where(is_first, index, 0), dim=-1).values
    end_from_the_right = torch.where(is_last, index + 1, n).flip(-1)
    return begin, torch.cummin(end_from_the_right, dim=-1).values.flip(-1)
