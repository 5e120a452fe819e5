"""DTensors, of which each process has a shard: it maps its own, where groups lie whole in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from groupmap.backends.torch_tracing import is_sharded
from groupmap.grouping import Grouping
from groupmap.mapping import MapRule


def refuse_draws(rule: MapRule) -> None:
    """Refuse what is drawn, which processes would draw each for itself."""
    if rule.eps or rule.ties == "random":
        raise NotImplementedError(
            f"input is a DTensor, and with eps={rule.eps} and ties={rule.ties!r} each process "
            "would draw numbers for itself; add noise to the input before, break ties in order."
        )


def map_shards(
    of_shard: Callable[..., Tensor],
    x: Any,
    grouping: Grouping,
    where: Any,
    parameters: tuple[Any, Any],
    parameter_axis: int | None,
) -> Tensor:
    """The map of a DTensor, as one that is sharded alike; gradients come to parameters as sums.

    Raises:
        ValueError: if a group, or the parameters' axis, is split among processes.
        TypeError: if parameters or the mask are no DTensors.
    """
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

    mesh, placements = x.device_mesh, x.placements
    split = {each.dim % x.ndim for each in placements if isinstance(each, Shard)}
    whole = {*grouping.whole_axes, *(() if parameter_axis is None else (parameter_axis,))}
    if split & whole or not all(isinstance(each, (Shard, Replicate)) for each in placements):
        raise ValueError(
            f"input is a DTensor placed as {placements}, of which the axes {sorted(whole)} have to "
            "lie whole in each process; pass input.redistribute(placements=...) with Shard along "
            "others, or Replicate."
        )
    for name, each in (("weight", parameters[0]), ("bias", parameters[1]), ("where", where)):
        if each is not None and not is_sharded(each):
            raise TypeError(
                f"input is a DTensor and {name} is not; distribute the layer, too, as "
                "torch.distributed.tensor.distribute_module does, and the mask."
            )
    sums = [Partial() if isinstance(each, Shard) else Replicate() for each in placements]

    def own(parameter: Any) -> Tensor | None:
        if parameter is None:
            return None
        everywhere = parameter.redistribute(mesh, [Replicate()] * mesh.ndim)
        local: Tensor = everywhere.to_local(grad_placements=sums)
        return local

    if where is not None:
        where = where.expand(x.shape).redistribute(mesh, placements).to_local()
    weight, bias = (own(each) for each in parameters)
    y = of_shard(x.to_local(), where=where, weight=weight, bias=bias)
    mapped: Tensor = DTensor.from_local(
        y, mesh, placements, run_check=False, shape=x.shape, stride=x.stride()
    )
    return mapped
