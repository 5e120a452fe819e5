"""PyTorch: what each primitive is, and whether a kernel or torch itself is to do it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import (
    generic,
    kernels,
    torch_cuda,
    torch_estimates,
    torch_kernels,
    torch_random,
    torch_sorts,
    torch_tracing,
)
from groupmap.backends._ops import Ask, Formula, Kinds, LineOfRanks, MapWanted, OfFeatures, TieRule
from groupmap.backends.torch_connection import connect
from groupmap.backends.torch_scaling import scale_learning
from groupmap.backends.torch_tracing import (
    are_plain_constants,
    can_read,
    is_captured,
    is_eager,
    is_plain,
    is_sharded,
    wants_gradient,
)

_CHANNELS_LAST_NDIM = (4, 5)
ENTRIES_PER_BLOCK = 2**16


def check(x: Array, name: str) -> None:
    """Groups lie in dense tensors of one shape, of dtypes that torch computes with."""
    if x.is_nested:
        raise TypeError(
            f"{name} is a nested tensor; map each of {name}.unbind(), or pad it with NaN, which "
            "counts for nothing: torch.nested.to_padded_tensor."
        )
    if x.layout != torch.strided:
        why = ", whose zeros count as well" if "sparse" in str(x.layout) else ""
        raise TypeError(f"{name} has layout {x.layout}{why}; pass {name}.to_dense().")
    if is_sharded(x):
        raise TypeError(
            f"{name} is a DTensor, of which a process has a part; where each group lies whole in "
            f"one, map {name}.to_local() and make a DTensor of the result by DTensor.from_local."
        )
    if x.dtype.is_floating_point and x.dtype.itemsize == 1:
        raise TypeError(
            f"{name} has dtype {x.dtype}, which torch only stores; pass {name}.to(torch.bfloat16)."
        )


def count_less(rows: Array, xp: Namespace) -> tuple[Array, Array]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    del xp
    if is_plain(rows) and torch_cuda.serve(rows):
        return torch_cuda.count_less(rows)
    if not can_read(rows):
        if torch_kernels.serve(rows):
            less, less_equal = torch_kernels.count_less_operator(rows)
            return less, less_equal
    elif torch_kernels.serve_eagerly(rows):
        return torch_kernels.count_less(rows)
    return torch_sorts.count_less(rows)


def rank_and_gather(
    rows: Array, table: Array, tie_rule: TieRule | None, with_order: bool, xp: Namespace
) -> tuple[Array, Array | None]:
    """The value of the table at each entry's doubled mid-rank: in sorted order, then scattered."""
    del xp
    if is_plain(rows, table) and torch_cuda.serve(rows):
        if table.requires_grad and torch.is_grad_enabled():
            h = torch.arange(len(table), device=table.device)
            places, order = torch_cuda.map_rows(rows, None, h, tie_rule, with_order=with_order)
            return table[places], order
        return torch_cuda.map_rows(rows, None, table, tie_rule, with_order=with_order)
    if can_read(rows) and can_read(table) and torch_kernels.serve_eagerly(rows, table):
        return torch_kernels.rank_and_gather(rows, table, tie_rule, with_order)
    y, order = torch_sorts.rank_and_gather(rows, table, tie_rule)
    return y, order if with_order else None


def map_rows(
    rows: Array, where: Array | None, table: Callable[[], Array], wanted: MapWanted
) -> tuple[Array, Array | None] | None:
    """The whole map by one kernel; on GPUs it need not know what is missing."""
    are_plain = is_plain(rows, where)
    if not torch_cuda.serve(rows):
        if where is not None or not are_plain or not torch_kernels.serve_eagerly(rows):
            return None
        return torch_kernels.map_rows(rows, table(), wanted)
    rule, formula, parameters, with_order, scale, _ = wanted
    if are_plain:
        return torch_cuda.map_rows(
            rows, where, table(), rule, formula, parameters, with_order=with_order, scale=scale
        )
    if scale is not None:
        return None
    return torch_cuda.map_rows_traced(
        rows, where, table(), rule, formula, parameters, with_order=with_order
    )


def map_incomplete(
    rows: Array,
    missing: Array,
    tables_of: Callable[[Sequence[int]], Sequence[Array]],
    tie_rule: TieRule | None,
    dtype: DType,
) -> Array | None:
    """By kernels, where NumPy sees the memory."""
    if not (can_read(rows) and torch_kernels.serve_eagerly(rows)):
        return None
    return torch_kernels.map_incomplete(rows, missing, tables_of, tie_rule, dtype)


def repeats(x: Array, weight: Array | None, bias: Array | None) -> Kinds | None:
    """On GPUs; not while a graph is captured, whose memory is not to be that of a step."""
    if not torch_cuda.lies_there(x) or not is_plain(x, weight, bias) or is_captured(x):
        return None
    kinds: list[tuple[torch.Size, torch.dtype, torch.device] | None] = []
    for each in (x, weight, bias):  # the quickest way to say it, as each call of a layer asks
        if each is None:
            kinds.append(None)
        elif not each.is_contiguous() or wants_gradient(each):
            return None
        else:
            kinds.append((each.shape, each.dtype, each.device))
    return tuple(kinds)  # type: ignore[return-value]  # three of them, the first of which is there


def step(ask: Ask, table: Array) -> Callable[[Array, Array | None, Array | None], Array] | None:
    """On GPUs, of rows that fit a block."""
    return torch_cuda.step(ask, table)


def map_by_value(rows: Array, quantiles: Callable[[Array, Array], Array]) -> Array | None:
    """By kernels, in main memory."""
    if not _is_counted(rows):
        return None
    return torch_kernels.map_by_value(rows, quantiles)


def count_values(rows: Array) -> tuple[Array, Array] | None:
    """By kernels, in main memory; not where the values learn."""
    if wants_gradient(rows) or not _is_counted(rows):
        return None
    return torch_kernels.count_values(rows)


def _is_counted(rows: Array) -> bool:
    is_known = rows.dtype in (torch.uint8, torch.int8, torch.float32, torch.float64)
    return bool(is_known and is_plain(rows) and torch_kernels.serve_eagerly(rows))


def normalize_rows(
    x: Array, rows: Callable[[], Array], tie_rule: TieRule | None, line: LineOfRanks
) -> Array | None:
    """A kernel for floats in main memory; no gradient passes through it."""
    is_known = x.dtype in (torch.float32, torch.float64)
    if not (is_known and is_plain(x) and torch_kernels.serve_eagerly(x)):
        return None
    return torch_kernels.normalize_rows(rows(), tie_rule, line)


def settle(array: Array) -> None:
    """On GPUs other streams do not wait for the one that made it."""
    if array.is_cuda:
        torch.cuda.current_stream(array.device).synchronize()


def has_native_map(x: Array) -> bool:
    """Whether kernels reach x."""
    return is_plain(x) and (torch_cuda.reaches(x.device) or torch_kernels.serve_eagerly(x))


def table_of_formula(
    formula: Formula,
    n: int,
    parameters: tuple[float, float],
    dtype: DType,
    device: torch.device,
) -> Array | None:
    """The table by the code that `map_rows` evaluates the formula with."""
    if not is_eager() or not torch_cuda.reaches(device):
        return None
    return torch_cuda.table_of_formula(formula, n, parameters, dtype, device)


def interpolator(
    knots: Array, values: Array, on_runs: str
) -> Callable[[Array], Array | None] | None:
    """A kernel for doubles of which nothing asks a gradient."""
    if not are_plain_constants(knots, values):
        return None
    where = torch_cuda if torch_cuda.lies_there(knots) else torch_kernels
    native = where.interpolator(knots, values, on_runs)
    if native is None:
        return None

    def at(x: Array) -> Array | None:
        # Asked again: whether gradients are recorded may have changed.
        return native(x) if are_plain_constants(x, knots, values) else None

    return at


def order_statistics(sorted_rows: Array, index: Array) -> Array | None:
    """A kernel for indices in double precision, where nothing asks a gradient."""
    if not are_plain_constants(sorted_rows, index):
        return None
    where = torch_cuda if torch_cuda.lies_there(sorted_rows) else torch_kernels
    return where.order_statistics(sorted_rows, index)


def sums_in_order(values: Array, order: Array) -> Array | None:
    """A kernel, where nothing asks a gradient."""
    if not are_plain_constants(values, order):
        return None
    return torch_kernels.sums_in_order(values, order)


def with_middles(ascending: Array, dtype: DType) -> Array | None:
    """A kernel for one sorted row in main memory, where nothing asks a gradient."""
    if not (are_plain_constants(ascending) and torch_kernels.serve_eagerly(ascending)):
        return None
    return torch_kernels.with_middles(ascending, dtype)


def sort_rows(rows: Array, xp: Namespace, dtype: DType | None = None) -> Array:
    """Each row in ascending order; by NumPy, whose sort is faster, where both see the memory."""
    del xp
    if can_read(rows) and torch_kernels.shares_memory(rows) and not wants_gradient(rows):
        # bfloat16 would be seen as float16, whose NaN are among its great numbers.
        is_bfloat = rows.dtype == torch.bfloat16
        ascending = torch_kernels.sort_rows(rows.float() if is_bfloat else rows).to(rows.dtype)
    else:
        ascending = torch.sort(rows, dim=-1).values
    return ascending if dtype is None else ascending.to(dtype)


def stable_argsort(rows: Array, xp: Namespace) -> Array:
    """The order of each row's entries, equal ones in order of appearance."""
    if can_read(rows) and torch_kernels.serve_eagerly(rows):
        return torch_kernels.stable_argsort(rows)
    return torch_sorts.stable_argsort(rows, xp)


def in_blocks(function: Callable[..., Array], arrays: Sequence[Array], dtype: DType) -> Array:
    """The function of some of them at a time, whose intermediate tensors stay in the cache."""
    x = arrays[0]
    if not can_read(x) or x.device.type != "cpu" or x.numel() <= ENTRIES_PER_BLOCK:
        return function(*arrays)
    result = torch.empty(x.shape, dtype=dtype, device=x.device)
    rows = max(1, ENTRIES_PER_BLOCK * len(x) // x.numel())
    for begin in range(0, len(x), rows):
        some = [each[begin : begin + rows] for each in arrays]
        result[begin : begin + rows] = function(*some)
    return result


def by_features(
    function_of: OfFeatures, table: Array, at_once: int, dtype: DType, *, learns: bool
) -> Array:
    """As NumPy does, where it sees the memory and nothing asks a gradient; else of some samples at
    a time."""
    if not learns and are_plain_constants(table) and torch_kernels.serve_eagerly(table):
        return torch_kernels.by_features(function_of, table, at_once, dtype)
    return in_blocks(function_of(slice(None)), [table], dtype)


def ndtri(p: Array, xp: Namespace) -> Array:
    """The quantile function of the standard normal distribution."""
    del xp
    return torch.special.ndtri(p)


def ndtr(x: Array, xp: Namespace) -> Array:
    """The cdf of the standard normal distribution."""
    del xp
    # Not torch's own ndtr, whose lower tail is a difference of numbers near one.
    return 0.5 * torch.special.erfc(x * -math.sqrt(0.5))


def normal_probabilities(x: Array, last: Array) -> Array | None:
    """A kernel for doubles in main memory, of which nothing asks a gradient."""
    if not are_plain_constants(x):
        return None
    return torch_kernels.normal_probabilities(x, last)


def normal_quantiles(p: Array, complement: Array, clamp: float) -> Array | None:
    """Likewise."""
    if not are_plain_constants(p, complement):
        return None
    return torch_kernels.normal_quantiles(p, complement, clamp)


def device(x: Array) -> object:
    """Where x lies, without a cache that torch.compile would warn of."""
    return x.device


def widest_real(like: Array, xp: Namespace) -> DType:
    """float64, or float32 on the one kind of device that has none."""
    del xp
    return torch.float32 if like.device.type == "mps" else torch.float64


def screen(x: Array, xp: Namespace) -> tuple[bool, bool]:
    """Whether any float is NaN, and whether any is infinite or NaN."""
    return torch_kernels.screen(x) if torch_kernels.serve_eagerly(x) else generic.screen(x, xp)


def detach(x: Array) -> Array:
    """The same data, out of sight of automatic differentiation."""
    return x.detach()


def estimate(name: str, x: Array) -> Callable[..., Array] | None:
    """The kernel of that name, if there are kernels for x."""
    if torch_cuda.reaches(x.device):
        return torch_estimates.CUDA_ESTIMATES.get(name)
    small = can_read(x) and x.numel() < kernels.LEAST_SIZE
    return None if small or not torch_kernels.serve(x) else torch_estimates.ESTIMATES.get(name)


def scale(y: Array, weight: Array | None, bias: Array | None) -> Array:
    """y·weight + bias; in y's own memory, where nothing remembers what was there."""
    scales = [each for each in (weight, bias) if each is not None]
    recorded = torch.is_grad_enabled() and any(each.requires_grad for each in (y, *scales))
    fits = all(torch.promote_types(each.dtype, y.dtype) == y.dtype for each in scales)
    if recorded or not fits or not can_read(y):
        return generic.scale(y, weight, bias)
    if weight is not None:
        y.mul_(weight)
    return y if bias is None else y.add_(bias)


def to_host(x: Array) -> Any:
    """Return an array as a NumPy array."""
    return x.cpu().numpy()


def keep_layout(y: Array, like: Array) -> Array:
    """Return y, contiguous or channels_last where `like` is.

    By permutation: inside vmap, tensors answer and follow no other memory format.
    """
    if like.is_contiguous() or 0 in like.stride():  # expanded, which no result is
        return y.contiguous()
    if like.ndim not in _CHANNELS_LAST_NDIM:
        return y
    channels_last = torch.moveaxis(like, 1, -1)
    if not channels_last.is_contiguous():
        return y
    return torch.moveaxis(torch.moveaxis(y, 1, -1).contiguous(), -1, 1)


OPS = replace(
    generic.OPS,
    check=check,
    sortable=torch_sorts.sortable,
    count_less=count_less,
    rank_and_gather=rank_and_gather,
    map_rows=map_rows,
    map_incomplete=map_incomplete,
    repeats=repeats,
    step=step,
    settle=settle,
    has_native_map=has_native_map,
    map_by_value=map_by_value,
    count_values=count_values,
    normalize_rows=normalize_rows,
    table_of_formula=table_of_formula,
    runs=torch_sorts.runs,
    prefix_sums=torch_sorts.prefix_sums,
    unsort=torch_sorts.unsort,
    search_rows=torch_sorts.search_rows,
    interpolator=interpolator,
    order_statistics=order_statistics,
    sums_in_order=sums_in_order,
    with_middles=with_middles,
    sort_rows=sort_rows,
    stable_argsort=stable_argsort,
    in_blocks=in_blocks,
    by_features=by_features,
    ndtri=ndtri,
    normal_probabilities=normal_probabilities,
    normal_quantiles=normal_quantiles,
    ndtr=ndtr,
    standard_normal=torch_random.standard_normal,
    random_keys=torch_random.random_keys,
    device=device,
    widest_real=widest_real,
    can_read=can_read,
    reads_at_once=torch_tracing.reads_at_once,
    screen=screen,
    detach=detach,
    wants_gradient=wants_gradient,
    connect=connect,
    estimate=estimate,
    scale=scale,
    scale_learning=scale_learning,
    to_host=to_host,
    keep_layout=keep_layout,
)
