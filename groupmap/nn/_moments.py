"""Running quantiles beside the mean and variance that torch's norms keep in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat.torch as xp_torch
import torch
from torch import Tensor

from groupmap.backends.torch import OPS
from groupmap.nn._running import (
    count_of_known,
    finite_target_values,
    probabilities,
    target_values,
)
from groupmap.targets import Target


def quantiles_of_moments(
    mean: Tensor, std: Tensor, targets: list[Target], num_quantiles: int
) -> Tensor:
    """mean + std·Q(p), ``(C, k)`` or one row for all channels."""
    p = probabilities(num_quantiles, mean)
    values = finite_target_values(targets, p.unsqueeze(0))
    mean, std = (each.to(values.dtype).reshape(-1, 1) for each in (mean, std))
    return mean + std * values


def moments_of_quantiles(running: Tensor, targets: list[Target]) -> tuple[Tensor, Tensor]:
    """The least-squares line, mean + std·Q(p), through running quantiles ``(C, k)``."""
    p = probabilities(running.shape[1], running)
    quantiles = running.to(p.dtype)
    values = target_values(targets, p.unsqueeze(0))
    centred = values - values.mean(1, keepdim=True)
    square = centred.square().sum(1)
    std = (centred * quantiles).sum(1) / torch.where(square > 0.0, square, 1.0)
    return quantiles.mean(1) - std * values.mean(1), std


def batches_behind(
    mean: Tensor, variance: Tensor, told: Tensor | None, momentum: float | None
) -> Tensor:
    """How many batches the statistics of a norm stand for, which told a number.

    Checkpoints of torch's first norms, which did not count, leave it at 0.
    """
    if told is None:
        told = torch.zeros((), dtype=torch.int64, device=mean.device)
    is_start = torch.all(mean == 0.0) & torch.all(variance == 1.0)
    return torch.where(is_start | (told > 0), told, count_of_known(momentum))


def replace_moments(
    state_dict: dict[str, Any],
    prefix: str,
    running: Tensor,
    targets: Callable[[], list[Target]],
    momentum: float | None,
) -> None:
    """Put running quantiles in place of a checkpoint's mean and variance.

    Those of other channels make quantiles without numbers, of which loading says the size.
    """
    names = (f"{prefix}running_mean", f"{prefix}running_var")
    if not all(name in state_dict for name in names):
        return
    mean, variance = (state_dict[name] for name in names)
    if mean.shape != variance.shape or mean.ndim != 1:
        return
    if mean.shape == running.shape[:1]:
        std = variance.to(OPS.widest_real(variance, xp_torch)).clamp(min=0.0).sqrt()
        quantiles = quantiles_of_moments(mean, std, targets(), running.shape[1])
    else:
        quantiles = mean.new_empty(mean.shape[0], running.shape[1])
    state_dict[f"{prefix}running_quantiles"] = quantiles.to(running.dtype)
    counted = f"{prefix}num_batches_tracked"
    told = state_dict.get(counted)
    state_dict[counted] = batches_behind(mean, variance, told, momentum)
    for name in names:
        del state_dict[name]
