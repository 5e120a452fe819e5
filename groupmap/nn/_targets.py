"""How layers hold a target: as it is, as a module that learns, as a buffer, or one a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import array_api_compat.torch as xp_torch
import numpy as np
import torch
from torch import Tensor, nn

from groupmap.backends.torch import OPS
from groupmap.backends.torch_tracing import is_sharded
from groupmap.nn._libraries import libraries
from groupmap.references import check_one_sample, sorted_reference, target_of_samples
from groupmap.targets import Target
from groupmap.user_targets import as_target


class TargetHolder(nn.Module):
    """A module with a target, or several, under the names of attributes.

    A target that is a module is a part of this one and learns; a reference sample is a buffer,
    which moves with this module.
    """

    def hold_target(
        self,
        name: str,
        target: object,
        device: torch.device | str | None,
        *,
        in_checkpoints: bool = False,
    ) -> None:
        """Keep a target, or a sequence of them, under that name; samples on that device.

        Samples are copied, and not in checkpoints by default, so that those of norms are those of
        layers.
        """
        if isinstance(target, np.ndarray):
            # On meta, as a default device, numbers would be lost.
            target = torch.from_numpy(np.array(target))
            device = torch.get_default_device() if device is None else device
        if isinstance(target, Tensor):
            sample = check_one_sample(target).detach().clone()
            sorted_reference(sample, "target_quantiles", xp_torch, OPS)
            is_placed = device is not None and torch.device(device).type != "meta"
            sample = sample.to(device=device) if is_placed else sample
            self.register_buffer(name, sample, persistent=in_checkpoints)
        elif isinstance(target, nn.Module):
            setattr(self, name, target)
        elif isinstance(target, (list, tuple)):
            setattr(self, name, TargetPerGroup(target, device))
        else:
            setattr(self, name, as_target(target))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Go where the network goes; with the numbers of samples, which no checkpoint gives back
        after `to_empty`."""
        samples = {name: self._buffers[name] for name in self._non_persistent_buffers_set}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # of torch
        for name, sample in samples.items():
            moved = self._buffers[name]
            if sample is None or moved is None or moved is sample or type(moved) is not Tensor:
                continue
            if not (sample.is_meta or moved.is_meta):
                with torch.no_grad():
                    moved.copy_(sample)
        return self

    def held_target(self, name: str) -> Target | Tensor | list[Target | Tensor]:
        """What is kept under that name, as the map takes it."""
        target = getattr(self, name)
        if is_sharded(target):  # where a layer's parameters are, whose samples are whole
            return target.to_local()  # type: ignore[no-any-return]
        if isinstance(target, (Target, Tensor)):
            return target
        if isinstance(target, TargetPerGroup):
            return [target.held_target(each) for each in target.names]  # type: ignore[misc]  # no lists
        return as_target(target)

    def targets(self, name: str, parameters: tuple[float, float]) -> list[Target]:
        """What is kept under that name, samples with those plotting parameters; one, or several."""
        held = self.held_target(name)
        xp, ops = libraries()
        return [
            each if isinstance(each, Target) else target_of_samples(each, parameters, xp, ops)
            for each in (held if isinstance(held, list) else [held])
        ]

    def described_target(self, name: str) -> str:
        """What is kept under that name, in a word or two."""
        held = getattr(self, name)
        if isinstance(held, TargetPerGroup):
            return f"[{', '.join(held.described_target(each) for each in held.names)}]"
        return f"sample of {held.shape[0]}" if isinstance(held, Tensor) else repr(held)


class TargetPerGroup(TargetHolder):
    """Targets in the order of the groups that they are for."""

    def __init__(self, targets: Sequence[object], device: torch.device | str | None) -> None:
        super().__init__()
        if any(isinstance(target, (list, tuple)) for target in targets):
            raise TypeError(
                f"target_quantiles={targets!r} holds a sequence in a sequence; "
                "pass one target a group."
            )
        self.names = [f"target_{g}" for g in range(len(targets))]
        for name, target in zip(self.names, targets, strict=True):
            self.hold_target(name, target, device)

    def __len__(self) -> int:
        return len(self.names)


def check_target_count(holder: TargetHolder, name: str, n_groups: int, groups: str) -> None:
    """Refuse a sequence of targets that is not one a group."""
    held = getattr(holder, name)
    if isinstance(held, TargetPerGroup) and len(held) != n_groups:
        raise ValueError(
            f"{name} is a sequence of {len(held)} targets for {n_groups} {groups}; "
            "pass one target for each of them, or one for all."
        )
