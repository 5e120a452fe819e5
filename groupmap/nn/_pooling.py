"""Rows of all processes side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad


@final
@dataclass(frozen=True)
class Shares:
    """How many entries of a row each process has, in order of rank."""

    sizes: tuple[int, ...]
    rank: int
    group: dist.ProcessGroup | None

    @classmethod
    def of(cls, rows: Tensor, group: dist.ProcessGroup | None) -> Shares:
        """Those of rows ``(..., n)``; all processes must ask."""
        own = torch.tensor([rows.shape[-1]], dtype=torch.int64, device=rows.device)
        sizes = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
        dist.all_gather(sizes, own, group=group)
        return cls(tuple(int(size) for size in sizes), dist.get_rank(group), group)

    @classmethod
    def alike(cls, rows: Tensor, group: dist.ProcessGroup | None) -> Shares:
        """Those of rows that are of one shape in all processes."""
        sizes = (rows.shape[-1],) * dist.get_world_size(group)
        return cls(sizes, dist.get_rank(group), group)

    @property
    def own(self) -> slice:
        """Where this process's entries lie among those of all."""
        begin = sum(self.sizes[: self.rank])
        return slice(begin, begin + self.sizes[self.rank])

    def gathered(self, rows: Tensor) -> list[Tensor]:
        """The rows of each process."""
        if max(self.sizes) == 0:
            return [rows.detach() for _ in self.sizes]
        # Bytes: not every backend has a collective for every dtype.
        padded = pad(rows.detach(), (0, max(self.sizes) - rows.shape[-1]))
        padded = padded.clone(memory_format=torch.contiguous_format).view(torch.uint8)
        parts = [torch.empty_like(padded) for _ in self.sizes]
        dist.all_gather(parts, padded, group=self.group)
        return [
            part.view(rows.dtype)[..., :size] for part, size in zip(parts, self.sizes, strict=True)
        ]

    def pooled(self, rows: Tensor) -> Tensor:
        """The rows of all processes, one behind the other; gradients find their way back."""
        together: Tensor = _Pool.apply(rows, self)  # type: ignore[no-untyped-call]
        return together


class _Pool(torch.autograd.Function):
    """Concatenation over processes; the gradient of what is one's own comes from all of them."""

    @staticmethod
    def forward(rows: Tensor, shares: Shares) -> Tensor:
        return torch.cat(shares.gathered(rows), dim=-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        _, ctx.shares = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        total: Tensor = _Sum.apply(grad, ctx.shares.group)  # type: ignore[no-untyped-call]
        return total[..., ctx.shares.own], None


class _Sum(torch.autograd.Function):
    """The sum over processes, of which each has a part in the gradients of all the others."""

    @staticmethod
    def forward(part: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        is_half = part.element_size() < torch.float32.itemsize
        total = part.to(torch.float32 if is_half else part.dtype)
        total = total.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total.to(part.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        _, ctx.group = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total: Tensor = _Sum.apply(grads[0], ctx.group)  # type: ignore[no-untyped-call]
        return total, None


def shared_generator(device: torch.device, group: dist.ProcessGroup | None) -> torch.Generator:
    """A generator that draws the same in all processes; the first of them chooses its seed."""
    seed = torch.randint(2**62, (1,), device=device)
    seeds = Shares.alike(seed, group).gathered(seed)
    return torch.Generator(device).manual_seed(int(seeds[0]))
