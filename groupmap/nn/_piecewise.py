"""Lines between knots, for torch: with exact derivatives, and of operations that ONNX has too."""

from __future__ import annotations

import torch
from torch import Tensor


def through_knots(
    x: Tensor, knots: Tensor, heights: Tensor, at_knots: Tensor, *, is_continued: bool
) -> Tensor:
    """The line through (knots, heights) at x ``(g, n)``; where x is a knot, `at_knots`.

    Knots are ``(g, k)`` and ascend, heights and at_knots broadcast to them. Outside of the knots
    it keeps the height of the nearest end, or goes on along the outermost segment. The
    derivatives in x and in the heights are those of this line; NaN stays NaN.
    """
    k = knots.shape[1]
    heights, at_knots = heights.expand_as(knots), at_knots.expand_as(knots)
    first = knots_below(knots, x)
    nearest = first.clamp(max=k - 1)
    above = first.clamp(1, k - 1) if k > 1 else nearest
    below = (above - 1).clamp(min=0)
    low, high = torch.gather(knots, 1, below), torch.gather(knots, 1, above)
    width = high / 2.0 - low / 2.0  # the difference of finite numbers may not be finite
    has_width = width > 0.0
    fraction = (x / 2.0 - low / 2.0) / torch.where(has_width, width, 1.0)
    y_low, y_high = torch.gather(heights, 1, below), torch.gather(heights, 1, above)
    is_below, is_above = x < knots[:, :1], x > knots[:, -1:]
    inside = torch.where(is_below | is_above, 0.0, fraction)
    y = torch.lerp(y_low, y_high, inside)
    y = torch.where(is_below, heights[:, :1], torch.where(is_above, heights[:, -1:], y))
    if is_continued:
        rises = has_width & (y_low < y_high)
        beyond = y_low + torch.where(rises, fraction, 0.0) * (y_high - y_low)
        y = torch.where(rises & (is_below | is_above), beyond, y)
    # In a run of equals the line is steep, and one point of it stands for all.
    after = torch.gather(knots, 1, (nearest + 1).clamp(max=k - 1))
    is_run = (torch.gather(knots, 1, nearest) == x) & (after == x) & (nearest < k - 1)
    return torch.where(is_run, torch.gather(at_knots, 1, nearest), y)


def knots_below(knots: Tensor, x: Tensor) -> Tensor:
    """How many of its row's knots are less than each entry."""
    if torch.compiler.is_exporting():
        return _by_unrolled_bisection(knots, x)
    return torch.searchsorted(knots.contiguous(), x.detach().contiguous(), side="left")


def _by_unrolled_bisection(knots: Tensor, x: Tensor) -> Tensor:
    """The same, where there is no searchsorted, as in ONNX."""
    k = int(knots.shape[1])
    found = torch.zeros_like(x, dtype=torch.int64)
    step = 1 << (k.bit_length() - 1)
    while step:
        reached = found + step
        is_less = torch.gather(knots, 1, (reached - 1).clamp(max=k - 1)) < x
        found = torch.where(is_less & (reached <= k), reached, found)
        step //= 2
    return found


def middles_of_runs(knots: Tensor, heights: Tensor) -> Tensor:
    """At each knot the middle between the heights at the ends of its run of equals."""
    first = knots_below(knots, knots)
    after = knots.shape[1] - knots_below(-knots.flip(1), -knots)
    heights = heights.expand_as(knots)
    return torch.lerp(torch.gather(heights, 1, first), torch.gather(heights, 1, after - 1), 0.5)
