"""Layers on groups of channels: `Map`, and `GroupMap` in place of nn.GroupNorm."""

from __future__ import annotations

from torch import Tensor

from groupmap.counts import checked_count
from groupmap.grouping import BATCH_AND_CHANNEL, blocks_of_channels, check_divides
from groupmap.nn._base import (
    AffineMapLayer,
    Device,
    Dtype,
    MapLayer,
    check_tensor,
)
from groupmap.nn._nested import refuse_nested
from groupmap.nn._targets import check_target_count
from groupmap.targets import gaussian


def _checked_groups(num_groups: object, num_channels: int) -> int:
    groups = checked_count(num_groups, "num_groups")
    check_divides(groups, checked_count(num_channels, "num_channels", least=0))
    return groups


def _check_input_channels(x: Tensor, num_channels: int) -> None:
    """As nn.GroupNorm with its weight, also where there is none."""
    check_tensor(x)
    refuse_nested(x)
    if x.ndim < BATCH_AND_CHANNEL:
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
        target_quantiles: the target, as in :func:`groupmap.quantile_map`, or a sequence of them,
            one a group; a module learns. Default: the standard normal distribution.
        eps: standard deviation of Gaussian noise that is added to the input before the map, in
            training and evaluation. Default: 0.
        device: where a reference sample is placed.
        dtype: of the parameters, as in the other layers; this one has none.

    Keyword Args:
        positions, ties, gradient, gradient_window, gradient_floor: as in
            :func:`groupmap.quantile_map`.

    Shape:
        - Input: :math:`(N, C, *)`
        - ``where``: a mask that broadcasts to the input, true where an entry counts; the others
          come out 0, count for nothing and get no gradient. Default: all count.
        - Output: the same shape, dtype (integers: torch's default one) and memory format. NaN stays
          NaN in its place and counts for nothing.

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
        gradient: str | None = "transport",
        gradient_window: int | None = None,
        gradient_floor: float = 1.0,
    ) -> None:
        del dtype
        super().__init__(
            target_quantiles,
            eps,
            device,
            positions=positions,
            ties=ties,
            gradient=gradient,
            gradient_window=gradient_window,
            gradient_floor=gradient_floor,
        )
        self.num_groups = _checked_groups(num_groups, num_channels)
        check_target_count(self, "target_quantiles", self.num_groups, "groups")
        self.num_channels = num_channels

    def forward(self, input: Tensor, where: Tensor | None = None) -> Tensor:
        """Map the entries of the input where the mask `where` is true; the others become 0."""
        _check_input_channels(input, self.num_channels)
        grouping = blocks_of_channels(input.ndim, self.num_groups, 1)
        return self._map(input, grouping, where)

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
        target_quantiles: the target, as in :func:`groupmap.quantile_map`, or a sequence of them,
            one a group; a module learns. Default: the standard normal distribution.
        device, dtype: of the parameters.

    Keyword Args:
        bias: ``False`` leaves :math:`\beta` out. Default: ``True``.
        positions, ties, gradient, gradient_window, gradient_floor: as in
            :func:`groupmap.quantile_map`.

    Shape:
        - Input: :math:`(N, C, *)`
        - ``where``: a mask that broadcasts to the input, true where an entry counts; the others
          come out 0, count for nothing and get no gradient. Default: all count.
        - Output: the same shape, dtype (integers: torch's default one) and memory format. NaN stays
          NaN in its place and counts for nothing.

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
        gradient: str | None = "transport",
        gradient_window: int | None = None,
        gradient_floor: float = 1.0,
    ) -> None:
        super().__init__(
            target_quantiles,
            eps,
            device,
            positions=positions,
            ties=ties,
            gradient=gradient,
            gradient_window=gradient_window,
            gradient_floor=gradient_floor,
        )
        self.num_groups = _checked_groups(num_groups, num_channels)
        check_target_count(self, "target_quantiles", self.num_groups, "groups")
        self.num_channels = num_channels
        self.affine = affine
        self._make_parameters((num_channels,), affine=affine, bias=bias, device=device, dtype=dtype)

    def forward(self, input: Tensor, where: Tensor | None = None) -> Tensor:
        """Map the entries of the input where the mask `where` is true; the others become 0."""
        _check_input_channels(input, self.num_channels)
        grouping = blocks_of_channels(input.ndim, self.num_groups, 1)
        return self._map(input, grouping, where, self.weight, self.bias, parameter_axis=1)

    def extra_repr(self) -> str:
        """The arguments that made the layer."""
        return (
            f"{self.num_groups}, {self.num_channels}, affine={self.affine}, {self._describe_rule()}"
        )
