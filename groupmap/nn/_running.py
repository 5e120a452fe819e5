"""Running quantiles: what a batch teaches, and the map that what was learned gives."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import final

import array_api_compat.torch as xp_torch
import torch
from torch import Tensor

from groupmap.backends.torch import OPS
from groupmap.dtypes import as_widest_real, at_least_single
from groupmap.knots import equal_steps
from groupmap.nn._libraries import libraries
from groupmap.nn._piecewise import middles_of_runs, through_knots
from groupmap.positions import Probabilities
from groupmap.samples import quantiles_by_order, quantiles_of_rows, sorted_valid
from groupmap.tables import quantiles_of_probabilities
from groupmap.targets import Target


def probabilities(num_quantiles: int, like: Tensor) -> Tensor:
    """Where the quantiles lie: from 0 to 1 in equal steps, ``(k,)``."""
    dtype = OPS.widest_real(like, xp_torch)
    steps: Tensor = equal_steps(num_quantiles, dtype, like.device, xp_torch)
    return steps


def target_values(targets: list[Target], p: Tensor) -> Tensor:
    """Q at the probabilities ``(..., k)``: of the one target, or of one a row ``(g, k)`` each."""
    if len(targets) == 1:
        return _values(targets[0], p)
    rows = p.expand(len(targets), p.shape[-1])
    return torch.stack([_values(each, row) for each, row in zip(targets, rows, strict=True)])


def finite_target_values(targets: list[Target], p: Tensor) -> Tensor:
    """The same, where an infinite value would spoil all that is averaged with it."""
    values = target_values(targets, p)
    if all(each.formula is not None for each in targets):
        return values  # the named ones have finite values, so that no device need be asked
    if OPS.can_read(values) and not torch.all(values.isfinite()):
        raise ValueError(
            f"target_quantiles={targets!r} has quantiles that are not finite, between which "
            "nothing can be learned; clamp the probabilities, as the named targets do, or pass "
            "track_running_stats=False."
        )
    return values


def _values(target: Target, p: Tensor) -> Tensor:
    # A target of the host is asked there: probabilities are few.
    asked = p if target.is_namespace_bound else p.cpu()
    xp, ops = libraries()
    values: Tensor = quantiles_of_probabilities(target, asked, p.dtype, xp=xp, ops=ops)
    return values.to(p.device)


def quantiles_of_batch(
    rows: Tensor, where: Tensor | None, num_quantiles: int, parameters: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """The quantiles ``(..., k)`` of the finite entries of rows ``(..., n)``, and their number.

    NaN where there is no such entry.
    """
    if 0 in rows.shape:
        shape = (*rows.shape[:-1], num_quantiles)
        nothing = torch.full(shape, torch.nan, device=rows.device)
        return nothing, torch.zeros_like(nothing[..., :1], dtype=torch.int64)
    rows = rows.detach()
    missing = None
    is_floating = rows.is_floating_point()
    if where is not None or (is_floating and not (OPS.reads_at_once(rows) and _all_finite(rows))):
        missing = ~rows.isfinite() if is_floating else torch.zeros_like(rows, dtype=torch.bool)
        missing = missing if where is None else missing | ~where
        rows = torch.where(missing, 0, rows)
    xp, ops = libraries()
    if missing is None:
        ascending = ops.sort_rows(rows if is_floating else as_widest_real(rows, xp, ops), xp)
        counts = torch.full_like(rows[..., :1], rows.shape[-1], dtype=torch.int64)
    else:
        ascending, counts = sorted_valid(rows, missing, xp, ops, may_be_infinite=False)
    p = Probabilities(probabilities(num_quantiles, rows), xp)
    quantiles: Tensor = quantiles_of_rows(ascending, counts, p, parameters, xp, ops)
    return quantiles, counts


def quantiles_of_ordered(
    rows: Tensor, order: Tensor, num_quantiles: int, parameters: tuple[float, float]
) -> Tensor:
    """The same of the finite entries of rows ``(..., n)`` whose order is known."""
    xp, ops = libraries()
    p = Probabilities(probabilities(num_quantiles, rows), xp)
    quantiles: Tensor = quantiles_by_order(rows, order, p, parameters, xp, ops)
    return quantiles


def _all_finite(rows: Tensor) -> bool:
    return not OPS.screen(rows, xp_torch)[1]


def barycentre(quantiles: Tensor) -> Tensor:
    """The mean quantile function ``(g, k)`` of all ``(..., g, k)`` that are not NaN."""
    *leading, n_groups, k = quantiles.shape
    quantiles = quantiles.reshape(math.prod(leading), n_groups, k)
    is_there = ~quantiles.isnan()
    count = is_there.sum(0)
    total = torch.where(is_there, quantiles / count.clamp(min=1), 0.0).sum(0)
    # Sums are not all rounded alike, since torch adds some columns by vectors and some not.
    return torch.where(count > 0, total.cummax(1).values, torch.nan)


def moved(running: Tensor, batch: Tensor, share: Tensor | float) -> Tensor:
    """The running quantiles, moved towards those of the batch by that share of the way.

    Averaging quantile functions gives the quantile function of the Wasserstein barycentre
    (Agueh and Carlier 2011, in one dimension). Groups without a value in the batch stay.
    """
    if isinstance(share, float) and share == 0.0:
        return running
    batch = batch.to(running.dtype)
    wide = at_least_single(running.dtype, xp_torch)
    one, other = running.to(wide), batch.to(wide)
    # Not running + share·(batch − running): a difference may overflow, and its rounding may put
    # neighbours out of order, which that of products and sums cannot.
    blended = (1.0 - share) * one + share * other
    blended = blended.clamp(torch.minimum(one, other), torch.maximum(one, other))
    blended = blended.to(running.dtype)
    # Where the step is lost in rounding, it is a unit in the last place: constants are reached.
    blended = torch.where(blended == running, torch.nextafter(running, batch), blended)
    return torch.where(batch.isnan(), running, blended)


def checked_momentum(momentum: object) -> float | None:
    """The momentum as a number, or None."""
    if momentum is None:
        return None
    if isinstance(momentum, bool) or not isinstance(momentum, numbers.Real):
        raise TypeError(f"momentum={momentum!r} must be a float in [0, 1], or None for the mean.")
    if not 0.0 <= float(momentum) <= 1.0:
        raise ValueError(f"momentum={momentum!r} must be in [0, 1], or None for the mean.")
    return float(momentum)


def share_of_batch(count: Tensor, momentum: float | None, dtype: torch.dtype) -> Tensor | float:
    """How much of the way to the `count`-th batch running quantiles of that dtype go.

    While there were few batches, they count alike. Else the start would fade, but not vanish:
    between zeros behind a ReLU there would be what is left of it, and no run of equals.
    """
    if momentum == 0.0:
        return 0.0
    if OPS.reads_at_once(count):  # a number is sooner multiplied with
        return max(1.0 / max(int(count), 1), momentum or 0.0)
    share = 1.0 / count.to(at_least_single(dtype, xp_torch))
    return share if momentum is None else share.clamp(min=momentum)


def count_of_known(momentum: float | None) -> int:
    """As how many batches count statistics of unknown age: then they move by `momentum`."""
    return math.ceil(1.0 / momentum) if momentum else 1


@final
@dataclass(frozen=True)
class RunningMap:
    """y as a function of x that goes through the points (running quantile, Q(p)), line by line.

    So F is linear between knots on the scale of the target: where data and target differ by a
    shift and a scale, the map is exactly affine.
    """

    knots: Tensor
    heights: Tensor
    at_knots: Tensor
    is_continued: bool

    @classmethod
    def between(
        cls, running_quantiles: Tensor, targets: list[Target], dtype: torch.dtype, tails: str
    ) -> RunningMap:
        """From quantiles ``(g, k)`` to one target, or to one a group."""
        knots = running_quantiles.detach().to(dtype)
        p = probabilities(knots.shape[1], knots)
        heights = target_values(targets, p.unsqueeze(0)).to(dtype)
        at_knots = heights
        if not (OPS.reads_at_once(knots) and torch.all(knots[:, 1:] > knots[:, :-1])):
            at_knots = target_values(targets, middles_of_runs(knots, p.unsqueeze(0))).to(dtype)
        return cls(knots, heights, at_knots, tails == "linear")

    def __call__(self, rows: Tensor) -> Tensor:
        """The image of rows ``(g, n)``."""
        return through_knots(
            rows.to(self.knots.dtype),
            self.knots,
            self.heights,
            self.at_knots,
            is_continued=self.is_continued,
        )
