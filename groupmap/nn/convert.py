"""Networks with maps in place of their norms, and back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import array_api_compat.torch as xp_torch
from torch import nn

from groupmap.backends.torch import OPS
from groupmap.nn._base import AffineMapLayer, MapLayer
from groupmap.nn._channels import NUM_QUANTILES, ChannelMapLayer
from groupmap.nn._moments import batches_behind
from groupmap.nn._replacing import (
    ConversionReport,
    has_own_parameters,
    parameters_of_others,
    replaced,
)
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
FUSED_ACTIVATIONS: dict[int, tuple[object, type[nn.Module]]] = {
    1: (nn.functional.relu, nn.ReLU),
    2: (nn.functional.gelu, nn.GELU),
}


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
    the norm's running statistics: within these quantiles, and with ``tails="linear"`` everywhere
    (but for a target as ``"sparse"``, whose first quantiles are equal to rounding), layers that
    have them compute in evaluation what the norms did. Those without, as GroupMap and LayerMap,
    match the whole distribution at once, and the network is to be trained on.
    nn.TransformerEncoderLayer is kept from its fused path, which computes LayerNorm without calling
    its norms.

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
        if isinstance(target, (nn.Module, list, tuple)):
            target = copy.deepcopy(target)
        own = {"target_quantiles": target, **options}
        return _map_for(norm, own | running if isinstance(norm, tuple(CHANNEL_NORMS)) else own)

    def reason_to_leave(name: str, module: nn.Module) -> str | None:
        reason = _no_map_because(module)
        if reason is not None:
            return reason
        if predicate is None:
            is_subclass = type(module) not in COUNTERPARTS
            kind = type(module).__name__
            return f"{kind} is a subclass; a predicate may choose it" if is_subclass else None
        return None if predicate(name, module) else "the predicate leaves it"

    return _replaced_in_encoders(model, reason_to_leave, replacement)


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
        if not has_own_parameters(module):
            return parameters_of_others(module)
        if predicate is not None and not predicate(name, module):
            return "the predicate leaves it"
        return None

    return _replaced_in_encoders(model, reason_to_leave, _norm_for)


def _replaced_in_encoders(
    model: nn.Module,
    reason_to_leave: Callable[[str, nn.Module], str | None],
    replacement: Callable[[nn.Module], nn.Module],
) -> tuple[nn.Module, ConversionReport]:
    """As `replaced`; and nn.TransformerEncoderLayer takes its fused path only where it has norms.

    That path never calls its norm1 and norm2: it reads their weight, bias and eps, and computes
    LayerNorm. It is taken in evaluation, for ReLU and GELU alone, and what says so may say that it
    is neither: https://github.com/pytorch/pytorch/blob/main/torch/nn/modules/transformer.py
    """
    encoders = [each for each in model.modules() if isinstance(each, nn.TransformerEncoderLayer)]
    before = [(layer.norm1, layer.norm2) for layer in encoders]
    model, report = replaced(model, reason_to_leave, replacement)
    for layer, norms in zip(encoders, before, strict=True):
        if (layer.norm1, layer.norm2) != norms:  # else it is as its owner had it
            has_maps = any(isinstance(norm, MapLayer) for norm in (layer.norm1, layer.norm2))
            layer.activation_relu_or_gelu = 0 if has_maps else _fused_code(layer.activation)
    return model, report


def _fused_code(activation: object) -> int:
    for code, (function, module) in FUSED_ACTIVATIONS.items():
        if activation is function or isinstance(activation, module):
            return code
    return 0


def _no_map_because(module: nn.Module) -> str | None:
    """Why nothing can take its place; "" if it is no norm, None if a map can."""
    kind = type(module).__name__
    is_norm = "Norm" in kind and type(module).__module__ != "torch.nn.utils.parametrizations"
    if not isinstance(module, tuple(COUNTERPARTS)) and not is_norm:
        return ""
    if isinstance(module, nn.modules.lazy.LazyModuleMixin):
        return f"{kind} does not know its size yet; call the network once"
    if not isinstance(module, tuple(COUNTERPARTS)):
        return f"{kind} has no map in its place"
    return None if has_own_parameters(module) else parameters_of_others(module)


def _map_for(norm: Any, options: dict[str, Any]) -> AffineMapLayer:
    norm_type = next(each for each in type(norm).__mro__ if each in COUNTERPARTS)
    layer_type: Any = COUNTERPARTS[norm_type]
    layer: AffineMapLayer = layer_type(*_sizes(norm), **_shared_options(norm), **options)
    layer.replaced_eps = norm.eps
    if isinstance(layer, ChannelMapLayer) and layer.num_batches_tracked is not None:
        mean, variance = norm.running_mean, norm.running_var
        std = (variance.to(OPS.widest_real(variance, xp_torch)) + norm.eps).sqrt()
        layer.set_running_moments(mean, std)
        layer.num_batches_tracked = batches_behind(
            mean, variance, norm.num_batches_tracked, layer.momentum
        )
    if isinstance(layer, ChannelMapLayer):
        layer.track_running_stats = norm.track_running_stats
    _take_over(layer, norm)
    return layer


def _norm_for(layer: Any) -> nn.Module:
    norm_type: Any = NORM_OF[type(layer)]
    eps = EPS if layer.replaced_eps is None else layer.replaced_eps
    norm: nn.Module = norm_type(*_sizes(layer), eps=eps, **_shared_options(layer))
    if isinstance(layer, ChannelMapLayer) and layer.running_quantiles is not None:
        mean, std = layer.running_moments()
        buffers: Any = norm
        count = layer.num_batches_tracked
        buffers.running_mean.copy_(mean)
        buffers.running_var.copy_((std.square() - eps).clamp(min=0.0))
        buffers.num_batches_tracked = None if count is None else count.clone()
    if isinstance(layer, ChannelMapLayer):
        vars(norm)["track_running_stats"] = layer.track_running_stats
    _take_over(norm, layer)
    return norm


def _sizes(module: Any) -> tuple[Any, ...]:
    """The positional arguments that norms and maps share."""
    if isinstance(module, (nn.GroupNorm, GroupMap)):
        return module.num_groups, module.num_channels
    if isinstance(module, (nn.LayerNorm, LayerMap)):
        return (module.normalized_shape,)
    return (module.num_features,)


def _shared_options(module: Any) -> dict[str, Any]:
    """The keyword arguments that norms and maps share.

    There is no bias among them, which not all releases of torch's norms know: it is taken over.
    """
    affine = "elementwise_affine" if isinstance(module, (nn.LayerNorm, LayerMap)) else "affine"
    options: dict[str, Any] = {affine: module.weight is not None}
    for name in ("momentum", "process_group"):
        if hasattr(module, name):
            options[name] = getattr(module, name)
    if hasattr(module, "track_running_stats"):  # which may have been switched off since
        options["track_running_stats"] = any(
            getattr(module, name, None) is not None for name in ("running_var", "running_quantiles")
        )
    # Of the running statistics before the parameters, which are taken over as they are.
    for name in ("running_quantiles", "running_mean", "weight"):
        tensor = getattr(module, name, None)
        if tensor is not None:
            return {**options, "device": tensor.device, "dtype": tensor.dtype}
    return options


def _take_over(new: nn.Module, old: nn.Module) -> None:
    """Parameters, hooks (the very dictionaries, so that handles stay valid), training flag."""
    for name in ("weight", "bias"):
        new._parameters[name] = old._parameters[name]
    for name, value in vars(old).items():
        if "_hook" in name:
            vars(new)[name] = value
    new.train(old.training)
