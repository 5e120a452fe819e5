"""Modules of a network, replaced by others, and the report of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import final

from torch import nn
from torch.nn.modules.module import _WrappedHook


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


def replaced(
    model: nn.Module,
    reason_to_leave: Callable[[str, nn.Module], str | None],
    replacement: Callable[[nn.Module], nn.Module],
) -> tuple[nn.Module, ConversionReport]:
    """The model with replacements; a reason is None for what is replaced, "" for what is no matter.

    A module that stands in several places is asked for once, by the first of its names. All
    replacements are made before the first is put in place: an error leaves the model as it was.
    """
    report = ConversionReport()
    reasons: dict[int, str | None] = {}
    made: dict[int, nn.Module] = {}
    places = []
    for name, parent, key, module in _places(model):
        if id(module) not in reasons:
            reasons[id(module)] = reason_to_leave(name, module)
            if reasons[id(module)] is None:
                made[id(module)] = replacement(module)
        reason = reasons[id(module)]
        if reason is None:
            report.changed[name] = (type(module).__name__, type(made[id(module)]).__name__)
            places.append((parent, key, made[id(module)]))
        elif reason:
            report.left[name] = reason
    for parent, key, new in places:
        if parent is not None:
            parent._modules[key] = new
    for new in made.values():
        _bind_hooks(new)
    return made.get(id(model), model), report


def _bind_hooks(module: nn.Module) -> None:
    """Have hooks that were told another module, which is gone, be told this one."""
    for name, hooks in vars(module).items():
        for key, hook in hooks.items() if "_hook" in name and isinstance(hooks, dict) else ():
            if isinstance(hook, _WrappedHook) and hook.with_module:
                hooks[key] = _WrappedHook(hook.hook, module)


def has_own_parameters(module: nn.Module) -> bool:
    """Whether its weight and bias are parameters, which another module can take over."""
    return {"weight", "bias"} <= module._parameters.keys()


def parameters_of_others(module: nn.Module) -> str:
    """The reason to leave a module that has none of its own."""
    kind = type(module).__name__
    return f"the parameters of {kind} are made of others, by pruning or parametrization"


def _places(model: nn.Module) -> Iterator[tuple[str, nn.Module | None, str, nn.Module]]:
    """Name, parent, key there and module, of every place; a shared module has several."""
    yield "", None, "", model
    for prefix, parent in model.named_modules():
        for key, module in parent._modules.items():
            if module is not None:
                yield f"{prefix}.{key}".removeprefix("."), parent, key, module
