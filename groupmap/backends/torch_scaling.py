"""y·weight + bias by kernels for GPUs, and its gradients, which leave out what is NaN."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.autograd import forward_ad

from groupmap._typing import Array
from groupmap.backends import torch_cuda
from groupmap.backends.cuda import scaling
from groupmap.backends.cuda.programs import numbers_of
from groupmap.backends.torch_connection import with_signature_at_hand
from groupmap.backends.torch_tracing import is_plain


def scale_learning(
    y: Array, weight: Array | None, bias: Array | None, dtype: torch.dtype
) -> Array | None:
    """Of a contiguous y; None where there are no kernels for it, or nothing is to be recorded."""
    if not torch_cuda.lies_there(y) or not is_plain(y, weight, bias):
        return None
    given = [each for each in (weight, bias) if each is not None]
    if not torch.is_grad_enabled() or forward_ad._current_level >= 0:
        return None
    if not any(each.requires_grad for each in (y, *given)) or not y.is_contiguous():
        return None
    if _kinds(y, given, dtype) is None or _broadcast(y, given) is None:
        return None
    scaled: Array = _Scaled.apply(y, weight, bias, dtype)  # type: ignore[no-untyped-call]
    return scaled


def _kinds(y: Array, given: list[Array], dtype: torch.dtype) -> scaling.Kinds | None:
    """The numbers of all of them, if kernels know these, and weights are no wider than y."""
    dtypes, devices = {each.dtype for each in given}, {each.device for each in given}
    if len(dtypes) != 1 or devices != {y.device} or not torch_cuda.reaches(y.device):
        return None
    (of_weights,) = dtypes
    if not all(each.is_floating_point for each in (y.dtype, of_weights, dtype)):
        return None
    if torch.promote_types(of_weights, y.dtype) != y.dtype or y.dtype.itemsize < 4:
        return None
    numbers = [numbers_of(each) for each in (y.dtype, of_weights, dtype)]
    return None if None in numbers else scaling.Kinds(*numbers)  # type: ignore[arg-type]  # no None


def _broadcast(y: Array, given: list[Array]) -> scaling.Broadcast | None:
    """How parameters of one shape lie along axes of y that adjoin; None if they do not."""
    shapes = {(1,) * (y.ndim - each.ndim) + tuple(each.shape) for each in given}
    if len(shapes) != 1 or y.numel() == 0 or not all(each.is_contiguous() for each in given):
        return None
    (shape,) = shapes
    if len(shape) != y.ndim:
        return None
    varies = [axis for axis, length in enumerate(shape) if length > 1]
    if not varies:
        return scaling.Broadcast(y.numel(), y.numel(), 1)
    begin, end = varies[0], varies[-1] + 1
    if tuple(shape[begin:end]) != tuple(y.shape[begin:end]):
        return None
    inner, size = math.prod(y.shape[end:]), math.prod(shape)
    return None if max(inner, size) > MOST else scaling.Broadcast(y.numel(), inner, size)


MOST = 2**31 - scaling.ENTRIES_OF_BLOCK  # so that kernels count them in 32 bits


class _Scaled(torch.autograd.Function):
    """y·weight + bias, rounded after each of them, and then to a dtype."""

    @staticmethod
    @with_signature_at_hand
    def forward(
        ctx: Any, y: Array, weight: Array | None, bias: Array | None, dtype: torch.dtype
    ) -> Array:
        ctx.save_for_backward(y, weight, bias)
        ctx.dtype = dtype
        given = [each for each in (weight, bias) if each is not None]
        kinds, of = _kinds(y, given, dtype), _broadcast(y, given)
        assert kinds is not None
        assert of is not None
        memory = torch_cuda.MEMORY
        result = memory.empty_like(y, dtype)
        with memory.current(y.device):
            at = scaling.Addresses(*memory.addresses(y, weight, bias, result))
            scaling.scale(at, of, kinds, memory.place(y.device))
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Array) -> tuple[Array | None, ...]:
        (grad,) = grads
        y, weight, bias = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        # What is to be differentiated once more is a matter of torch's own operations.
        unscale = _unscaled_by_torch if torch.is_grad_enabled() else _unscaled
        return *unscale(y, weight, bias, grad, wanted), None


def _unscaled(
    y: Array, weight: Array | None, bias: Array | None, grad: Array, wanted: tuple[bool, ...]
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients that are wanted, to y, weight and bias."""
    given = [each for each in (weight, bias) if each is not None]
    kinds, of = _kinds(y, given, grad.dtype), _broadcast(y, given)
    assert kinds is not None
    assert of is not None
    memory = torch_cuda.MEMORY
    grad = grad.contiguous()
    outer, chunks, _ = scaling.parts_for(of)
    shape = (outer, of.size, chunks) if of.inner > 1 else (chunks, of.size)
    to_y = memory.empty_like(y, y.dtype) if wanted[0] else None
    sums = [memory.empty(shape, y.dtype, y.device) if each else None for each in wanted[1:]]
    with memory.current(y.device):
        at = scaling.BackwardAddresses(*memory.addresses(y, grad, weight, to_y, *sums))
        scaling.unscale(at, of, kinds, memory.place(y.device))
    to_weight, to_bias = (
        None if parts is None or each is None
        else parts.sum((0, 2) if of.inner > 1 else 0).to(each.dtype).reshape(each.shape)
        for parts, each in zip(sums, (weight, bias), strict=True)
    )  # fmt: skip
    return to_y, to_weight, to_bias


def _unscaled_by_torch(
    y: Array, weight: Array | None, bias: Array | None, grad: Array, wanted: tuple[bool, ...]
) -> tuple[Array | None, Array | None, Array | None]:
    """The same, which can be differentiated itself."""
    missing = torch.isnan(y)
    grad = torch.where(missing, 0.0, grad.to(y.dtype))
    to_y = None
    if wanted[0]:
        to_y = grad if weight is None else grad * weight
    of_weight = grad * torch.where(missing, 0.0, y)
    to_weight, to_bias = (
        each.sum_to_size(like.shape).to(like.dtype) if is_wanted and like is not None else None
        for each, like, is_wanted in ((of_weight, weight, wanted[1]), (grad, bias, wanted[2]))
    )
    return to_y, to_weight, to_bias
