"""FrozenMap: a fitted map as a torch module, of operations that every exporter knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from groupmap._typing import Array
from groupmap.backends import namespace_and_ops
from groupmap.backends.torch_portable import OPS, XP
from groupmap.interpolation import continued
from groupmap.nn._piecewise import middles_of_runs, through_knots
from groupmap.positions import Probabilities
from groupmap.references import ReferenceTarget
from groupmap.targets import Target
from groupmap.user_targets import CallableTarget


class FrozenMap(nn.Module):
    r"""y = Q(F(x)) of each feature, with F as `groupmap.GroupMapTransformer` has fitted it.

    Made by ``GroupMapTransformer.to_module``. Everything is computed in float64, whatever the
    dtype of the input; so an exported copy gives the numbers of the estimator.

    Casting a network (``half()``) leaves its buffers as they are. What lies outside of the
    training range maps to the nearest end or on along the outermost segment, as the estimator's
    `tails` says. No gradient to the input is promised; a target that is a module gets its own.

    Shape:
        - Input: ``(n_samples, n_features)``, real; NaN stays NaN
        - Output: the same, of the input's dtype (integers: torch's default one)

    Raises:
        ValueError: if the input is of another shape.
        TypeError: if its dtype has no order.

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
    sample: Tensor | None

    def __init__(self, knots: Tensor, probabilities: Tensor, target: Target, tails: str) -> None:
        super().__init__()
        absent = torch.isnan(knots[:, :1])
        knots = torch.where(absent, 0.0, knots).contiguous()
        self.register_buffer("knots", knots)
        self.register_buffer("probabilities", probabilities.clone())
        self.register_buffer("is_absent", absent)
        self.register_buffer("at_knots", middles_of_runs(knots, probabilities))
        sample = target.sorted_values if isinstance(target, ReferenceTarget) else None
        self.register_buffer("sample", None if sample is None else sample.clone())
        self.target = target
        if isinstance(target, CallableTarget) and isinstance(target.function, nn.Module):
            self.function = target.function  # as a part of this module, which goes where it goes
        self.is_continued = tails == "linear" and knots.shape[1] > 1

    def forward(self, input: Tensor) -> Tensor:
        """The map of ``(n_samples, n_features)``."""
        if input.ndim != 2 or input.shape[1] != self.knots.shape[0]:
            raise ValueError(
                f"input has shape {tuple(input.shape)}; the map is of {self.knots.shape[0]} "
                "features, pass (n_samples, n_features)."
            )
        if input.dtype == torch.bool or input.is_complex():
            raise TypeError(f"input has dtype {input.dtype}, which has no order; convert it first.")
        dtype = input.dtype if input.is_floating_point() else torch.get_default_dtype()
        x = input.mT.to(self.knots.dtype)
        missing = torch.isnan(x) | self.is_absent
        x = torch.where(missing, self.knots[:, :1], x)
        y = self._continued(x) if self.is_continued else self._inside(x)
        return torch.where(missing, torch.nan, y).mT.to(dtype)

    def _inside(self, x: Tensor) -> Tensor:
        """Q(F(x)), which outside of the knots keeps the value of the nearest end."""
        p = self.probabilities.unsqueeze(0)
        p = through_knots(x, self.knots, p, self.at_knots, is_continued=False)
        return self._quantiles(p.clamp(0.0, 1.0))

    def _continued(self, x: Tensor) -> Tensor:
        """The same, and outside of the knots the outermost segments."""
        ends = [0, 1, -2, -1]
        heights = self._quantiles(self.probabilities[ends].expand(self.knots.shape[0], len(ends)))
        y: Tensor = continued(self._inside, self.knots[:, ends], heights, None, XP, OPS)(x)
        return y

    def _quantiles(self, p: Tensor) -> Tensor:
        target = self.target
        if isinstance(target, ReferenceTarget):
            target = replace(target, sorted_values=self.sample)
        found: Tensor = target.quantiles(Probabilities(p, XP), p.dtype, OPS)
        return found.to(p.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenMap:
        """Go where the network goes, but keep its knots in float64 where that is cast."""
        for name, buffer in [*self._buffers.items()]:
            if buffer is not None:
                moved = fn(buffer)
                exact = buffer if buffer.device.type != "meta" else moved
                self._buffers[name] = exact.to(moved.device)
        for child in self.children() if recurse else ():
            child._apply(fn)  # type: ignore[no-untyped-call]  # of torch
        return self

    def extra_repr(self) -> str:
        """What it maps, to what."""
        n_features, n_quantiles = self.knots.shape
        name = "sample" if self.sample is not None else repr(self.target)
        return f"{n_features} features, {n_quantiles} quantiles, target={name}"


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
    module.training = False  # of itself there is nothing to train, and exporters ask for it
    return module


def _as_tensor(array: Array) -> Tensor:
    if isinstance(array, Tensor):
        return array.detach().to(torch.float64)
    _, ops = namespace_and_ops(x=array)
    return torch.from_numpy(np.array(ops.to_host(array), dtype=np.float64))
