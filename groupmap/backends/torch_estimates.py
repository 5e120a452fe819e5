"""The kernels of the gradient on torch tensors: operators, their rules, and second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from groupmap._typing import Array
from groupmap.backends import torch_cuda
from groupmap.backends._ops import Formula
from groupmap.backends.torch_connection import with_signature_at_hand
from groupmap.backends.torch_kernels import as_array, eager_or_traced, in_place, operator


def _matrix(tensor: Array) -> np.ndarray[Any, Any]:
    return as_array(tensor.reshape(-1, tensor.shape[-1]))


def _rows(tensor: Array, dtype: torch.dtype) -> np.ndarray[Any, Any]:
    """The same, in whatever layout it has."""
    return in_place(tensor.to(dtype).reshape(-1, tensor.shape[-1]))


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
    from groupmap.backends.kernels.filling import fill
    from groupmap.backends.kernels.rank import order_of
    from groupmap.backends.kernels.transport import transport

    threads = torch.get_num_threads()
    dtype = torch.promote_types(x.dtype, torch.float32)
    rows = _rows(x, dtype)
    counts = np.full(len(rows), rows.shape[-1], dtype=np.int64)
    if excluded is not None:  # among these is all that is not finite
        rows = np.array(rows, order="C")
        fill(rows, _matrix(excluded), counts)
    ascending = order_of(rows, threads=threads) if order is None else _matrix(order)
    quantiles = _matrix(mid_quantiles.to(dtype))
    result = transport(
        rows, _rows(grad, dtype), ascending, counts, quantiles, window, floor, threads=threads
    )
    return torch.from_numpy(result).reshape(grad.shape).to(grad.dtype)


def _affine(x: Array, y: Array, grad: Array, excluded: Array | None) -> Array:
    """J·dL/dy of the affine estimate; of half precision, in single precision."""
    from groupmap.backends.kernels.affine import affine

    dtype = torch.promote_types(x.dtype, torch.float32)
    outside = None if excluded is None else _matrix(excluded)
    result = affine(
        _rows(x, dtype), _rows(y, dtype), _rows(grad, dtype), outside,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    return torch.from_numpy(result).reshape(grad.shape).to(grad.dtype)


def _contiguous(function: Callable[..., Array]) -> Callable[..., Array]:
    """The same as the rules of an operator have it, whatever layout its arguments are in."""
    return lambda *arguments: function(*arguments).contiguous()


transport_operator = operator(
    "transport",
    "(Tensor x, Tensor grad, Tensor? order, Tensor? excluded, Tensor mid_quantiles, int? window, "
    "float floor) -> Tensor",
)(_contiguous(_transport))
affine_operator = operator(
    "affine", "(Tensor x, Tensor y, Tensor grad, Tensor? excluded) -> Tensor"
)(_contiguous(_affine))


def _transport_on_gpu(
    x: Array,
    grad: Array,
    order: Array | None,
    excluded: Array | None,
    mid_quantiles: Array,
    window: int | None,
    floor: float,
    formula: str,
    parameter: float,
) -> Array:
    """The same by a CUDA kernel. With a formula the order is that of its map, −∞ first."""
    return torch_cuda.transport(
        x, grad, order, excluded, mid_quantiles, window, floor,
        Formula(formula, parameter) if formula else None,
    )  # fmt: skip


cuda_transport_operator = operator(
    "transport_on_gpu",
    "(Tensor x, Tensor grad, Tensor? order, Tensor? excluded, Tensor mid_quantiles, int? window, "
    "float floor, str formula, float parameter) -> Tensor",
    devices=None,
)(_transport_on_gpu)


cuda_affine_operator = operator(
    "affine_on_gpu",
    "(Tensor x, Tensor y, Tensor grad, Tensor? excluded) -> Tensor",
    devices=None,
)(torch_cuda.affine)


def _register_rules(of: Any, grad_at: int) -> None:
    """The rules of an operator whose result is like its argument at that place."""

    def fake(*arguments: Any) -> Array:
        return torch.empty_like(arguments[grad_at], memory_format=torch.contiguous_format)

    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Array, int]:
        batched = [
            _batch_in_front(*each, info.batch_size) for each in zip(arguments, in_dims, strict=True)
        ]
        shape = batched[grad_at].shape
        return of(*(_with_axes_of(shape, each) for each in batched)), 0

    of.register_fake(fake)
    of.register_vmap(vmap)


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
_register_rules(cuda_transport_operator, 1)
_register_rules(cuda_affine_operator, 2)
_register_rules(affine_operator, 2)

# Eager code need not go the way through torch's dispatcher, which takes as long as all the rest.
_transport_called = eager_or_traced(_transport, transport_operator)
_affine_called = eager_or_traced(_affine, affine_operator)
_cuda_transport_called = eager_or_traced(_transport_on_gpu, cuda_transport_operator)
_cuda_affine_called = eager_or_traced(torch_cuda.affine, cuda_affine_operator)


class _Symmetric(torch.autograd.Function):
    """J·dL/dy, as a function of dL/dy: what is passed back is J·(what came), J being symmetric."""

    generate_vmap_rule = True

    @staticmethod
    @with_signature_at_hand
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
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        # Compiled code has no second derivatives, and torch does not trace a Function in the
        # backward pass of another. Else somebody asks for them where gradients are recorded.
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
    return _transport_called(x, grad, order, excluded, quantiles, window, floor)


def _affine_product(grad: Array, x: Array, y: Array, excluded: Array | None) -> Array:
    return _affine_called(x, y, grad, excluded)


def _transport_estimate(
    x: Array, y: Array, grad: Array, saved: Any, *, window: int | None, floor: float, **_: object
) -> Array:
    del y
    product = partial(_transport_product, window=window, floor=floor)
    return _symmetric(product, grad, x, saved.mid_quantiles, saved.order, saved.excluded)


def _cuda_transport_product(
    grad: Array,
    x: Array,
    quantiles: Array,
    order: Array | None,
    excluded: Array | None,
    *,
    window: int | None,
    floor: float,
    formula: Formula | None,
) -> Array:
    name, parameter = ("", 0.0) if formula is None else formula
    return _cuda_transport_called(
        x, grad, order, excluded, quantiles, window, floor, name, float(parameter)
    )


def _cuda_transport_estimate(
    x: Array, y: Array, grad: Array, saved: Any, *, window: int | None, floor: float, **_: object
) -> Array:
    del y
    product = partial(_cuda_transport_product, window=window, floor=floor, formula=saved.formula)
    return _symmetric(product, grad, x, saved.mid_quantiles, saved.order, saved.excluded)


def _cuda_affine_product(grad: Array, x: Array, y: Array, excluded: Array | None) -> Array:
    return _cuda_affine_called(x, y, grad, excluded)


def _cuda_affine_estimate(x: Array, y: Array, grad: Array, saved: Any, **_: object) -> Array:
    return _symmetric(_cuda_affine_product, grad, x, y, saved.excluded)


def _affine_estimate(x: Array, y: Array, grad: Array, saved: Any, **_: object) -> Array:
    return _symmetric(_affine_product, grad, x, y, saved.excluded)


ESTIMATES: dict[str, Callable[..., Array]] = {
    "transport": _transport_estimate,
    "affine": _affine_estimate,
}
CUDA_ESTIMATES: dict[str, Callable[..., Array]] = {
    "transport": _cuda_transport_estimate,
    "affine": _cuda_affine_estimate,
}
