"""Networks with maps in place of their norms, and back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, final

import array_api_compat.torch as xp_torch
import torch
from torch import nn

from groupmap.backends.torch import OPS
from groupmap.nn._base import AffineMapLayer, MapLayer
from groupmap.nn._channels import NUM_QUANTILES, ChannelMapLayer
from groupmap.nn.batch import BatchMap1d, BatchMap2d, BatchMap3d
from groupmap.nn.group import GroupMap
from groupmap.nn.instance import InstanceMap1d, InstanceMap2d, InstanceMap3d
from groupmap.nn.layer import LayerMap
from groupmap.nn.sync import SyncBatchMap
from groupmap.targets import gaussian

Predicate = Callable[[str, nn.Module], bool]

CHANNEL_NORMS: dict[type[nn.Module], type[ChannelMapLayer]] = {
    nn.InstanceNorm1d: InstanceMap1d,
    nn.InstanceNorm2d: InstanceMap2d,
    nn.InstanceNorm3d: InstanceMap3d,
    nn.BatchNorm1d: BatchMap1d,
    nn.BatchNorm2d: BatchMap2d,
    nn.BatchNorm3d: BatchMap3d,
    nn.SyncBatchNorm: SyncBatchMap,
}
COUNTERPARTS: dict[type[nn.Module], type[AffineMapLayer]] = {
    nn.GroupNorm: GroupMap,
    nn.LayerNorm: LayerMap,
    **CHANNEL_NORMS,
}
NORM_OF = {layer: norm for norm, layer in COUNTERPARTS.items()}
EPS = 1e-5  # torch's default


@final
@dataclass
class ConversionReport:
    """What was changed, by name: from which class to which; and what was left, and why."""

    changed: dict[str, tuple[str, str]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        width = max(map(len, (*self.changed, *self.left)), default=0)
        lines = [f"{len(self.changed)} changed:"]
        for name, (before, after) in self.changed.items():
            lines.append(f"  {name:<{width}}  {before} -> {after}")
        lines.append(f"{len(self.left)} left as they are:")
        lines += [f"  {name:<{width}}  {reason}" for name, reason in self.left.items()]
        return "\n".join(lines)


def convert_norms(
    model: nn.Module,
    *,
    predicate: Predicate | None = None,
    target_quantiles: object = gaussian,
    positions: object = "linear",
    ties: str = "average",
    gradient: str | None = "transport",
    gradient_window: int | None = None,
    gradient_floor: float = 1.0,
    num_quantiles: int = NUM_QUANTILES,
    tails: str = "clip",
) -> tuple[nn.Module, ConversionReport]:
    r"""Put maps in place of the norms of a network.

    GroupNorm, LayerNorm, InstanceNorm1d to 3d, BatchNorm1d to 3d and SyncBatchNorm become
    GroupMap, LayerMap and so on, with the same parameters (the very objects, so that optimizers
    and ties of weights stay valid), device, dtype, training flag and hooks. The noise `eps` of the
    maps is 0. Running quantiles start at :math:`\mu + \sqrt{\sigma^2 + \epsilon} \cdot Q(p)` of
    the norm's running statistics: within these quantiles, and with ``tails="linear"`` everywhere,
    the network in evaluation then computes what it did.

    Args:
        model: the network, which is changed in place.
        predicate: which norms to replace, as a function of a module's name in the model and the
            module. It is asked of subclasses of these norms, too; what their own ``forward`` does
            is lost. Default: those of exactly these classes.
        target_quantiles: as in :func:`groupmap.quantile_map`; of a module each layer gets a copy.
        positions, ties, gradient, gradient_window, gradient_floor: as in
            :func:`groupmap.quantile_map`.
        num_quantiles, tails: as in :class:`groupmap.BatchMap`.

    Returns:
        The model, or, if it is a norm itself, its replacement; and the report, which says what was
        changed and what was left and why.

    Raises:
        ValueError, TypeError: if an option is unknown; the model is then as it was.

    Examples::

        >>> import torch, groupmap as gm
        >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8))
        >>> network, report = gm.nn.convert_norms(network)
        >>> print(report)
        1 changed:
          1  LayerNorm -> LayerMap
        0 left as they are:
    """
    options: dict[str, Any] = {
        "positions": positions,
        "ties": ties,
        "gradient": gradient,
        "gradient_window": gradient_window,
        "gradient_floor": gradient_floor,
    }
    running = {"num_quantiles": num_quantiles, "tails": tails}

    def replacement(norm: nn.Module) -> nn.Module:
        target = target_quantiles
        if isinstance(target, nn.Module):
            target = copy.deepcopy(target)
        own = {"target_quantiles": target, **options}
        return _map_for(norm, own | running if isinstance(norm, tuple(CHANNEL_NORMS)) else own)

    def reason_to_leave(name: str, module: nn.Module) -> str | None:
        if not _is_norm(module):
            return ""
        if isinstance(module, nn.modules.lazy.LazyModuleMixin):
            return f"{type(module).__name__} does not know its size yet; call the network once"
        if not isinstance(module, tuple(COUNTERPARTS)):
            return f"{type(module).__name__} has no map in its place"
        if predicate is not None:
            return None if predicate(name, module) else "the predicate leaves it"
        if type(module) not in COUNTERPARTS:
            return f"{type(module).__name__} is a subclass; a predicate may choose it"
        return None

    return _replaced(model, reason_to_leave, replacement)


def revert_norms(
    model: nn.Module, *, predicate: Predicate | None = None
) -> tuple[nn.Module, ConversionReport]:
    r"""Put torch's norms in place of the maps of a network: undo `convert_norms`.

    Parameters, device, dtype, training flag and hooks stay. A norm gets the eps of the one that
    was replaced (1e-5 where there was none), and the running mean and variance of the straight
    line that comes nearest to its running quantiles, :math:`\mu + \sqrt{\sigma^2 + \epsilon}
    \cdot Q(p)`: those that the conversion started from, if there was no training since.

    Args:
        model: the network, which is changed in place.
        predicate: which maps to replace, as a function of a module's name in the model and the
            module. Default: all that have a counterpart.

    Returns:
        The model, or, if it is a map itself, its replacement; and the report.

    Examples::

        >>> import torch, groupmap as gm
        >>> network, _ = gm.nn.convert_norms(torch.nn.Sequential(torch.nn.LayerNorm(8)))
        >>> network, report = gm.nn.revert_norms(network)
        >>> print(report)
        1 changed:
          0  LayerMap -> LayerNorm
        0 left as they are:
    """

    def reason_to_leave(name: str, module: nn.Module) -> str | None:
        if not isinstance(module, MapLayer):
            return ""
        if type(module) not in NORM_OF:
            return f"{type(module).__name__} has no norm of torch's in its place"
        if predicate is not None and not predicate(name, module):
            return "the predicate leaves it"
        return None

    return _replaced(model, reason_to_leave, _norm_for)


def _is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm, as far as its name says."""
    return isinstance(module, tuple(COUNTERPARTS)) or "Norm" in type(module).__name__


def _replaced(
    model: nn.Module,
    reason_to_leave: Callable[[str, nn.Module], str | None],
    replacement: Callable[[nn.Module], nn.Module],
) -> tuple[nn.Module, ConversionReport]:
    """The model with replacements; a reason is None for what is replaced, "" for what is no norm.

    All of them are made before the first is put in place: an error leaves the model as it was.
    """
    report, made = ConversionReport(), dict[int, nn.Module]()
    places = []
    for name, parent, key, module in _places(model):
        if id(module) not in made:
            reason = reason_to_leave(name, module)
            if reason is not None:
                if reason:
                    report.left[name] = reason
                continue
            made[id(module)] = replacement(module)
        new = made[id(module)]
        report.changed[name] = (type(module).__name__, type(new).__name__)
        places.append((parent, key, new))
    root = made.get(id(model), model)
    for parent, key, new in places:
        if parent is not None:
            parent._modules[key] = new
    return root, report


def _places(model: nn.Module) -> Iterator[tuple[str, nn.Module | None, str, nn.Module]]:
    """Name, parent, key there and module, of every place; a shared module has several."""
    yield "", None, "", model
    for prefix, parent in model.named_modules():
        for key, module in parent._modules.items():
            if module is not None:
                yield f"{prefix}.{key}".removeprefix("."), parent, key, module


def _map_for(norm: Any, options: dict[str, Any]) -> AffineMapLayer:
    norm_type = next(each for each in type(norm).__mro__ if each in COUNTERPARTS)
    layer_type: Any = COUNTERPARTS[norm_type]
    layer: AffineMapLayer = layer_type(*_sizes(norm), **_shared_options(norm), **options)
    place = _place(norm)
    if place is not None:
        layer.to(place)  # a sample that is the target, too
    layer.replaced_eps = norm.eps
    if isinstance(layer, ChannelMapLayer) and layer.num_batches_tracked is not None:
        variance = norm.running_var.to(OPS.widest_real(norm.running_var, xp_torch))
        layer.set_running_moments(norm.running_mean, (variance + norm.eps).sqrt())
        layer.num_batches_tracked = norm.num_batches_tracked.clone()
    _take_over(layer, norm)
    return layer


def _norm_for(layer: Any) -> nn.Module:
    norm_type: Any = NORM_OF[type(layer)]
    eps = EPS if layer.replaced_eps is None else layer.replaced_eps
    norm: Any = norm_type(*_sizes(layer), eps=eps, **_shared_options(layer))
    if isinstance(layer, ChannelMapLayer) and layer.num_batches_tracked is not None:
        mean, std = layer.running_moments()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_((std.square() - eps).clamp(min=0.0))
        norm.num_batches_tracked = layer.num_batches_tracked.clone()
    _take_over(norm, layer)
    return norm  # type: ignore[no-any-return]  # a norm of torch's


def _sizes(module: Any) -> tuple[Any, ...]:
    """The positional arguments that norms and maps share."""
    if isinstance(module, (nn.GroupNorm, GroupMap)):
        return module.num_groups, module.num_channels
    if isinstance(module, (nn.LayerNorm, LayerMap)):
        return (module.normalized_shape,)
    return (module.num_features,)


def _shared_options(module: Any) -> dict[str, Any]:
    """The keyword arguments that norms and maps share."""
    affine = "elementwise_affine" if isinstance(module, (nn.LayerNorm, LayerMap)) else "affine"
    options: dict[str, Any] = {affine: module.weight is not None}
    if module.weight is not None and module.bias is None:
        options["bias"] = False
    for name in ("momentum", "track_running_stats", "process_group"):
        if hasattr(module, name):
            options[name] = getattr(module, name)
    # Of the buffers before the parameters, which are taken over as they are.
    for tensor in (*module.buffers(recurse=False), *module.parameters(recurse=False)):
        if tensor.is_floating_point():
            return {**options, "device": tensor.device, "dtype": tensor.dtype}
    return options


def _place(module: nn.Module) -> torch.device | None:
    for tensor in (*module.buffers(recurse=False), *module.parameters(recurse=False)):
        return tensor.device
    return None


def _take_over(new: nn.Module, old: nn.Module) -> None:
    """Parameters, hooks (the very dictionaries, so that handles stay valid), training flag."""
    for name in ("weight", "bias"):
        new._parameters[name] = old._parameters[name]
    for name, value in vars(old).items():
        if "_hook" in name:
            vars(new)[name] = value
    new.train(old.training)
