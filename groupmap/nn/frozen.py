"""FrozenMap: a fitted map as a torch module, of operations that every exporter knows."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import array_api_compat.torch as xp_torch
import numpy as np
import torch
from torch import Tensor, nn

from groupmap._typing import Array
from groupmap.backends import _normal, namespace_and_ops, ops_for
from groupmap.positions import Probabilities
from groupmap.targets import Target
from groupmap.user_targets import CallableTarget, ReferenceTarget


def _tan(x: Tensor) -> Tensor:
    return torch.sin(x) / torch.sin(x + math.pi / 2.0)  # asked for |x| ≤ π/4 only


# ONNX has no normal quantile function, and ONNX Runtime's tangent is of single precision.
OPS = replace(ops_for(xp_torch), ndtri=_normal.ndtri)
XP = SimpleNamespace(**{**vars(xp_torch), "tan": _tan})


class FrozenMap(nn.Module):
    r"""y = Q(F(x)) of each feature, with F as `groupmap.GroupMapTransformer` has fitted it.

    Made by ``GroupMapTransformer.to_module``. F is found by bisection, unrolled, and
    everything is computed in float64, whatever the dtype of the input; so an exported copy gives
    the numbers of the estimator.

    Input and output are ``(n_samples, n_features)``, of one real floating dtype; NaN stays NaN.
    What lies outside of the training range maps to the nearest end or on along the outermost
    segment, as the estimator's `tails` says. No gradient is promised.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import groupmap as gm
    >>> X = np.array([[1.0], [2.0], [4.0]])
    >>> fitted = gm.GroupMapTransformer(target_quantiles="uniform", n_quantiles=3).fit(X)
    >>> fitted.to_module()(torch.tensor([[1.0], [3.0]]))
    tensor([[0.0000],
            [0.7500]])
    """

    knots: Tensor
    probabilities: Tensor
    at_knots: Tensor
    is_absent: Tensor
    ends: Tensor
    slopes: Tensor
    sample: Tensor | None

    def __init__(self, knots: Tensor, probabilities: Tensor, target: Target, tails: str) -> None:
        super().__init__()
        absent = torch.isnan(knots[:, :1])
        knots = torch.where(absent, 0.0, knots).contiguous()
        self.register_buffer("knots", knots)
        self.register_buffer("probabilities", probabilities.clone())
        self.register_buffer("is_absent", absent)
        self.register_buffer("at_knots", _middles(knots, probabilities))
        sample = target.sorted_values if isinstance(target, ReferenceTarget) else None
        self.register_buffer("sample", None if sample is None else sample.clone())
        self.target = target
        if isinstance(target, CallableTarget) and isinstance(target.function, nn.Module):
            self.function = target.function  # as a part of this module, which goes where it goes
        heights = self._quantiles(probabilities.expand(knots.shape))
        self.register_buffer("ends", heights[:, [0, -1]])
        self.register_buffer("slopes", _outer_slopes(knots, heights, tails))

    def forward(self, input: Tensor) -> Tensor:
        """The map of ``(n_samples, n_features)``."""
        if input.ndim != 2 or input.shape[1] != self.knots.shape[0]:
            raise ValueError(
                f"input has shape {tuple(input.shape)}; the map is of {self.knots.shape[0]} "
                "features, pass (n_samples, n_features)."
            )
        x = input.mT.to(self.knots.dtype)
        missing = torch.isnan(x) | self.is_absent
        x = torch.where(missing, self.knots[:, :1], x)
        y = self._quantiles(self._probabilities(x))
        below, above = x - self.knots[:, :1], x - self.knots[:, -1:]
        y = torch.where(below < 0.0, self.ends[:, :1] + below * self.slopes[:, :1], y)
        y = torch.where(above > 0.0, self.ends[:, 1:] + above * self.slopes[:, 1:], y)
        return torch.where(missing, torch.nan, y).mT.to(input.dtype)

    def _probabilities(self, x: Tensor) -> Tensor:
        k = self.knots.shape[1]
        first = self._knots_below(x)
        inside = first.clamp(1, k - 1) if k > 1 else first.clamp(0, 0)
        before = (inside - 1).clamp(min=0)
        low, high = (torch.gather(self.knots, 1, each) for each in (before, inside))
        p_low, p_high = self.probabilities[before], self.probabilities[inside]
        width = high / 2.0 - low / 2.0
        fraction = (x / 2.0 - low / 2.0) / torch.where(width > 0.0, width, 1.0)
        p = torch.minimum(p_low + (p_high - p_low) * fraction.clamp(0.0, 1.0), p_high)
        nearest = first.clamp(max=k - 1)
        is_knot = torch.gather(self.knots, 1, nearest) == x
        p = torch.where(is_knot, torch.gather(self.at_knots, 1, nearest), p)
        p = torch.where(x < self.knots[:, :1], self.probabilities[0], p)
        return torch.where(x > self.knots[:, -1:], self.probabilities[-1], p)

    def _knots_below(self, x: Tensor) -> Tensor:
        """How many of its knots are less than each entry: bisection, unrolled."""
        k = self.knots.shape[1]
        found = torch.zeros_like(x, dtype=torch.int64)
        step = 1 << (k.bit_length() - 1)
        while step:
            reached = found + step
            is_less = torch.gather(self.knots, 1, (reached - 1).clamp(max=k - 1)) < x
            found = torch.where(is_less & (reached <= k), reached, found)
            step //= 2
        return found

    def _quantiles(self, p: Tensor) -> Tensor:
        target = self.target
        if isinstance(target, ReferenceTarget):
            target = replace(target, sorted_values=self.sample)
        found: Tensor = target.quantiles(Probabilities(p, XP), p.dtype, OPS)
        return found.to(p.dtype)

    def extra_repr(self) -> str:
        """What it maps, to what."""
        n_features, n_quantiles = self.knots.shape
        name = "sample" if self.sample is not None else repr(self.target)
        return f"{n_features} features, {n_quantiles} quantiles, target={name}"


def _middles(knots: Tensor, probabilities: Tensor) -> Tensor:
    """F at each knot: the middle between the ends of its run of equals."""
    first = torch.searchsorted(knots, knots, side="left")
    last = torch.searchsorted(knots, knots, side="right") - 1
    low, high = probabilities[first], probabilities[last]
    step = (high / 2.0 - low / 2.0) * 0.5
    return torch.minimum(low + step + step, high)


def _outer_slopes(knots: Tensor, heights: Tensor, tails: str) -> Tensor:
    """How the map goes on beyond its first knot, and beyond its last."""
    if tails == "clip" or knots.shape[1] < 2:
        return torch.zeros((knots.shape[0], 2), dtype=knots.dtype, device=knots.device)
    run = torch.stack([knots[:, 1] - knots[:, 0], knots[:, -1] - knots[:, -2]], dim=1)
    rise = torch.stack([heights[:, 1] - heights[:, 0], heights[:, -1] - heights[:, -2]], dim=1)
    return torch.where(run > 0.0, rise / torch.where(run > 0.0, run, 1.0), 0.0)


def frozen_map(quantiles: Array, probabilities: Array, target: Target, tails: str) -> FrozenMap:
    """The module of quantiles ``(features, k)`` of any library."""
    if not target.is_namespace_bound:
        raise TypeError(
            f"target_quantiles={target!r} is evaluated by NumPy, which a torch module cannot ask; "
            "use a named target, a reference sample or a function of tensors."
        )
    if isinstance(target, ReferenceTarget):
        target = replace(target, sorted_values=_as_tensor(target.sorted_values))
    module = FrozenMap(_as_tensor(quantiles), _as_tensor(probabilities), target, tails)
    return module.eval()  # there is nothing to train, and exporters ask for it


def _as_tensor(array: Array) -> Tensor:
    if isinstance(array, Tensor):
        return array.detach().to(torch.float64)
    _, ops = namespace_and_ops(x=array)
    return torch.from_numpy(np.array(ops.to_host(array), dtype=np.float64))
