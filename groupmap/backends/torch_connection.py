"""Gradients that are estimates: how torch's automatic differentiation is told of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from groupmap._typing import Array
from groupmap.backends.torch_tracing import is_batched_gradient, is_plain


def connect(
    y: Array, x: Array, saved: tuple[Array | None, ...], vjp: Callable[..., Array], sees_y: bool
) -> Array:
    """Return y, with ``vjp(x, y, grad, *saved)`` as its gradient to x."""
    is_apart = sees_y or y.requires_grad or not is_plain(y, x) or y._is_view()
    connection = _Connection if is_apart else _ConnectionInPlace
    connected: Array = connection.apply(y, x, vjp, *saved)  # type: ignore[no-untyped-call]
    return connected


def with_signature_at_hand(function: Callable[..., Any]) -> Callable[..., Any]:
    """The forward of an autograd.Function, whose signature torch asks for at each call."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


def _estimated(vjp: Callable[..., Array], grad: Array, saved: Sequence[Array | None]) -> Array:
    """What the estimate makes of dL/dy; of several of these, one after the other."""
    if not is_batched_gradient(grad):
        return vjp(grad, *saved)
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    grads = torch._remove_batch_dim(grad, level, 1, 0)
    to_x = torch.stack([vjp(each, *saved) for each in grads.unbind()])
    return torch._add_batch_dim(to_x, 0, level)


class _Connection(torch.autograd.Function):
    """Y as it is in the forward pass; an estimate of its gradient to x in the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    @with_signature_at_hand
    def forward(y: Array, x: Array, vjp: Callable[..., Array], *saved: Array | None) -> Array:
        del x, vjp, saved
        return y.clone()  # an input returned as it is would be a view that refuses relu_()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Array) -> None:
        del output
        y, x, ctx.vjp, *saved = inputs
        ctx.save_for_backward(y, x, *saved)

    @staticmethod
    def backward(ctx: Any, *grads: Array) -> tuple[Array | None, ...]:
        (grad,) = grads
        y, x, *saved = ctx.saved_tensors
        # Detached, so that a second derivative takes the estimate for what multiplies dL/dy.
        to_x = _estimated(partial(ctx.vjp, x.detach(), y.detach()), grad, saved)
        return grad, to_x.to(x.dtype), None, *(None for _ in saved)


class _ConnectionInPlace(torch.autograd.Function):
    """The same of y in its own memory, where the estimate does not see it."""

    @staticmethod
    @with_signature_at_hand
    def forward(ctx: Any, y: Array, x: Array, vjp: Callable[..., Array], *saved: Any) -> Array:
        ctx.vjp = vjp
        ctx.mark_dirty(y)
        ctx.save_for_backward(x, *saved)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Array) -> tuple[Array | None, ...]:
        (grad,) = grads
        x, *saved = ctx.saved_tensors
        to_x = _estimated(partial(ctx.vjp, x.detach(), None), grad, saved)
        return None, to_x.to(x.dtype), None, *(None for _ in saved)
