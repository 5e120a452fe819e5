"""What InstanceMap and BatchMap share: a distribution a channel, and running quantiles of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import array_api_compat.torch as xp_torch
import torch
from torch import Tensor

from groupmap.backends.torch import OPS
from groupmap.backends.torch_tracing import is_batched, is_sharded
from groupmap.cdf import check_tails
from groupmap.counts import checked_count
from groupmap.dtypes import at_least_single, check_real, result_dtype
from groupmap.grouping import Grouping, along_axis, broadcast_mask, channels_of_batch
from groupmap.mapping import MapRule
from groupmap.nn._base import AffineMapLayer, Device, Dtype, check_tensor
from groupmap.nn._moments import moments_of_quantiles, quantiles_of_moments, replace_moments
from groupmap.nn._nested import refuse_nested
from groupmap.nn._running import (
    RunningMap,
    barycentre,
    checked_momentum,
    count_of_known,
    moved,
    quantiles_of_batch,
    quantiles_of_ordered,
    share_of_batch,
)
from groupmap.nn._sharded import refuse_draws
from groupmap.nn._targets import check_target_count
from groupmap.pipeline import scaled, with_noise
from groupmap.targets import Target

OfBatch = Callable[[], Tensor]
NUM_QUANTILES = 101  # the percentiles


class ChannelMapLayer(AffineMapLayer):
    """A layer whose groups lie in single channels ``(N, C, *)``; subclasses say in which samples.

    With running statistics it maps by the batch's own ranks in training, and by the running
    quantiles, which do not depend on the batch, in evaluation.
    """

    running_quantiles: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        target_quantiles: object,
        device: Device,
        dtype: Dtype,
        *,
        bias: bool,
        num_quantiles: int,
        tails: str,
        **rule: Any,
    ) -> None:
        super().__init__(target_quantiles, eps, device, **rule)
        self.num_features = checked_count(num_features, "num_features", least=0)
        check_target_count(self, "target_quantiles", self.num_features, "channels")
        self.momentum = checked_momentum(momentum)
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.num_quantiles = checked_count(num_quantiles, "num_quantiles", least=2)
        self.tails = check_tails(tails)
        self._make_buffers(device, dtype)
        self._make_parameters((num_features,), affine=affine, bias=bias, device=device, dtype=dtype)

    @abstractmethod
    def _grouping(self, shape: tuple[int, ...]) -> Grouping:
        """Which entries are mapped together while the batch's own ranks count."""

    @abstractmethod
    def _check_shape(self, x: Tensor) -> None:
        """Refuse a shape as torch's norm does."""

    def _make_buffers(self, device: Device, dtype: Dtype) -> None:
        quantiles = batches = None
        if self.track_running_stats:
            shape = (self.num_features, self.num_quantiles)
            quantiles = torch.empty(shape, device=device, dtype=dtype)
            batches = torch.tensor(0, dtype=torch.int64, device=device)
        self.register_buffer("running_quantiles", quantiles)
        self.register_buffer("num_batches_tracked", batches)

    def reset_running_stats(self) -> None:
        """Start the running quantiles as those of the target: the map is then the identity."""
        if self.num_batches_tracked is not None:
            self.set_running_moments(0.0, 1.0)
            self.num_batches_tracked.zero_()

    def set_running_moments(self, mean: Tensor | float, std: Tensor | float) -> None:
        """Set the running quantiles to mean + std·Q(p), which count as 1/momentum batches do.

        Args:
            mean, std: of each channel, :math:`(C,)`, or of all; std is not negative.

        Raises:
            ValueError: if there are no running quantiles, mean or std is of another shape, std is
                negative, or Q(p) is not finite.
        """
        running = self._running_or_error()
        if running.device.type == "meta":
            return  # where there are no numbers
        mean, std = (torch.as_tensor(each, device=running.device) for each in (mean, std))
        for name, given in (("mean", mean), ("std", std)):
            if given.numel() != 1 and given.shape != (self.num_features,):
                raise ValueError(
                    f"{name} has shape {tuple(given.shape)}; pass one number, or one of each of "
                    f"the {self.num_features} channels."
                )
        if torch.any(std < 0.0):
            raise ValueError(f"std={std} is negative; pass the square root of the variance.")
        with torch.no_grad():
            quantiles = quantiles_of_moments(mean, std, self._targets(), self.num_quantiles)
            running.copy_(quantiles)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.clamp_(min=count_of_known(self.momentum))

    @torch.no_grad()
    def running_moments(self) -> tuple[Tensor, Tensor]:
        """The mean and std of which mean + std·Q(p) comes nearest to the running quantiles.

        Returns:
            Two tensors :math:`(C,)`: the least-squares line of the running quantiles on Q(p).

        Raises:
            ValueError: if there are no running quantiles.
        """
        running = self._running_or_error()
        return moments_of_quantiles(running, self._targets())

    def _running_or_error(self) -> Tensor:
        if self.running_quantiles is None:
            raise ValueError(
                "track_running_stats=False keeps no running quantiles; make the layer with "
                "track_running_stats=True."
            )
        return self.running_quantiles

    def reset_parameters(self) -> None:
        """Set γ to 1 and β to 0, and start the running quantiles anew."""
        self.reset_running_stats()
        super().reset_parameters()

    def forward(self, input: Tensor, where: Tensor | None = None) -> Tensor:
        """Map the entries of the input where the mask `where` is true; the others become 0."""
        check_tensor(input)
        refuse_nested(input)
        self._check_shape(input)
        if is_sharded(input):
            self._check_shards(input)
        if self.eps:
            check_real(input, "input", xp_torch)
            input = with_noise(input, self.eps, None, xp_torch, OPS)
        if where is not None:
            check_tensor(where, "where")
            where = broadcast_mask(where, input, xp_torch, "input")
        running, count = self.running_quantiles, self.num_batches_tracked
        if running is not None and self._maps_by_running():
            return self._map_by_running(running, input, where)
        y, of_batch = self._map_by_batch(input, where)
        # As in torch, the flag may be changed later: then what was learned stays as it is.
        if running is not None and count is not None and self.track_running_stats:
            self._track(running, count, of_batch())
        return y

    def _maps_by_running(self) -> bool:
        """Whether running quantiles, if there are any, serve: as in torch, whatever the flag is."""
        return not self.training

    def _check_shards(self, input: Tensor) -> None:
        """Refuse a DTensor of which more than single samples count."""
        refuse_draws(self.rule)
        grouping = self._grouping(tuple(input.shape))
        if self.running_quantiles is not None or 0 in grouping.whole_axes:
            OPS.check(input, "input")  # which refuses all of them

    def _scales(self, ndim: int, axis: int = 1) -> tuple[Tensor | None, Tensor | None]:
        """γ and β, shaped to broadcast along the axis."""
        weight, bias = (
            along_axis(parameter, axis, ndim, xp_torch) for parameter in (self.weight, self.bias)
        )
        return weight, bias

    @property
    def _rule_without_noise(self) -> MapRule:
        return replace(self.rule, eps=0.0) if self.eps else self.rule

    def _targets(self) -> list[Target]:
        return self.targets("target_quantiles", self.rule.plotting_parameters)

    def _track(self, running: Tensor, count: Tensor, of_batch: Tensor) -> None:
        if is_batched(of_batch) and not is_batched(running):
            raise RuntimeError(
                "input is batched by torch.vmap, and running quantiles, which it would change in "
                "place, are not; keep none, by track_running_stats=False, or map them by vmap, too."
            )
        count.add_(torch.any(~of_batch.isnan()))  # a batch without a value teaches nothing
        share = share_of_batch(count, self.momentum, running.dtype)
        running.copy_(moved(running, barycentre(of_batch), share))

    def _map_by_batch(self, x: Tensor, where: Tensor | None) -> tuple[Tensor, OfBatch]:
        """The map by the batch's own ranks; and the quantiles ``(..., C, k)``, once asked for."""
        grouping = self._grouping(tuple(x.shape))
        rule = self._rule_without_noise
        ordered: list[tuple[Tensor, Tensor]] = []  # rows, and their order
        y = self._map(
            x, grouping, where, self.weight, self.bias, parameter_axis=1, rule=rule,
            on_order=lambda *told: ordered.append(told),
        )  # fmt: skip

        def of_batch() -> Tensor:
            if ordered:  # else they are sorted anew
                parameters = self.rule.plotting_parameters
                return quantiles_of_ordered(*ordered[0], self.num_quantiles, parameters)
            mask = None if where is None else grouping.to_rows(where, xp_torch)
            return self._quantiles_of_rows(grouping.to_rows(x, xp_torch), mask)[0]

        return y, of_batch

    def _quantiles_of_rows(self, rows: Tensor, where: Tensor | None) -> tuple[Tensor, Tensor]:
        return quantiles_of_batch(rows, where, self.num_quantiles, self.rule.plotting_parameters)

    def _map_by_running(self, running: Tensor, x: Tensor, where: Tensor | None) -> Tensor:
        check_real(x, "input", xp_torch)
        if where is not None:
            x = torch.where(where, x, 0)
        seen = x if self.rule.gradient.name is not None else x.detach()
        dtype = at_least_single(result_dtype(x, xp_torch), xp_torch)
        wide = torch.promote_types(dtype, running.dtype)
        read = RunningMap.between(running, self._targets(), wide, self.tails)
        grouping = channels_of_batch(tuple(x.shape), 1)
        y = read(grouping.to_rows(seen, xp_torch))
        return self._finished(y, x, grouping, where)

    def _finished(
        self, rows: Tensor, x: Tensor, grouping: Grouping, where: Tensor | None
    ) -> Tensor:
        """Mapped rows, scaled, masked, and laid out as x is."""
        y = grouping.from_rows(rows, tuple(x.shape), xp_torch)
        dtype = result_dtype(x, xp_torch)
        y = scaled(y, *self._scales(x.ndim), dtype, xp_torch, OPS)
        if where is not None:
            y = torch.where(where, y, 0.0)
        finished: Tensor = OPS.keep_layout(y.to(dtype), x)
        return finished

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load, also from checkpoints of torch's norms: their mean and variance as quantiles."""
        if self.running_quantiles is not None:
            with torch.no_grad():
                replace_moments(
                    state_dict, prefix, self.running_quantiles, self._targets, self.momentum
                )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """The arguments that made the layer."""
        text = (
            f"{self.num_features}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}, {self._describe_rule()}"
        )
        if self.num_quantiles != NUM_QUANTILES:
            text += f", num_quantiles={self.num_quantiles}"
        return text if self.tails == "clip" else f"{text}, tails={self.tails!r}"
