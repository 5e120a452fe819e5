"""A target that learns: any increasing quantile function, in a few parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from groupmap.counts import checked_count
from groupmap.nn._base import Device, Dtype
from groupmap.nn._piecewise import knots_below
from groupmap.nn._running import probabilities, target_values
from groupmap.nn._targets import TargetHolder, TargetPerGroup
from groupmap.positions import plotting_parameters

SLOPE_ONE = math.log(math.e - 1.0)  # whose softplus is 1


class MonotoneQuantile(TargetHolder):
    r"""A quantile function that learns, and stays increasing.

    .. math::
        Q(p) = g(Q_0(p)), \quad g' = \operatorname{softplus}(s_k) > 0

    :math:`g` is continuous, and linear between :math:`K` knots, where :math:`s_k` is the segment's
    parameter. :math:`Q_0` is the target to start from: at first :math:`g` is the identity, and the
    layer maps to :math:`Q_0`. The knots lie at :math:`Q_0` of equal steps of probability from 0 to
    1, so that each segment has as many entries to learn from; `shift` is the height of the middle
    one. Pass it as ``target_quantiles`` of a layer, whose parameters then include these.

    A layer's :math:`\gamma` and :math:`\beta` scale and shift, too: where these suffice, this
    target is not needed.

    Args:
        num_knots: number of knots :math:`K`, at least 2.
        target_quantiles: :math:`Q_0`, as in :func:`groupmap.quantile_map`. Default: the standard
            normal distribution.
        device, dtype: of the parameters, and of a reference sample.

    Shape:
        - Input: probabilities of any shape, in [0, 1]
        - Output: the same shape and dtype. Differentiable in the parameters and, with the slopes
          of :math:`g`, through what :math:`Q_0` passes on.
        - ``slopes``: :math:`(K - 1,)`; ``shift``: :math:`(1,)`

    Raises:
        ValueError: if num_knots is less than 2, or the target is not finite and increasing.
        TypeError: if the target says no quantile function; in a call, if probabilities are of 16
            bits.

    Examples::

        >>> import torch, groupmap as gm
        >>> target = gm.nn.MonotoneQuantile(8, target_quantiles="uniform")
        >>> target(torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.0000, 0.5000, 1.0000], grad_fn=<ViewBackward0>)
        >>> layer = gm.GroupMap(2, 6, target_quantiles=target)
        >>> sorted(name for name, _ in layer.named_parameters())
        ['bias', 'target_quantiles.shift', 'target_quantiles.slopes', 'weight']
    """

    knots: Tensor

    takes_any_dtype = True  # of what is learned, which is converted to that of probabilities

    def __init__(
        self,
        num_knots: int = 16,
        target_quantiles: object = "gaussian",
        device: Device = None,
        dtype: Dtype = None,
    ) -> None:
        super().__init__()
        self.num_knots = checked_count(num_knots, "num_knots", least=2)
        self.hold_target("start", target_quantiles, device, in_checkpoints=True)
        if isinstance(self.start, TargetPerGroup):
            raise TypeError(
                f"target_quantiles={target_quantiles!r} is a sequence; pass one MonotoneQuantile a "
                "group, each with its own target."
            )
        self.slopes = nn.Parameter(torch.empty(self.num_knots - 1, device=device, dtype=dtype))
        # Of one axis, since FSDP shards no scalars.
        self.shift = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.register_buffer("knots", torch.empty(self.num_knots, device=device, dtype=dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start anew: as the target to start from."""
        knots = self._start(probabilities(self.num_knots, self._where_to_ask()))
        knots = knots.to(self.slopes.dtype)
        if not torch.all(knots[1:] > knots[:-1]) or not torch.all(knots.isfinite()):
            raise ValueError(
                f"target_quantiles={self.start!r} is {knots.tolist()} at {self.num_knots} equal "
                "steps of probability, where it must be finite and increasing; clamp it, or use "
                "fewer knots."
            )
        self.knots = knots.to(self.slopes.device)
        self.slopes.fill_(SLOPE_ONE)
        self.shift.copy_(self.knots[self.num_knots // 2].reshape(1))

    def forward(self, p: Tensor) -> Tensor:
        """Q(p)."""
        if p.is_floating_point() and p.dtype.itemsize < torch.float32.itemsize:
            raise TypeError(
                f"p has dtype {p.dtype}, in which probabilities near 1 are one. Layers pass wider "
                "ones; if FSDP has cast them, fully_shard the layer in place of its target, or "
                "with MixedPrecisionPolicy(cast_forward_inputs=False)."
            )
        x = self._start(p).reshape(1, -1)
        knots, slopes = self.knots.to(x.dtype), nn.functional.softplus(self.slopes.to(x.dtype))
        rises = slopes * (knots[1:] - knots[:-1])
        heights = torch.cat([torch.zeros_like(rises[:1]), torch.cumsum(rises, 0)])
        heights = heights - heights[self.num_knots // 2] + self.shift
        segment = knots_below(knots.unsqueeze(0), x).squeeze(0).clamp(1, self.num_knots - 1) - 1
        y = heights[segment] + slopes[segment] * (x.squeeze(0) - knots[segment])
        return y.reshape(p.shape).to(p.dtype)

    def _where_to_ask(self) -> Tensor:
        """A tensor where the target can be asked, which has no numbers on the device meta."""
        if isinstance(self.start, Tensor):
            return self.start
        return torch.empty(0, device="cpu") if self.slopes.is_meta else self.slopes

    def _start(self, p: Tensor) -> Tensor:
        return target_values(self.targets("start", plotting_parameters("linear")), p)

    def extra_repr(self) -> str:
        """The arguments that made the target."""
        return f"{self.num_knots}, target_quantiles={self.described_target('start')}"
