"""Random numbers by torch, from the generator that the caller names."""

from __future__ import annotations

import torch

from groupmap._typing import Array, DType, Namespace, RandomSource


def standard_normal(like: Array, dtype: DType, rng: RandomSource, xp: Namespace) -> Array:
    """Standard normal draws on the device of `like`."""
    del xp
    if rng is None:  # which, named as a generator, fixes the sizes that tracing sees
        return torch.randn(like.shape, dtype=dtype, device=like.device)
    generator = _generator(rng, like.device)
    return torch.randn(like.shape, dtype=dtype, device=like.device, generator=generator)


def random_keys(like: Array, rng: RandomSource, xp: Namespace) -> Array:
    """Uniform draws on the device of `like`."""
    del xp
    if rng is None:
        return torch.rand(like.shape, device=like.device)
    return torch.rand(like.shape, device=like.device, generator=_generator(rng, like.device))


def _generator(rng: RandomSource, device: torch.device) -> torch.Generator | None:
    """The generator that `rng` names; None is torch's default one, as in all of torch."""
    if rng is None or isinstance(rng, torch.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, int):
        raise TypeError(
            f"rng={rng!r} is no generator for torch tensors; pass a torch.Generator on the "
            "tensor's device, a seed, or None for torch's default generator."
        )
    return torch.Generator(device).manual_seed(rng)
