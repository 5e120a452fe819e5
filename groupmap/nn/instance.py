"""Layers on each channel: `InstanceMap` and its kin in place of nn.InstanceNorm1d, 2d and 3d."""

from __future__ import annotations

from torch import Tensor

from groupmap.grouping import Grouping, each_channel, normalized_channel_axis
from groupmap.nn._base import Device, Dtype, check_tensor
from groupmap.nn._channels import NUM_QUANTILES, ChannelMapLayer
from groupmap.targets import gaussian


class InstanceMap(ChannelMapLayer):
    r"""Maps each channel of each sample to a target distribution, in place of InstanceNorm.

    .. math:: y = Q(F(x)) \cdot \gamma + \beta

    For any number of spatial axes; :class:`InstanceMap1d`, :class:`InstanceMap2d` and
    :class:`InstanceMap3d` check theirs and take an input without a batch.

    Args:
        num_features: number of channels :math:`C` of the input.
        eps: standard deviation of Gaussian noise that is added to the input before the map, in
            training and evaluation. Not the eps of InstanceNorm. Default: 0.
        momentum: what share of the way the running quantiles move towards those of a batch, in
            [0, 1]. The first 1/momentum batches count alike, so that nothing is left of the start
            (but in channels of which the first one had no value); with ``None`` all of them do,
            and with 0 the quantiles stay. Default: 0.1.
        affine: whether there are :math:`\gamma` and :math:`\beta`, one a channel, which start at 1
            and 0. Default: ``False``.
        track_running_stats: whether evaluation maps by running quantiles, which training has
            learned, in place of each input's own ranks; they are the mean quantile function of
            all instances, in the buffer ``running_quantiles`` :math:`(C, K)`. Default: ``False``.
        target_quantiles: the target, as in :func:`groupmap.quantile_map`, or a sequence of them,
            one a channel; a module learns. Default: the standard normal distribution.
        device, dtype: of the parameters and running quantiles.

    Keyword Args:
        bias: ``False`` leaves :math:`\beta` out. Default: ``True``.
        num_quantiles: number :math:`K` of running quantiles, at equal steps of probability from 0
            to 1. Default: 101, the percentiles.
        tails: where evaluation maps what is outside of the running quantiles: ``"clip"`` to the
            ends of the target, ``"linear"`` on along the outermost segment. Default: ``"clip"``.
        positions, ties, gradient, gradient_window, gradient_floor: as in
            :func:`groupmap.quantile_map`.

    Shape:
        - Input: :math:`(N, C, *)`
        - ``where``: a mask that broadcasts to the input, true where an entry counts; the others
          come out 0, count for nothing and get no gradient. Default: all count.
        - Output: the same shape, dtype (integers: torch's default one) and memory format. NaN stays
          NaN in its place and counts for nothing.

    Raises:
        ValueError: if the input has other channels or axes, or an option is unknown.

    Examples::

        >>> import torch, groupmap as gm
        >>> layer = gm.InstanceMap2d(3)  # in place of nn.InstanceNorm2d(3)
        >>> layer(torch.randn(20, 3, 35, 45)).shape
        torch.Size([20, 3, 35, 45])
    """

    _input_ndims: tuple[int, ...] = ()  # with and without the batch; empty: any, with a batch

    def __init__(
        self,
        num_features: int,
        eps: float = 0.0,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        target_quantiles: object = gaussian,
        device: Device = None,
        dtype: Dtype = None,
        *,
        bias: bool = True,
        num_quantiles: int = NUM_QUANTILES,
        tails: str = "clip",
        positions: object = "linear",
        ties: str = "average",
        gradient: str | None = "transport",
        gradient_window: int | None = None,
        gradient_floor: float = 1.0,
    ) -> None:
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            target_quantiles,
            device,
            dtype,
            bias=bias,
            num_quantiles=num_quantiles,
            tails=tails,
            positions=positions,
            ties=ties,
            gradient=gradient,
            gradient_window=gradient_window,
            gradient_floor=gradient_floor,
        )

    def _maps_by_running(self) -> bool:
        return not self.training and self.track_running_stats  # as in torch: not once it is off

    def forward(self, input: Tensor, where: Tensor | None = None) -> Tensor:
        """Map the entries of the input where the mask `where` is true; the others become 0."""
        check_tensor(input)
        if self._input_ndims and input.ndim not in self._input_ndims:
            unbatched, batched = self._input_ndims
            raise ValueError(f"expected {unbatched}D or {batched}D input (got {input.ndim}D input)")
        if self._input_ndims and input.ndim == self._input_ndims[0]:
            return super().forward(input.unsqueeze(0), where).squeeze(0)
        return super().forward(input, where)

    def _grouping(self, shape: tuple[int, ...]) -> Grouping:
        return each_channel(shape, 1)

    def _check_shape(self, x: Tensor) -> None:
        normalized_channel_axis(tuple(x.shape), 1)
        if x.shape[1] != self.num_features:
            raise ValueError(
                f"expected input's size at dim={1} to match num_features "
                f"({self.num_features}), but got: {x.shape[1]}."
            )


class InstanceMap1d(InstanceMap):
    r""":class:`InstanceMap` in place of :class:`torch.nn.InstanceNorm1d`.

    Shape:
        - Input: :math:`(N, C, L)` or :math:`(C, L)`
        - Output: the same shape.
    """

    _input_ndims = (2, 3)


class InstanceMap2d(InstanceMap):
    r""":class:`InstanceMap` in place of :class:`torch.nn.InstanceNorm2d`.

    Shape:
        - Input: :math:`(N, C, H, W)` or :math:`(C, H, W)`
        - Output: the same shape.
    """

    _input_ndims = (3, 4)


class InstanceMap3d(InstanceMap):
    r""":class:`InstanceMap` in place of :class:`torch.nn.InstanceNorm3d`.

    Shape:
        - Input: :math:`(N, C, D, H, W)` or :math:`(C, D, H, W)`
        - Output: the same shape.
    """

    _input_ndims = (4, 5)
