"""A layer on the trailing axes: `LayerMap` in place of nn.LayerNorm."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from groupmap.grouping import checked_normalized_shape, last_axes
from groupmap.nn._base import AffineMapLayer, Device, Dtype, check_tensor
from groupmap.nn._nested import map_samples
from groupmap.targets import gaussian


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
        positions, ties, gradient, gradient_window, gradient_floor: as in
            :func:`groupmap.quantile_map`.

    Shape:
        - Input: :math:`(*, \text{normalized\_shape})`
        - ``where``: a mask that broadcasts to the input, true where an entry counts; the others
          come out 0, count for nothing and get no gradient. Default: all count.
        - Output: the same shape and dtype (integers: torch's default one). NaN stays NaN in its
          place and counts for nothing.

    Raises:
        ValueError: if normalized_shape is empty, or an option is unknown.
        TypeError: if target_quantiles is a sequence, since the groups are as many as the input has.
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
        if isinstance(target_quantiles, (list, tuple)):
            raise TypeError(
                f"target_quantiles={target_quantiles!r} is a sequence, but the groups of a "
                "LayerMap are as many as its input has; pass one target for all."
            )
        self.normalized_shape = checked_normalized_shape(normalized_shape)
        self.elementwise_affine = elementwise_affine
        self._make_parameters(
            self.normalized_shape,
            affine=elementwise_affine,
            bias=bias,
            device=device,
            dtype=dtype,
        )

    def forward(self, input: Tensor, where: Tensor | None = None) -> Tensor:
        """Map the entries of the input where the mask `where` is true; the others become 0."""
        check_tensor(input)
        if input.is_nested:
            if where is not None:
                raise NotImplementedError(
                    "where is for padded inputs; a nested tensor has no entries to mask."
                )
            return map_samples(self.forward, input, len(self.normalized_shape))
        try:
            grouping = last_axes(input.shape, self.normalized_shape)
        except ValueError as error:
            raise RuntimeError(str(error)) from None
        return self._map(input, grouping, where, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The arguments that made the layer."""
        return (
            f"{self.normalized_shape}, elementwise_affine={self.elementwise_affine}, "
            f"{self._describe_rule()}"
        )
