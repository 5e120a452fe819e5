"""Layers on each channel: `InstanceMap` and its kin in place of nn.InstanceNorm1d, 2d and 3d."""

from __future__ import annotations

import array_api_compat.torch as xp_torch
from torch import Tensor

from groupmap.grouping import along_axis, each_channel
from groupmap.nn._base import AffineMapLayer, Device, Dtype, check_tensor
from groupmap.targets import gaussian


class InstanceMap(AffineMapLayer):
    r"""Maps each channel of each sample to a target distribution, in place of InstanceNorm.

    .. math:: y = Q(F(x)) \cdot \gamma + \beta

    For any number of spatial axes; :class:`InstanceMap1d`, :class:`InstanceMap2d` and
    :class:`InstanceMap3d` check theirs and take an input without a batch.

    Args:
        num_features: number of channels :math:`C` of the input.
        eps: standard deviation of Gaussian noise that is added to the input before the map, in
            training and evaluation. Not the eps of InstanceNorm. Default: 0.
        momentum: of the running statistics. Default: 0.1.
        affine: whether there are :math:`\gamma` and :math:`\beta`, one a channel, which start at 1
            and 0. Default: ``False``.
        track_running_stats: must be ``False``; running statistics are not there yet.
        target_quantiles: the target, as in :func:`groupmap.quantile_map`; a module learns.
            Default: the standard normal distribution.
        device, dtype: of the parameters.

    Keyword Args:
        bias: ``False`` leaves :math:`\beta` out. Default: ``True``.
        positions, ties, gradient, gradient_window, gradient_floor: as in
            :func:`groupmap.quantile_map`.

    Shape:
        - Input: :math:`(N, C, *)`
        - Output: the same shape, dtype and memory format. NaN stays NaN in its place and counts
          for nothing.

    Raises:
        ValueError: if the input has other channels or axes, or an option is unknown.
        NotImplementedError: if track_running_stats is true.

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
        positions: object = "linear",
        ties: str = "average",
        gradient: str | None = "transport",
        gradient_window: int | None = None,
        gradient_floor: float = 1.0,
    ) -> None:
        super().__init__(
            target_quantiles,
            eps,
            positions=positions,
            ties=ties,
            gradient=gradient,
            gradient_window=gradient_window,
            gradient_floor=gradient_floor,
        )
        if track_running_stats:
            raise NotImplementedError(
                "track_running_stats=True: running quantiles are not implemented yet; "
                "pass track_running_stats=False, which maps by each input's own ranks."
            )
        self.num_features = num_features
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self._make_parameters((num_features,), affine=affine, bias=bias, device=device, dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Map the input."""
        check_tensor(input)
        if self._input_ndims and input.ndim not in self._input_ndims:
            unbatched, batched = self._input_ndims
            raise ValueError(f"expected {unbatched}D or {batched}D input (got {input.ndim}D input)")
        if self._input_ndims and input.ndim == self._input_ndims[0]:
            return self._map_batch(input.unsqueeze(0)).squeeze(0)
        return self._map_batch(input)

    def _map_batch(self, x: Tensor) -> Tensor:
        grouping = each_channel(tuple(x.shape), 1)
        if x.shape[1] != self.num_features:
            raise ValueError(
                f"expected input's size at dim={1} to match num_features "
                f"({self.num_features}), but got: {x.shape[1]}."
            )
        weight, bias = (
            along_axis(parameter, 1, x.ndim, xp_torch) for parameter in (self.weight, self.bias)
        )
        return self._map(x, grouping, weight, bias)

    def extra_repr(self) -> str:
        """The arguments that made the layer."""
        return (
            f"{self.num_features}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}, {self._describe_rule()}"
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
