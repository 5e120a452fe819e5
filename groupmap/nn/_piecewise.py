"""Lines between knots, for torch: with exact derivatives, and of operations that ONNX has too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from groupmap.backends import torch_kernels
from groupmap.backends.torch_tracing import can_read


def through_knots(
    x: Tensor, knots: Tensor, heights: Tensor, at_knots: Tensor, *, is_continued: bool
) -> Tensor:
    """The line through (knots, heights) at x ``(g, n)``; where x is a knot, `at_knots`.

    Knots are ``(g, k)`` and ascend, heights and at_knots broadcast to them, and all are of one
    dtype. Outside of the knots it keeps the height of the nearest end, or goes on along the
    outermost segment. The derivatives in x and in the heights are those of this line; NaN stays
    NaN.
    """
    heights, at_knots = heights.expand_as(knots), at_knots.expand_as(knots)
    slopes = _slopes(knots, heights, is_continued)
    learns = torch.is_grad_enabled() and (heights.requires_grad or at_knots.requires_grad)
    is_plain = can_read(x) and forward_ad._current_level < 0 and not learns
    if is_plain and x.numel() and torch_kernels.serve_eagerly(x, knots):
        line = (x, knots, heights, at_knots, slopes)
        if torch.is_grad_enabled() and x.requires_grad:
            y, _ = _ThroughKnots.apply(*line)  # type: ignore[no-untyped-call]
        else:
            y, _ = torch_kernels.through_knots(*line, with_slopes=False)
        return y  # type: ignore[no-any-return]
    missing = torch.isnan(x)
    x = torch.where(missing, knots[:, :1], x)  # with which slopes are multiplied
    segment = _count_at_most(knots, x)
    nearest = (segment - 1).clamp(min=0)
    low, y_low, y_at = (torch.gather(each, 1, nearest) for each in (knots, heights, at_knots))
    slope = torch.gather(slopes, 1, segment)
    distance = x * 0.5 - low * 0.5  # halves, since the difference of finite numbers may not be so
    rise = torch.where(slope != 0.0, distance, 0.0) * slope
    y = y_low + (rise + rise) + torch.where(x == low, y_at - y_low, 0.0)
    return torch.where(missing, torch.nan, y)


def _slopes(knots: Tensor, heights: Tensor, is_continued: bool) -> Tensor:
    """Below all knots, of each segment between them, and above them.

    0 where a segment has no width, or next to none.
    """
    half_run = knots[:, 1:] * 0.5 - knots[:, :-1] * 0.5
    rise = heights[:, 1:] - heights[:, :-1]
    slopes = rise / torch.where(half_run > 0.0, half_run, 1.0) * 0.5
    slopes = torch.where((half_run > 0.0) & torch.isfinite(slopes), slopes, 0.0)
    below = above = torch.zeros_like(knots[:, :1])
    if is_continued and knots.shape[1] > 1:
        below, above = slopes[:, :1], slopes[:, -1:]
    return torch.cat([below, slopes, above], dim=1)


class _ThroughKnots(torch.autograd.Function):
    """The same by a kernel, which finds the derivatives on its way."""

    @staticmethod
    def forward(
        x: Tensor, knots: Tensor, heights: Tensor, at_knots: Tensor, slopes: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        return torch_kernels.through_knots(x, knots, heights, at_knots, slopes, with_slopes=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        del inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (slopes_there,) = ctx.saved_tensors
        return grads[0] * slopes_there, None, None, None, None


def knots_below(knots: Tensor, x: Tensor) -> Tensor:
    """How many of its row's knots are less than each entry."""
    if torch.compiler.is_exporting():
        return _by_unrolled_bisection(knots, x, torch.lt)
    return torch.searchsorted(knots.contiguous(), x.detach().contiguous(), side="left")


def _count_at_most(knots: Tensor, x: Tensor) -> Tensor:
    """How many of its row's knots are not greater than each entry."""
    if torch.compiler.is_exporting():
        return _by_unrolled_bisection(knots, x, torch.le)
    return torch.searchsorted(knots.contiguous(), x.detach().contiguous(), side="right")


def _by_unrolled_bisection(
    knots: Tensor, x: Tensor, is_counted: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The same, where there is no searchsorted, as in ONNX."""
    k = int(knots.shape[1])
    found = torch.zeros_like(x, dtype=torch.int64)
    step = 1 << (k.bit_length() - 1)
    while step:
        reached = found + step
        knot = torch.gather(knots, 1, (reached - 1).clamp(max=k - 1))
        found = torch.where(is_counted(knot, x) & (reached <= k), reached, found)
        step //= 2
    return found


def middles_of_runs(knots: Tensor, heights: Tensor) -> Tensor:
    """At each knot the middle between the heights at the ends of its run of equals."""
    first = knots_below(knots, knots)
    last = _count_at_most(knots, knots) - 1
    heights = heights.expand_as(knots)
    return torch.lerp(torch.gather(heights, 1, first), torch.gather(heights, 1, last), 0.5)
