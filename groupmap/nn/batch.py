"""Layers on each channel of the batch: `BatchMap` and its kin in place of nn.BatchNorm1d to 3d."""

from __future__ import annotations

from torch import Tensor

from groupmap.grouping import BATCH_AND_CHANNEL, Grouping, channels_of_batch
from groupmap.nn._base import Device, Dtype
from groupmap.nn._channels import NUM_QUANTILES, ChannelMapLayer
from groupmap.targets import gaussian


class BatchMap(ChannelMapLayer):
    r"""Maps each channel over batch and space to a target distribution, in place of BatchNorm.

    .. math:: y = Q(F(x)) \cdot \gamma + \beta

    In training, :math:`F` is the cdf of the batch's own values, and the running quantile function
    moves towards theirs; the mean of quantile functions is that of the Wasserstein barycentre. In
    evaluation the map goes through the points (running quantile, :math:`Q(p)`), linear between
    them: without a sort, one sample at a time if need be, and with its exact derivative as
    gradient. For any number of spatial axes; :class:`BatchMap1d`, :class:`BatchMap2d` and
    :class:`BatchMap3d` check theirs.

    Args:
        num_features: number of channels :math:`C` of the input.
        eps: standard deviation of Gaussian noise that is added to the input before the map, in
            training and evaluation. Not the eps of BatchNorm. Default: 0.
        momentum: what share of the way the running quantiles move towards those of a batch, in
            [0, 1]. The first 1/momentum batches count alike, so that nothing is left of the start
            (but in channels of which the first one had no value); with ``None`` all of them do,
            and with 0 the quantiles stay. Default: 0.1.
        affine: whether there are :math:`\gamma` and :math:`\beta`, one a channel, which start at 1
            and 0. Default: ``True``.
        track_running_stats: ``False`` keeps no running quantiles, and maps by the batch's own
            ranks in evaluation, too. Default: ``True``.
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
            :func:`groupmap.quantile_map`; ``gradient`` counts in training, except that ``None``
            passes nothing in evaluation either.

    Shape:
        - Input: :math:`(N, C, *)`
        - ``where``: a mask that broadcasts to the input, true where an entry counts; the others
          come out 0, count for nothing and get no gradient. Default: all count.
        - Output: the same shape, dtype (integers: torch's default one) and memory format. NaN stays
          NaN in its place and counts for nothing; infinite values count for their ranks, not for
          running quantiles.
        - ``running_quantiles``: :math:`(C, K)`, which start as those of the target

    Raises:
        ValueError: if the input has other axes, or an option is unknown.
        RuntimeError: if the input has other channels.

    References:
        Agueh, M. and Carlier, G. (2011). Barycenters in the Wasserstein space. SIAM Journal on
        Mathematical Analysis 43 (2), 904-924.

    Examples::

        >>> import torch, groupmap as gm
        >>> layer = gm.BatchMap2d(3)  # in place of nn.BatchNorm2d(3)
        >>> layer(torch.randn(20, 3, 35, 45)).shape
        torch.Size([20, 3, 35, 45])
        >>> layer.eval()(torch.randn(1, 3, 35, 45)).shape  # by running quantiles
        torch.Size([1, 3, 35, 45])
    """

    _input_ndims: tuple[int, ...] = ()  # empty: any

    def __init__(
        self,
        num_features: int,
        eps: float = 0.0,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
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

    def _grouping(self, shape: tuple[int, ...]) -> Grouping:
        return channels_of_batch(shape, 1)

    def _check_shape(self, x: Tensor) -> None:
        ndims = self._input_ndims
        if (ndims and x.ndim not in ndims) or x.ndim < BATCH_AND_CHANNEL:
            expected = " or ".join(f"{ndim}D" for ndim in ndims) or "at least 2D"
            raise ValueError(f"expected {expected} input (got {x.ndim}D input)")
        if x.shape[1] != self.num_features:
            raise RuntimeError(
                f"running_quantiles should contain {x.shape[1]} elements not {self.num_features}: "
                f"expected input of shape (N, {self.num_features}, *), got {list(x.shape)}"
            )


class BatchMap1d(BatchMap):
    r""":class:`BatchMap` in place of :class:`torch.nn.BatchNorm1d`.

    Shape:
        - Input: :math:`(N, C)` or :math:`(N, C, L)`
        - Output: the same shape.
    """

    _input_ndims = (2, 3)


class BatchMap2d(BatchMap):
    r""":class:`BatchMap` in place of :class:`torch.nn.BatchNorm2d`.

    Shape:
        - Input: :math:`(N, C, H, W)`
        - Output: the same shape.
    """

    _input_ndims = (4,)


class BatchMap3d(BatchMap):
    r""":class:`BatchMap` in place of :class:`torch.nn.BatchNorm3d`.

    Shape:
        - Input: :math:`(N, C, D, H, W)`
        - Output: the same shape.
    """

    _input_ndims = (5,)
