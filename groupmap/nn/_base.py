"""What the layers share: the target, the rule of the map, the parameters and their checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from groupmap.backends.torch import OPS
from groupmap.backends.torch_tracing import is_sharded
from groupmap.gradients import GradientRule
from groupmap.grouping import Grouping
from groupmap.mapping import MapRule, OnOrder
from groupmap.nn._libraries import libraries
from groupmap.nn._sharded import map_shards, refuse_draws
from groupmap.nn._targets import TargetHolder
from groupmap.pipeline import map_groups

Device = torch.device | str | None
Dtype = torch.dtype | None


_PARTS_OF_RULE: dict[str, Callable[[MapLayer], Any]] = {
    "eps": lambda layer: layer.rule.eps,
    "positions": lambda layer: layer._positions,
    "ties": lambda layer: layer.rule.ties,
    "gradient": lambda layer: layer.rule.gradient.name,
    "gradient_window": lambda layer: layer.rule.gradient.window,
    "gradient_floor": lambda layer: layer.rule.gradient.floor,
}


def _part_of_rule(name: str, doc: str) -> Any:
    """An attribute of a layer that is a part of its rule, which is checked as a whole."""
    read = _PARTS_OF_RULE[name]

    def write(layer: MapLayer, value: Any) -> None:
        parts = {each: of(layer) for each, of in _PARTS_OF_RULE.items()}
        layer._set_rule(**{**parts, name: value})

    return property(read, write, doc=doc)


class MapLayer(TargetHolder):
    """A layer that maps groups to a target; subclasses say what a group is."""

    target_quantiles: Any
    rule: MapRule
    _positions: object

    def __init__(self, target_quantiles: object, eps: float, device: Device, **rule: Any) -> None:
        super().__init__()
        self._set_rule(eps=eps, **rule)
        self.hold_target("target_quantiles", target_quantiles, device)

    def _set_rule(
        self,
        *,
        positions: object,
        ties: str,
        eps: float,
        gradient: str | None,
        gradient_window: int | None,
        gradient_floor: float,
    ) -> None:
        estimate = GradientRule.checked(gradient, gradient_window, gradient_floor)
        rule = MapRule.checked(positions, ties, eps, estimate)
        self._check_rule(rule)
        self.rule = rule
        self._positions = tuple(positions) if isinstance(positions, list) else positions

    def _check_rule(self, rule: MapRule) -> None:
        """Refuse what a subclass has no way to do."""

    eps = _part_of_rule("eps", "The standard deviation of the noise that is added before the map.")
    positions = _part_of_rule("positions", "Where ranks lie in [0, 1].")
    ties = _part_of_rule("ties", "Which rank equal values get.")
    gradient = _part_of_rule("gradient", "Which estimate passes back.")
    gradient_window = _part_of_rule("gradient_window", "How many ranks to each side it looks at.")
    gradient_floor = _part_of_rule("gradient_floor", "What bounds its slopes.")

    def _map(
        self,
        x: Tensor,
        grouping: Grouping,
        where: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        parameter_axis: int | None = None,
        rule: MapRule | None = None,
        rng: torch.Generator | None = None,
        on_order: OnOrder | None = None,
    ) -> Tensor:
        if where is not None:
            check_tensor(where, "where")
        if is_sharded(x):
            refuse_draws(rule or self.rule)
            of_shard = partial(
                self._map, grouping=grouping, parameter_axis=parameter_axis, rule=rule,
                on_order=on_order,
            )  # fmt: skip
            return map_shards(of_shard, x, grouping, where, (weight, bias), parameter_axis)
        xp, ops = libraries()
        mapped: Tensor = map_groups(
            x,
            grouping,
            self.held_target("target_quantiles"),
            rule or self.rule,
            where=where,
            masked_value=0.0,
            rng=rng,
            weight=weight,
            bias=bias,
            parameter_axis=parameter_axis,
            name="input",
            on_order=on_order,
            xp=xp,
            ops=ops,
        )
        return mapped

    def _describe_rule(self) -> str:
        text = f"eps={self.eps}, target_quantiles={self.described_target('target_quantiles')}"
        if self.positions != "linear":
            text += f", positions={self.positions!r}"
        if self.rule.ties != "average":
            text += f", ties={self.rule.ties!r}"
        gradient = self.rule.gradient
        text += f", gradient={gradient.name!r}"
        if gradient.window is not None:
            text += f", gradient_window={gradient.window}"
        if gradient.floor != 1.0:
            text += f", gradient_floor={gradient.floor}"
        return text


class AffineMapLayer(MapLayer):
    """A layer with γ and β, named `weight` and `bias` as in torch's norms."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    replaced_eps: float | None = None
    """The eps of the norm in whose place `convert_norms` has put this layer."""

    def _make_parameters(
        self,
        shape: tuple[int, ...],
        *,
        affine: bool,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        for name, is_there in (("weight", affine), ("bias", affine and bias)):
            empty = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, empty if is_there else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set γ to 1 and β to 0."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load, also from checkpoints of groupmap 0.1, with `affine.weight` and `affine.bias`."""
        for name in ("weight", "bias"):
            old, own = f"{prefix}affine.{name}", f"{prefix}{name}"
            if old in state_dict and own not in state_dict:
                state_dict[own] = state_dict.pop(old)
        super()._load_from_state_dict(state_dict, prefix, *args)


def check_tensor(x: object, name: str = "input") -> None:
    """Refuse what is no tensor."""
    if type(x).__module__.startswith("torch.fx"):
        raise TypeError(
            f"{name} is a {type(x).__name__} of torch.fx, which cannot look into layers that read "
            "their input; make them leaves, by a Tracer whose is_leaf_module says so."
        )
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} is of type {type(x).__name__}; layers map torch tensors. Pass "
            f"torch.as_tensor({name}), or call groupmap's functions on the array as it is."
        )
    dense: Any = x.to_local() if is_sharded(x) else x  # type: ignore[attr-defined]  # of DTensors
    if not dense.is_nested:
        OPS.check(dense, name)
