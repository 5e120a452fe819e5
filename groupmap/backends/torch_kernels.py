"""The kernels on torch tensors in main memory, which share their memory with NumPy arrays.

Eager code calls them as they are. Code that is traced or transformed cannot look into a kernel and
meets it as an operator of torch's, with rules that say what shapes it makes and how it is batched.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from groupmap._typing import Array
from groupmap.backends import kernels
from groupmap.backends._ops import TieRule

_DTYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
)  # fmt: skip


def serve(*tensors: Array) -> bool:
    """Whether there are kernels for tensors of their device and dtype."""
    return kernels.INSTALLED and all(
        each.device.type == "cpu" and each.dtype in _DTYPES for each in tensors
    )


def serve_eagerly(*tensors: Array) -> bool:
    """Whether, besides, the first of them, the data, is worth a call."""
    return serve(*tensors) and tensors[0].numel() >= kernels.LEAST_SIZE


def as_array(tensor: Array) -> np.ndarray[Any, Any]:
    """The tensor's memory; of bfloat16, which NumPy lacks, as the other floats of 16 bits.

    Both have the sign first and then a magnitude, so they are in the order of their bits alike.
    """
    tensor = tensor.detach().contiguous()
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
        as_array(rows), steps, tie_rule, with_order=with_order, threads=torch.get_num_threads()
    )
    y = table[torch.from_numpy(values)] if learns else as_tensor(values, table.dtype)
    return y, None if order is None else torch.from_numpy(order)


def count_less(rows: Array) -> tuple[Array, Array]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    from groupmap.backends.kernels import rank

    less, less_equal = rank.count_less(as_array(rows), threads=torch.get_num_threads())
    return torch.from_numpy(less), torch.from_numpy(less_equal)


def screen(x: Array) -> tuple[bool, bool]:
    """Whether any float is NaN, and whether any is infinite or NaN."""
    from groupmap.backends.kernels import elementwise

    if x.dtype == torch.bfloat16:
        infinity = elementwise.BFLOAT16_INFINITY
    else:
        infinity = elementwise.INFINITY[x.dtype.itemsize]
    return elementwise.screen(as_array(x), infinity, threads=torch.get_num_threads())


def can_scale(y: Array, weight: Array | None, bias: Array | None) -> bool:
    """Whether each parameter serves equal stretches of y, which lies in one piece."""
    shapes = {tuple(each.shape) for each in (weight, bias) if each is not None}
    if len(shapes) != 1 or not y.is_contiguous():
        return False
    (shape,) = shapes
    shape = (1,) * (y.ndim - len(shape)) + shape
    own = [axis for axis, size in enumerate(shape) if size != 1]
    return shape[own[0] : own[-1] + 1] == tuple(y.shape[own[0] : own[-1] + 1]) if own else False


def scale(y: Array, weight: Array | None, bias: Array | None) -> Array:
    """y·weight + bias, in y's own memory."""
    from groupmap.backends.kernels import elementwise

    factor, summand = (
        None if each is None else each.detach().to(y.dtype).numpy() for each in (weight, bias)
    )
    elementwise.scale(y.detach().numpy(), factor, summand, threads=torch.get_num_threads())
    return y


def _operator(name: str, schema: str) -> Callable[..., Any]:
    return torch.library.custom_op(
        f"groupmap::{name}", mutates_args=(), device_types="cpu", schema=schema
    )


count_less_operator = _operator("count_less", "(Tensor rows) -> (Tensor, Tensor)")(count_less)


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


def _matrix(tensor: Array, dtype: torch.dtype | None = None) -> np.ndarray[Any, Any]:
    return as_array(tensor if dtype is None else tensor.to(dtype)).reshape(-1, tensor.shape[-1])


def _transport(
    x: Array,
    grad: Array,
    order: Array | None,
    excluded: Array | None,
    mid_quantiles: Array,
    window: int | None,
    floor: float,
) -> Array:
    """J·dL/dy of the transport estimate; of half precision, in single precision."""
    from groupmap.backends.kernels import estimates, rank

    threads = torch.get_num_threads()
    dtype = torch.promote_types(x.dtype, torch.float32)
    rows = _matrix(x, dtype)
    counts = np.full(len(rows), rows.shape[-1], dtype=np.int64)
    if excluded is not None:
        outside = _matrix(excluded)
        counts -= np.count_nonzero(outside, axis=-1)
        rows = np.where(outside, np.float32(np.inf), rows)
    ascending = rank.order_of(rows, threads=threads) if order is None else _matrix(order)
    result = estimates.transport(
        rows, _matrix(grad, dtype), ascending, counts, _matrix(mid_quantiles), window, floor,
        threads=threads,
    )  # fmt: skip
    return torch.from_numpy(result).reshape(grad.shape).to(grad.dtype)


def _affine(x: Array, y: Array, grad: Array, excluded: Array | None) -> Array:
    """J·dL/dy of the affine estimate; of half precision, in single precision."""
    from groupmap.backends.kernels import estimates

    dtype = torch.promote_types(x.dtype, torch.float32)
    outside = None if excluded is None else _matrix(excluded)
    result = estimates.affine(
        _matrix(x, dtype), _matrix(y, dtype), _matrix(grad, dtype), outside,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    return torch.from_numpy(result).reshape(grad.shape).to(grad.dtype)


transport_operator = _operator(
    "transport",
    "(Tensor x, Tensor grad, Tensor? order, Tensor? excluded, Tensor mid_quantiles, int? window, "
    "float floor) -> Tensor",
)(_transport)
affine_operator = _operator(
    "affine", "(Tensor x, Tensor y, Tensor grad, Tensor? excluded) -> Tensor"
)(_affine)


def _register_rules(operator: Any, grad_at: int) -> None:
    """The rules of an operator whose result is like its argument at that place."""

    def fake(*arguments: Any) -> Array:
        return torch.empty_like(arguments[grad_at], memory_format=torch.contiguous_format)

    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Array, int]:
        batched = [
            _batch_in_front(*each, info.batch_size) for each in zip(arguments, in_dims, strict=True)
        ]
        shape = batched[grad_at].shape
        return operator(*(_with_axes_of(shape, each) for each in batched)), 0

    operator.register_fake(fake)
    operator.register_vmap(vmap)


def _batch_in_front(argument: Any, batched_at: int | None, size: int) -> Any:
    if not isinstance(argument, torch.Tensor):
        return argument
    if batched_at is None:
        return argument.expand(size, *argument.shape)
    return argument.movedim(batched_at, 0)


def _with_axes_of(shape: torch.Size, argument: Any) -> Any:
    """One row for all ``(b, n)``, beside rows ``(b, …, n)``, as rows."""
    if not isinstance(argument, torch.Tensor):
        return argument
    missing = (1,) * (len(shape) - argument.ndim)
    return argument.reshape(shape[0], *missing, *argument.shape[1:]).expand(shape)


_register_rules(transport_operator, 1)
_register_rules(affine_operator, 2)


class _Symmetric(torch.autograd.Function):
    """J·dL/dy, as a function of dL/dy: what is passed back is J·(what came), J being symmetric."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad: Array, product: Callable[..., Array], *saved: Array | None) -> Array:
        return product(grad, *saved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Array) -> None:
        del output
        _, ctx.product, *saved = inputs
        ctx.save_for_backward(*saved)

    @staticmethod
    def backward(ctx: Any, *grads: Array) -> tuple[Array | None, ...]:
        saved = ctx.saved_tensors
        passed: Array = _Symmetric.apply(grads[0], ctx.product, *saved)  # type: ignore[no-untyped-call]
        return passed, None, *(None for _ in saved)


def _symmetric(product: Callable[..., Array], grad: Array, *saved: Array | None) -> Array:
    if torch.compiler.is_compiling():
        # Compiled code has no second derivatives, and torch does not trace a Function in the
        # backward pass of another.
        return product(grad, *saved)
    passed: Array = _Symmetric.apply(grad, product, *saved)  # type: ignore[no-untyped-call]
    return passed


def _transport_product(
    grad: Array,
    x: Array,
    quantiles: Array,
    order: Array | None,
    excluded: Array | None,
    *,
    window: int | None,
    floor: float,
) -> Array:
    found: Array = transport_operator(x, grad, order, excluded, quantiles, window, floor)
    return found


def _affine_product(grad: Array, x: Array, y: Array, excluded: Array | None) -> Array:
    found: Array = affine_operator(x, y, grad, excluded)
    return found


def _transport_estimate(
    x: Array, y: Array, grad: Array, saved: Any, *, window: int | None, floor: float, **_: object
) -> Array:
    del y
    product = partial(_transport_product, window=window, floor=floor)
    return _symmetric(product, grad, x, saved.mid_quantiles, saved.order, saved.excluded)


def _affine_estimate(x: Array, y: Array, grad: Array, saved: Any, **_: object) -> Array:
    return _symmetric(_affine_product, grad, x, y, saved.excluded)


ESTIMATES: dict[str, Callable[..., Array]] = {
    "transport": _transport_estimate,
    "affine": _affine_estimate,
}
