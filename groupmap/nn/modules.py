"""The layers: thin shells around the map, with the constructors of torch's norms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from groupmap.counts import checked_count
from groupmap.grouping import (
    channel_groups,
    checked_normalized_shape,
    each_channel,
    trailing_axes,
)
from groupmap.nn._base import AffineMapLayer, MapLayer, along_channels
from groupmap.targets import gaussian

Device = torch.device | str | None
Dtype = torch.dtype | None


def _check_channels(num_groups: object, num_channels: int) -> int:
    groups = checked_count(num_groups, "num_groups")
    if num_channels % groups:
        raise ValueError(
            f"num_channels ({num_channels}) must be divisible by num_groups ({groups})"
        )
    return groups


def _check_input_channels(x: Tensor, num_channels: int) -> None:
    """As nn.GroupNorm with its weight, also where there is none."""
    if x.ndim < 2:  # batch and channels
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {x.ndim}")
    if x.shape[1] != num_channels:
        raise RuntimeError(
            "Expected weight to be a vector of size equal to the number of channels in input, "
            f"but got weight of shape [{num_channels}] and input of shape {list(x.shape)}"
        )


class Map(MapLayer):
    r"""Maps groups of channels of each sample to a target distribution; no parameters.

    .. math:: y = Q(F(x))

    :math:`F` is the cdf of the values of one sample's block of channels, :math:`Q` the target's
    quantile function.

    Args:
        num_groups: number of equal blocks that the channels are split into.
        num_channels: number of channels :math:`C` of the input.
        target_quantiles: the target, as in :func:`groupmap.quantile_map`; a module learns.
            Default: the standard normal distribution.
        eps: standard deviation of Gaussian noise that is added to the input before the map, in
            training and evaluation. Default: 0.
        device, dtype: accepted as by all layers; there is nothing to place.

    Keyword Args:
        positions, ties, gradient: as in :func:`groupmap.quantile_map`.

    Shape:
        - Input: :math:`(N, C, *)`
        - Output: the same shape, dtype and memory format. NaN stays NaN in its place and counts
          for nothing.

    Raises:
        ValueError: if num_groups does not divide num_channels, or an option is unknown.
        RuntimeError: if the input has other channels.

    Examples::

        >>> import torch, groupmap as gm
        >>> uniform = gm.Map(1, 2, "uniform")
        >>> uniform(torch.tensor([[[7.0, 8.0], [5.0, 6.0]]]))
        tensor([[[0.6667, 1.0000],
                 [0.0000, 0.3333]]])
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        target_quantiles: object = gaussian,
        eps: float = 0.0,
        device: Device = None,
        dtype: Dtype = None,
        *,
        positions: object = "linear",
        ties: str = "average",
        gradient: str | None = None,
    ) -> None:
        del device, dtype
        super().__init__(target_quantiles, eps, positions=positions, ties=ties, gradient=gradient)
        self.num_groups = _check_channels(num_groups, num_channels)
        self.num_channels = num_channels

    def forward(self, input: Tensor) -> Tensor:
        """Map the input."""
        _check_input_channels(input, self.num_channels)
        grouping = channel_groups(tuple(input.shape), self.num_groups, 1)
        return self._map(input, grouping, None, None)

    def extra_repr(self) -> str:
        """The arguments that made the layer."""
        return f"{self.num_groups}, {self.num_channels}, {self._describe_rule()}"


class GroupMap(AffineMapLayer):
    r"""Maps groups of channels to a target distribution, in place of :class:`torch.nn.GroupNorm`.

    .. math:: y = Q(F(x)) \cdot \gamma + \beta

    :math:`F` is the cdf of the values of one sample's block of channels, :math:`Q` the target's
    quantile function: the whole distribution is matched, not only its mean and variance. The
    method is that of GroupMap (A. Liutkus, 2022).

    Args:
        num_groups: number of equal blocks that the channels are split into.
        num_channels: number of channels :math:`C` of the input.
        eps: standard deviation of Gaussian noise that is added to the input before the map, in
            training and evaluation. Not the eps of GroupNorm. Default: 0.
        affine: whether there are :math:`\gamma` and :math:`\beta`, one a channel, which start at 1
            and 0. Default: ``True``.
        target_quantiles: the target, as in :func:`groupmap.quantile_map`; a module learns.
            Default: the standard normal distribution.
        device, dtype: of the parameters.

    Keyword Args:
        bias: ``False`` leaves :math:`\beta` out. Default: ``True``.
        positions, ties, gradient: as in :func:`groupmap.quantile_map`.

    Shape:
        - Input: :math:`(N, C, *)`
        - Output: the same shape, dtype and memory format. NaN stays NaN in its place and counts
          for nothing.

    Raises:
        ValueError: if num_groups does not divide num_channels, or an option is unknown.
        RuntimeError: if the input has other channels.

    Examples::

        >>> import torch, groupmap as gm
        >>> layer = gm.GroupMap(2, 6)  # in place of nn.GroupNorm(2, 6)
        >>> layer(torch.randn(20, 6, 10, 10)).shape
        torch.Size([20, 6, 10, 10])
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 0.0,
        affine: bool = True,
        target_quantiles: object = gaussian,
        device: Device = None,
        dtype: Dtype = None,
        *,
        bias: bool = True,
        positions: object = "linear",
        ties: str = "average",
        gradient: str | None = None,
    ) -> None:
        super().__init__(target_quantiles, eps, positions=positions, ties=ties, gradient=gradient)
        self.num_groups = _check_channels(num_groups, num_channels)
        self.num_channels = num_channels
        self.affine = affine
        self._make_parameters((num_channels,), affine=affine, bias=bias, device=device, dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Map the input."""
        _check_input_channels(input, self.num_channels)
        grouping = channel_groups(tuple(input.shape), self.num_groups, 1)
        weight, bias = (along_channels(p, input.ndim) for p in (self.weight, self.bias))
        return self._map(input, grouping, weight, bias)

    def extra_repr(self) -> str:
        """The arguments that made the layer."""
        return (
            f"{self.num_groups}, {self.num_channels}, affine={self.affine}, {self._describe_rule()}"
        )


class LayerMap(AffineMapLayer):
    r"""Maps the trailing axes to a target distribution, in place of :class:`torch.nn.LayerNorm`.

    .. math:: y = Q(F(x)) \cdot \gamma + \beta

    Args:
        normalized_shape: the trailing shape whose entries form one group, an int for the last
            axis alone: ``(B, T, D)`` with ``D`` maps each token.
        eps: standard deviation of Gaussian noise that is added to the input before the map, in
            training and evaluation. Not the eps of LayerNorm. Default: 0.
        elementwise_affine: whether there are :math:`\gamma` and :math:`\beta`, of shape
            normalized_shape, which start at 1 and 0. Default: ``True``.
        target_quantiles: the target, as in :func:`groupmap.quantile_map`; a module learns.
            Default: the standard normal distribution.
        device, dtype: of the parameters.

    Keyword Args:
        bias: ``False`` leaves :math:`\beta` out. Default: ``True``.
        positions, ties, gradient: as in :func:`groupmap.quantile_map`.

    Shape:
        - Input: :math:`(*, \text{normalized\_shape})`
        - Output: the same shape and dtype. NaN stays NaN in its place and counts for nothing.

    Raises:
        ValueError: if normalized_shape is empty, or an option is unknown.
        RuntimeError: if the input has another trailing shape.

    Examples::

        >>> import torch, groupmap as gm
        >>> layer = gm.LayerMap(10)  # in place of nn.LayerNorm(10)
        >>> layer(torch.randn(20, 5, 10)).shape
        torch.Size([20, 5, 10])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 0.0,
        elementwise_affine: bool = True,
        target_quantiles: object = gaussian,
        device: Device = None,
        dtype: Dtype = None,
        *,
        bias: bool = True,
        positions: object = "linear",
        ties: str = "average",
        gradient: str | None = None,
    ) -> None:
        super().__init__(target_quantiles, eps, positions=positions, ties=ties, gradient=gradient)
        self.normalized_shape = checked_normalized_shape(normalized_shape)
        self.elementwise_affine = elementwise_affine
        self._make_parameters(
            self.normalized_shape,
            affine=elementwise_affine,
            bias=bias,
            device=device,
            dtype=dtype,
        )

    def forward(self, input: Tensor) -> Tensor:
        """Map the input."""
        try:
            grouping = trailing_axes(tuple(input.shape), self.normalized_shape)
        except ValueError as error:
            raise RuntimeError(str(error)) from None
        return self._map(input, grouping, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The arguments that made the layer."""
        return (
            f"{self.normalized_shape}, elementwise_affine={self.elementwise_affine}, "
            f"{self._describe_rule()}"
        )


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
        positions, ties, gradient: as in :func:`groupmap.quantile_map`.

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
        gradient: str | None = None,
    ) -> None:
        super().__init__(target_quantiles, eps, positions=positions, ties=ties, gradient=gradient)
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
        weight, bias = (along_channels(p, x.ndim) for p in (self.weight, self.bias))
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
