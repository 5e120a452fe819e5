"""The kernels on torch tensors in main memory, which share their memory with NumPy arrays.

Eager code calls them as they are. Code that is traced or transformed cannot look into a kernel and
meets it as an operator of torch's, with rules that say what shapes it makes and how it is batched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch

from groupmap._typing import Array
from groupmap.backends import kernels, numpy
from groupmap.backends._bits import BFLOAT16_INFINITY, INFINITY, limit_of
from groupmap.backends._ops import LineOfRanks, MapWanted, OfFeatures, Scale, TieRule
from groupmap.backends.kernels.threads import default_set_to
from groupmap.backends.torch_tracing import is_plain

if TYPE_CHECKING:
    from groupmap.backends.kernels.scaling import Scaling

Function = TypeVar("Function", bound=Callable[..., Any])

# Those that both libraries have; and one that NumPy lacks, by the memory that it is seen as.
_DTYPES = {
    getattr(torch, name): np.dtype(name)
    for name in (
        "float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64",
    )
} | {torch.bfloat16: np.dtype("float16")}  # fmt: skip


# More than NumPy's: torch's steps take longer to begin, and at each one thread waits for another.
# Of no more entries torch has two threads of its own do a step, at most, beside ours.
ENTRIES_PER_BLOCK = 2**16


def shares_memory(*tensors: Array) -> bool:
    """Whether NumPy and the kernels know their device and dtype."""
    return all(each.device.type == "cpu" and each.dtype in _DTYPES for each in tensors)


def serve(*tensors: Array) -> bool:
    """Whether there are kernels for them."""
    return kernels.INSTALLED and shares_memory(*tensors)


def serve_eagerly(*tensors: Array) -> bool:
    """Whether, besides, the first of them, the data, is worth a call."""
    return serve(*tensors) and tensors[0].numel() >= kernels.LEAST_SIZE


def _on_torchs_threads(function: Function) -> Function:
    """The function, in which NumPy's functions have as many threads as torch has."""

    @wraps(function)
    def called(*arguments: Any) -> Any:
        with default_set_to(torch.get_num_threads()):
            return function(*arguments)

    return cast(Function, called)


def as_array(tensor: Array) -> np.ndarray[Any, Any]:
    """The tensor's memory, entries one after the other."""
    return in_place(tensor.contiguous())


def in_place(tensor: Array) -> np.ndarray[Any, Any]:
    """The memory of a tensor of any strides, as it lies there; of bfloat16, which NumPy lacks, as
    the other floats of 16 bits.

    Both have the sign first and then a magnitude, so they are in the order of their bits alike.
    """
    tensor = tensor.detach().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.float16)
    array: np.ndarray[Any, Any] = tensor.numpy()
    return array


def as_tensor(array: np.ndarray[Any, Any], dtype: torch.dtype) -> Array:
    """The array's memory as a tensor; of bfloat16, where the bits are meant so."""
    tensor = torch.from_numpy(array)
    return tensor.view(dtype) if dtype == torch.bfloat16 else tensor


def rank_and_gather(
    rows: Array, table: Array, tie_rule: TieRule | None, with_order: bool
) -> tuple[Array, Array | None]:
    """``table[h]``; through h itself where the table learns and wants to know what it gave."""
    from groupmap.backends.kernels import rank

    learns = table.requires_grad and torch.is_grad_enabled()
    steps = np.arange(table.shape[0]) if learns else as_array(table)
    values, order = rank.rank_and_gather(
        in_place(rows), steps, tie_rule, with_order=with_order, threads=torch.get_num_threads()
    )
    y = table[torch.from_numpy(values)] if learns else as_tensor(values, table.dtype)
    return y, None if order is None else torch.from_numpy(order)


def map_rows(rows: Array, table: Array, wanted: MapWanted) -> tuple[Array, Array | None] | None:
    """``table[h]``, scaled, and the order; None if the rows hold NaN, or what is not finite."""
    from groupmap.backends.kernels import rank

    scale, limit = wanted.scale, None
    if rows.dtype.is_floating_point:
        limit = limit_of(_infinity(rows.dtype), only_finite=wanted.is_connected)
    found = rank.map_rows(
        in_place(rows), as_array(table), wanted.tie_rule, with_order=wanted.with_order,
        scaling=None if scale is None else _scaling(scale), limit=limit,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    if found is None:
        return None
    values, order = found
    y = as_tensor(values, table.dtype if scale is None else scale.dtype)
    return y, None if order is None else torch.from_numpy(order)


def map_by_value(rows: Array, quantiles: Callable[[Array, Array], Array]) -> Array | None:
    """By kernels; by torch where what becomes of the values learns."""
    from groupmap.backends.kernels.counted_values import counted_values

    with counted_values(in_place(rows), threads=torch.get_num_threads()) as found:
        if found is None:
            return None
        values = quantiles(torch.from_numpy(found.less), torch.from_numpy(found.less_equal))
        if values.requires_grad and torch.is_grad_enabled():
            if rows.is_floating_point():
                return None  # so that the gradient is that of other rows
            levels = np.broadcast_to(np.arange(values.shape[-1]), values.shape)
            return values.gather(-1, torch.from_numpy(found.look_up(levels)))
        return as_tensor(found.look_up(as_array(values)), values.dtype)


def count_values(rows: Array) -> tuple[Array, Array] | None:
    """By kernels."""
    from groupmap.backends.kernels.counted_values import counted_values

    threads = torch.get_num_threads()
    with counted_values(in_place(rows), threads=threads, are_looked_up=False) as found:
        if found is None:
            return None
        return torch.from_numpy(found.numbers.copy()), torch.from_numpy(found.less_equal)


def normalize_rows(rows: Array, tie_rule: TieRule | None, line: LineOfRanks) -> Array | None:
    """Each row to the mean quantile function of all; None where that is not finite."""
    from groupmap.backends.kernels import normalizing

    shared = in_place(rows)
    threads = torch.get_num_threads()
    found = normalizing.normalize_rows(shared, tie_rule, line, threads=threads)
    return None if found is None else torch.from_numpy(found)


def _scaling(scale: Scale) -> Scaling:
    from groupmap.backends.kernels.scaling import Scaling

    is_bfloat = scale.dtype == torch.bfloat16
    weight = None if scale.weight is None else as_array(scale.weight)
    bias = None if scale.bias is None else as_array(scale.bias)
    return Scaling.of(weight, bias, scale.spans, _DTYPES[scale.dtype], is_bfloat)


def _infinity(dtype: torch.dtype) -> Any:
    return BFLOAT16_INFINITY if dtype == torch.bfloat16 else INFINITY[dtype.itemsize]


def count_less(rows: Array) -> tuple[Array, Array]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    from groupmap.backends.kernels import rank

    less, less_equal = rank.count_less(as_array(rows), threads=torch.get_num_threads())
    return torch.from_numpy(less), torch.from_numpy(less_equal)


@_on_torchs_threads
def with_middles(ascending: Array, dtype: torch.dtype) -> Array | None:
    """A table of the values, and between each two the middle."""
    if dtype not in (torch.float32, torch.float64):
        return None
    table = numpy.with_middles(as_array(ascending), _DTYPES[dtype])
    return None if table is None else torch.from_numpy(table)


@_on_torchs_threads
def map_incomplete(
    rows: Array,
    missing: Array,
    tables_of: Callable[[Sequence[int]], Sequence[Array]],
    tie_rule: TieRule | None,
    dtype: torch.dtype,
) -> Array | None:
    """NumPy's; of bfloat16, which it lacks, as the floats that hold all of them."""
    is_bfloat = rows.dtype == torch.bfloat16
    # What is gathered from a table is bits.
    y = numpy.map_incomplete(
        in_place(rows.float() if is_bfloat else rows),
        in_place(missing),
        lambda counts: [as_array(each) for each in tables_of(counts)],
        tie_rule,
        _DTYPES[dtype],
    )
    return None if y is None else as_tensor(y, dtype)


def interpolator(
    knots: Array, values: Array, on_runs: str
) -> Callable[[Array], Array | None] | None:
    """NumPy's, for doubles."""
    if not serve(knots, values):
        return None
    native = numpy.interpolator(as_array(knots), as_array(values), on_runs)
    return None if native is None else partial(_by_numpy, native)


def order_statistics(sorted_rows: Array, index: Array) -> Array | None:
    """NumPy's, but of bfloat16, of which it knows not the numbers."""
    if not serve(sorted_rows, index) or sorted_rows.dtype == torch.bfloat16:
        return None
    return _by_numpy(numpy.order_statistics, sorted_rows, index)


def sums_in_order(values: Array, order: Array) -> Array | None:
    """NumPy's."""
    return _by_numpy(numpy.sums_in_order, values, order) if serve(values, order) else None


def stable_argsort(rows: Array) -> Array:
    """The order of each row's entries, equal ones in order of appearance."""
    from groupmap.backends.kernels import rank

    order = rank.order_of(in_place(rows), threads=torch.get_num_threads())
    return torch.from_numpy(order).long()


def normal_probabilities(x: Array, last: Array) -> Array | None:
    """NumPy's, for doubles."""
    return _by_numpy(partial(numpy.normal_probabilities, last=last), x)


def normal_quantiles(p: Array, complement: Array, clamp: float) -> Array | None:
    """NumPy's, for doubles."""
    return _by_numpy(partial(numpy.normal_quantiles, clamp=clamp), p, complement)


@_on_torchs_threads
def _by_numpy(function: Callable[..., Any], *tensors: Array) -> Array | None:
    """What the function makes of their memory, if NumPy sees it; or None, as it says."""
    y = function(*map(in_place, tensors)) if shares_memory(*tensors) else None
    return None if y is None else torch.from_numpy(y)


@_on_torchs_threads
def by_features(function_of: OfFeatures, table: Array, at_once: int, dtype: torch.dtype) -> Array:
    """As NumPy's, of functions of tensors."""

    def of_arrays(features: slice) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
        function = function_of(features)
        return lambda samples: in_place(function(as_tensor(samples, table.dtype)))

    y = numpy.by_features(of_arrays, in_place(table), at_once, _DTYPES[dtype], ENTRIES_PER_BLOCK)
    return as_tensor(y, dtype)


@_on_torchs_threads
def sort_rows(rows: Array) -> Array:
    """Each row in ascending order."""
    return as_tensor(numpy.sort_rows(in_place(rows), np), rows.dtype)


def through_knots(
    x: Array, knots: Array, heights: Array, at_knots: Array, slopes: Array, *, with_slopes: bool
) -> tuple[Array, Array | None]:
    """The heights at x ``(g, n)`` of the line through (knots, heights), and the slopes there."""
    from groupmap.backends.kernels import segments

    y, slopes_there = segments.through_knots(
        in_place(x), *(as_array(each) for each in (knots, heights, at_knots, slopes)),
        with_slopes=with_slopes, threads=torch.get_num_threads(),
    )  # fmt: skip
    return torch.from_numpy(y), None if slopes_there is None else torch.from_numpy(slopes_there)


def screen(x: Array) -> tuple[bool, bool]:
    """Whether any float is NaN, and whether any is infinite or NaN."""
    from groupmap.backends.kernels import screening

    return screening.screen(in_place(x), _infinity(x.dtype), threads=torch.get_num_threads())


def eager_or_traced(function: Callable[..., Array], operator: Any) -> Callable[..., Array]:
    """The function itself where it is given memory, and the operator where it is traced."""

    def called(*arguments: Any) -> Array:
        tensors = [each for each in arguments if isinstance(each, torch.Tensor)]
        called_one = function if is_plain(*tensors) else operator
        return called_one(*arguments)

    return called


def operator(name: str, schema: str, devices: str | None = "cpu") -> Callable[..., Any]:
    """Make a function an operator of torch's on some kind of device, or on all (None)."""
    return torch.library.custom_op(
        f"groupmap::{name}", mutates_args=(), device_types=devices, schema=schema
    )


count_less_operator = operator("count_less", "(Tensor rows) -> (Tensor, Tensor)")(count_less)


@count_less_operator.register_fake  # type: ignore[untyped-decorator]
def _(rows: Array) -> tuple[Array, Array]:
    return (
        torch.empty(rows.shape, dtype=torch.int64, device=rows.device),
        torch.empty(rows.shape, dtype=torch.int64, device=rows.device),
    )


@count_less_operator.register_vmap  # type: ignore[untyped-decorator]
def _(info: Any, in_dims: tuple[int], rows: Array) -> tuple[tuple[Array, Array], tuple[int, int]]:
    del info
    return count_less_operator(rows.movedim(in_dims[0], 0)), (0, 0)
