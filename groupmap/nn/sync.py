"""BatchMap over the processes of torch.distributed: `SyncBatchMap` in place of nn.SyncBatchNorm."""

from __future__ import annotations

from typing import Any

import array_api_compat.torch as xp_torch
import torch
import torch.distributed as dist
from torch import Tensor, nn

from groupmap.backends.torch import OPS
from groupmap.counts import checked_count
from groupmap.dtypes import check_real
from groupmap.gradients import Saved
from groupmap.grouping import Grouping, channels_of_batch
from groupmap.knots import Knots, averaged_knots, mean_of_cdfs
from groupmap.mapping import MapRule, with_estimate
from groupmap.nn._base import Device, Dtype
from groupmap.nn._channels import NUM_QUANTILES, OfBatch
from groupmap.nn._pooling import Shares, shared_generator
from groupmap.nn._replacing import has_own_parameters, parameters_of_others, replaced
from groupmap.nn._running import (
    finite_target_values,
    probabilities,
    quantiles_of_batch,
    target_values,
)
from groupmap.nn.batch import BatchMap
from groupmap.samples import sorted_valid
from groupmap.targets import gaussian

POOLED = Grouping((1,))  # of rows (C, n)


class SyncBatchMap(BatchMap):
    r""":class:`BatchMap` whose batch is that of all processes, in place of nn.SyncBatchNorm.

    .. math:: y = Q(F(x)) \cdot \gamma + \beta

    In training :math:`F` is the cdf of a channel's values in all processes of a group. By default
    they are gathered, and each process gets what one process would get for the whole batch, to the
    last bit (but for `eps`: each process draws its own noise). With ``num_knots`` only so many
    quantiles of each process are: :math:`F` is then the mean of the processes' cdfs, linear between
    these. Alone, without torch.distributed, and in evaluation it is a BatchMap.

    Batches may differ in size, or be empty; all processes must call the layer, all of them with a
    mask or none.

    The gradient is J of the pooled sample, of which each process gets what belongs to its own
    entries. With ``num_knots`` it is J of the process's own sample, with the slope T′ of the
    pooled map: no values are exchanged.

    Args:
        num_features, eps, momentum, affine, track_running_stats, target_quantiles, device, dtype:
            as in :class:`BatchMap`.
        process_group: the processes that share a batch. Default: all.

    Keyword Args:
        num_knots: how many quantiles of each process stand for its values; only with
            ``ties="average"``. Default: ``None``, all values.
        bias, num_quantiles, tails, positions, ties, gradient, gradient_window, gradient_floor: as
            in :class:`BatchMap`.

    Shape:
        - Input: :math:`(N, C, *)`, of every process its own :math:`N`
        - ``where``: a mask that broadcasts to the input, true where an entry counts; the others
          come out 0, count for nothing and get no gradient. Default: all count.
        - Output: the same shape, dtype (integers: torch's default one) and memory format. NaN stays
          NaN in its place and counts for nothing.

    Raises:
        ValueError: as :class:`BatchMap`; or if num_knots meets other ties, or a target that is
            infinite somewhere.
        RuntimeError: if the input has other channels.

    Examples::

        >>> import torch, groupmap as gm
        >>> network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), gm.BatchMap2d(8))
        >>> network = gm.SyncBatchMap.convert_sync_batchmap(network)
        >>> type(network[1]).__name__
        'SyncBatchMap'
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 0.0,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        target_quantiles: object = gaussian,
        process_group: Any = None,
        device: Device = None,
        dtype: Dtype = None,
        *,
        num_knots: int | None = None,
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
        self._share(process_group, num_knots)

    def _share(self, process_group: Any, num_knots: int | None) -> None:
        self.process_group = process_group
        self.num_knots: int | None = None
        if num_knots is None:
            return
        self.num_knots = checked_count(num_knots, "num_knots", least=2)
        self._check_rule(self.rule)
        # An infinity found later, by one process alone, would leave the others waiting.
        p = probabilities(self.num_knots, torch.empty(0, device="cpu"))
        finite_target_values(self._targets(), p)

    def _check_rule(self, rule: MapRule) -> None:
        num_knots = getattr(self, "num_knots", None)  # which comes after the rule
        if num_knots is not None and rule.ties != "average":
            raise ValueError(
                f"num_knots={num_knots} with ties={rule.ties!r}: between knots there are no "
                'ranks to choose from; use ties="average", or num_knots=None.'
            )

    @classmethod
    def convert_sync_batchmap(
        cls, module: nn.Module, process_group: Any = None, *, num_knots: int | None = None
    ) -> nn.Module:
        """Replace every BatchMap in the module, as nn.SyncBatchNorm.convert_sync_batchnorm does.

        Args:
            module: a module with any number of BatchMap1d, BatchMap2d or BatchMap3d layers.
            process_group: the processes that share a batch. Default: all.
            num_knots: as in :class:`SyncBatchMap`.

        Returns:
            The module, changed in place; or, if it is a BatchMap itself, its replacement. The
            replacements have the same parameters, buffers, hooks and options.

        Raises:
            ValueError: if num_knots does not suit a layer, or the parameters of one are made of
                others, by pruning or parametrization; the module is then as it was.
        """

        def reason_to_leave(name: str, module: nn.Module) -> str | None:
            is_alone = isinstance(module, BatchMap) and not isinstance(module, SyncBatchMap)
            if is_alone and not has_own_parameters(module):
                raise ValueError(
                    f"{name or 'module'}: {parameters_of_others(module)}; make them its own first, "
                    "by torch.nn.utils.prune.remove or parametrize.remove_parametrizations."
                )
            return None if is_alone else ""

        def shared(layer: nn.Module) -> nn.Module:
            twin = cls.__new__(cls)
            # All of its state, parameters and hooks among it, as they are: handles stay valid.
            twin.__dict__.update(layer.__dict__)
            twin._share(process_group, num_knots)
            return twin

        converted, _ = replaced(module, reason_to_leave, shared)
        return converted

    def extra_repr(self) -> str:
        """The arguments that made the layer."""
        text = super().extra_repr()
        return text if self.num_knots is None else f"{text}, num_knots={self.num_knots}"

    def _map_by_batch(self, x: Tensor, where: Tensor | None) -> tuple[Tensor, OfBatch]:
        if not self._is_shared():
            return super()._map_by_batch(x, where)
        check_real(x, "input", xp_torch)
        grouping = channels_of_batch(tuple(x.shape), 1)
        rows = grouping.to_rows(x, xp_torch)
        mask = None if where is None else grouping.to_rows(where, xp_torch)
        if self.num_knots is not None:
            y, of_batch = self._map_by_knots(rows, mask, self.num_knots)
            return self._finished(y, x, grouping, where), of_batch
        y, of_batch = self._map_pooled(rows, mask)
        y = grouping.from_rows(y, tuple(x.shape), xp_torch)
        laid_out: Tensor = OPS.keep_layout(y, x)
        return laid_out, of_batch

    def _is_shared(self) -> bool:
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return False
        return dist.get_world_size(self.process_group) > 1

    def _map_pooled(self, rows: Tensor, mask: Tensor | None) -> tuple[Tensor, OfBatch]:
        shares = Shares.of(rows, self.process_group)
        pooled = shares.pooled(rows)
        masks = None if mask is None else torch.cat(shares.gathered(mask), dim=-1)
        rng = None
        if self.rule.ties == "random":
            rng = shared_generator(rows.device, self.process_group)
        scales, rule = self._scales(2, axis=0), self._rule_without_noise
        y = self._map(pooled, POOLED, masks, *scales, rule=rule, rng=rng)
        return y[:, shares.own], lambda: self._quantiles_of_rows(pooled, masks)[0]

    def _map_by_knots(
        self, rows: Tensor, mask: Tensor | None, num_knots: int
    ) -> tuple[Tensor, OfBatch]:
        knots = self._knots_of_all(rows, mask, num_knots)

        def of_batch() -> Tensor:
            values: Tensor = averaged_knots(knots, self.num_quantiles, xp_torch, OPS).values
            return values

        if rows.shape[-1] == 0:
            return rows, of_batch
        values = rows.detach()
        missing = values.isnan() if mask is None else values.isnan() | ~mask
        p = mean_of_cdfs(knots, torch.where(missing, 0.0, values), xp_torch, OPS)
        y = torch.where(missing, torch.nan, target_values(self._targets(), p))
        y = y.to(torch.promote_types(rows.dtype, torch.float32))
        gradient = self.rule.gradient
        if gradient.estimate is not None and OPS.wants_gradient(rows):
            excluded = missing | values.isinf()
            # In place of Q at the mid-positions of the own sample: T′ is then the pooled map's.
            ascending, _ = sorted_valid(y.detach(), excluded, xp_torch, OPS)
            y = with_estimate(y, rows, Saved(None, excluded, ascending), gradient, xp_torch, OPS)
        if mask is not None:
            y = torch.where(mask, y, 0.0)
        return y, of_batch

    def _knots_of_all(self, rows: Tensor, mask: Tensor | None, num_knots: int) -> list[Knots]:
        """The quantiles of every process."""
        parameters = self.rule.plotting_parameters
        quantiles, counts = quantiles_of_batch(rows, mask, num_knots, parameters)
        quantiles = quantiles.to(OPS.widest_real(rows, xp_torch))
        of_all, counts_of_all = (
            Shares.alike(each, self.process_group).gathered(each) for each in (quantiles, counts)
        )
        p = probabilities(num_knots, quantiles).expand_as(quantiles)
        return [
            Knots(values, p, count, keeps_all=False)
            for values, count in zip(of_all, counts_of_all, strict=True)
        ]
