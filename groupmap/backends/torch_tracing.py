"""What may be done with tensors now: whether they are traced, captured, sharded, or learn."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

from groupmap._typing import Array

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_TRACES = torch._C._TorchDispatchModeKey.PROXY


def is_eager() -> bool:
    """Whether what is made has memory at once: nothing is traced, and nothing transformed."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._is_tracing()  # as torch.jit.is_tracing, twice as fast
        and torch._C._functorch.peek_interpreter_stack() is None
        # Nor by torch.fx, which traces real tensors, too.
        and torch._C._get_dispatch_mode(_TRACES) is None
        and torch._ops._get_dispatch_mode_pre_dispatch(_TRACES) is None  # type: ignore[no-untyped-call]
    )


def is_plain(*tensors: Array | None) -> bool:
    """Whether they are tensors with memory of their own, which kernels may be given; or None."""
    if not is_eager():
        return False
    # A loop, since each call asks, and a generator takes twice the time.
    for each in tensors:
        if each is not None and (type(each) not in _PLAIN or each.is_meta):
            return False
    return True


def can_read(x: Array) -> bool:
    """Whether Python may branch on the data, and keep tables made beside them for later.

    Not while a graph is captured, nor inside vmap, grad and their kin, where a tensor that is
    made belongs to the transform and must not outlive it. torch has no public question for the
    latter.
    """
    return is_plain(x) and not is_captured(x)


def reads_at_once(x: Array) -> bool:
    """Whether, besides, no device has to finish first."""
    return can_read(x) and not x.is_cuda


def is_captured(x: Array) -> bool:
    """Whether what is done with x is only noted, for a CUDA graph."""
    return bool(x.is_cuda) and torch.cuda.is_current_stream_capturing()


def is_batched(x: Array) -> bool:
    """Whether `torch.vmap` sees one entry of a batch in x. torch has no public question for it."""
    return bool(torch._C._functorch.is_batchedtensor(x))


def is_batched_gradient(grad: Array) -> bool:
    """Whether `torch.autograd.grad` has several gradients at once in it, by ``is_grads_batched``:
    a vmap of torch's from before `torch.vmap`, which few operations know."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_legacy_batchedtensor(grad)


def is_sharded(x: object) -> bool:
    """Whether x is a DTensor; without importing what makes them, as most programs have none."""
    return type(x).__name__ == "DTensor"


def wants_gradient(*arrays: Array) -> bool:
    """Whether something differentiates with respect to any of them, in either direction.

    Forward mode finds no jvp on the connection then, and raises; unconnected it would get zeros.
    """
    if torch.is_grad_enabled() and any(each.requires_grad for each in arrays):
        return True
    # Outside of every dual level unpacking is an error.
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return False
    return any(_has_tangent(each) for each in arrays)


def _has_tangent(x: Array) -> bool:
    return forward_ad.unpack_dual(x).tangent is not None  # type: ignore[no-untyped-call]


def are_plain_constants(*tensors: Array) -> bool:
    """Whether kernels that know no gradient may be given them."""
    return is_plain(*tensors) and not wants_gradient(*tensors)
