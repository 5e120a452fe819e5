"""What is compared in each case, ours in front: layers, the textbook, CuPy, cuML, norms, a copy.

The first contender of a case is what the others are divided by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import groupmap as gm
from benchmarks.textbook import textbook_torch

MOST_BUFFERS = 256
MOST_COLUMNS = 64  # cuML fits column after column, in Python
PEERS = frozenset({"textbook", "copy", "CuPy", "norm", "cuML", "LayerNorm, both ways"})


@dataclass(frozen=True)
class Setting:
    """Where inputs lie, and how large they are."""

    device: str = "cuda"
    cache_bytes: int = 0
    """What all inputs of a contender together come to, so that no cache holds them."""

    shrink: int = 1
    """By how much batches are smaller, for tests."""

    def batch(self, size: int) -> int:
        """The length of the first axis."""
        return max(1, size // self.shrink)

    def buffers(self, make: Callable[[], Tensor]) -> list[Tensor]:
        """One input, or as many as the cache does not hold."""
        first = make()
        count = -(-self.cache_bytes // max(first.nbytes, 1))
        return [first, *(make() for _ in range(min(count, MOST_BUFFERS) - 1))]


class Contender(NamedTuple):
    """A function, and the inputs that it is given in rotation."""

    work: Callable[[Any], object]
    inputs: Sequence[Any]


def cupy_chain(x: Any, n: int, weight: Any, bias: Any) -> Any:
    """The textbook in CuPy."""
    import cupy
    from cupyx.scipy import special

    rows = x.reshape(-1, n)
    ranks = cupy.empty_like(rows)
    order = cupy.argsort(rows, axis=-1)
    # put_along_axis, which CuPy has from version 14 on.
    ranks[cupy.arange(len(rows))[:, None], order] = cupy.linspace(0, 1, n, dtype=rows.dtype)
    y = special.ndtri(ranks.clip(1e-5, 1 - 1e-5)).astype(x.dtype, copy=False)
    return y.reshape(x.shape) * weight + bias


def _cuml_transform(x: Any) -> Any:
    from cuml.preprocessing import QuantileTransformer

    peer = QuantileTransformer(n_quantiles=1000, output_distribution="normal")
    return peer.fit_transform(x.T)


def _without_gradients(work: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def forward(x: Tensor) -> Tensor:
        return work(x)

    return forward


def _or_failing(make: Callable[[], Contender]) -> Contender:
    """A contender that fails when its turn comes, where it cannot even be made."""
    try:
        return make()
    except Exception as error:
        failure = error

    def work(_: None) -> None:
        raise failure

    return Contender(work, (None,))


def _as_cupy(tensors: Sequence[Tensor]) -> list[Any]:
    import cupy

    return [cupy.from_dlpack(each.detach()) for each in tensors]


def _normal(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> Tensor:
    return torch.randn(shape, device=device, dtype=torch.float32).to(dtype)


def forward(
    setting: Setting,
    shape: tuple[int, ...],
    groups: int | None,
    dtype: torch.dtype,
    *,
    with_gpu_peers: bool = True,
) -> dict[str, Contender]:
    """A layer without gradients, and everything that it is compared with."""
    shape = (setting.batch(shape[0]), *shape[1:])
    layer, norm, n = _layers(shape, groups, dtype, setting.device)
    inputs = setting.buffers(lambda: _normal(shape, dtype, setting.device))
    parameters = [
        each.detach().reshape((1, -1, *(1 for _ in shape[2:])) if groups else (-1,))
        for each in (layer.weight, layer.bias)
    ]

    def by_the_textbook(x: Tensor) -> Tensor:
        weight, bias = parameters
        return textbook_torch(x.reshape(-1, n)).reshape(x.shape) * weight + bias

    found = {
        "ours": Contender(_without_gradients(layer), inputs),
        "textbook": Contender(_without_gradients(by_the_textbook), inputs),
        "norm": Contender(_without_gradients(norm), inputs),
        "copy": Contender(lambda x: torch.empty_like(x).copy_(x), inputs),
    }
    if not with_gpu_peers or setting.device != "cuda" or not find_spec("cupy"):
        return found
    if dtype != torch.bfloat16:  # that of ml_dtypes, which not all of cupyx takes

        def in_cupy() -> Contender:
            weight, bias = _as_cupy(parameters)
            chain = partial(cupy_chain, n=n, weight=weight, bias=bias)
            return Contender(chain, _as_cupy(inputs))

        found["CuPy"] = _or_failing(in_cupy)
    if find_spec("cuml") and inputs[0].numel() <= MOST_COLUMNS * n and dtype.itemsize >= 4:

        def in_cuml() -> Contender:
            return Contender(_cuml_transform, _as_cupy([each.reshape(-1, n) for each in inputs]))

        found["cuML"] = _or_failing(in_cuml)
    return found


def _layers(
    shape: tuple[int, ...], groups: int | None, dtype: torch.dtype, device: str
) -> tuple[nn.Module, nn.Module, int]:
    """Our layer, torch's norm, and how many values a group has."""
    where = {"dtype": dtype, "device": device}
    if groups is None:
        n = shape[-1]
        return gm.LayerMap(n, **where), nn.LayerNorm(n, **where), n
    channels = shape[1]
    layer, norm = (kind(groups, channels, **where) for kind in (gm.GroupMap, nn.GroupNorm))
    return layer, norm, math.prod(shape[1:]) // groups


def _half_zeros(shape: tuple[int, int], dtype: torch.dtype, device: str) -> Tensor:
    return _normal(shape, dtype, device).relu_()


def _of_256_values(shape: tuple[int, int], dtype: torch.dtype, device: str) -> Tensor:
    return torch.randint(256, shape, device=device, dtype=torch.uint8).to(dtype)


def _constant(shape: tuple[int, int], dtype: torch.dtype, device: str) -> Tensor:
    return torch.ones(shape, dtype=dtype, device=device)


def _adversarial(shape: tuple[int, int], dtype: torch.dtype, device: str) -> Tensor:
    """Neighbours above 1, all in one bucket of a range that an outlier has made long."""
    x = torch.rand(shape, device=device).argsort(dim=-1).to(dtype).mul_(2.0**-23).add_(1.0)
    x[:, 0] = 1e30
    return x


TIES: dict[str, Callable[[tuple[int, int], torch.dtype, str], Tensor]] = {
    "Gaussian": _normal,
    "half zeros": _half_zeros,
    "256 values": _of_256_values,
    "constant": _constant,
    "adversarial": _adversarial,
}


def tied(
    setting: Setting, shape: tuple[int, int], dtype: torch.dtype, kinds: Sequence[str]
) -> dict[str, Contender]:
    """A layer on several kinds of input."""
    n_rows, n = shape
    shape = (setting.batch(n_rows), n)
    layer = _without_gradients(gm.LayerMap(n, dtype=dtype, device=setting.device))
    return {
        kind: Contender(layer, setting.buffers(partial(TIES[kind], shape, dtype, setting.device)))
        for kind in kinds
    }


class Recorded(NamedTuple):
    """A result that remembers how it came about, what it is differentiated by, and dL/dy."""

    y: Tensor
    to: tuple[Tensor, ...]
    grad: Tensor

    def backward(self) -> tuple[Tensor, ...]:
        """All gradients; they can be asked for again."""
        return torch.autograd.grad(self.y, self.to, self.grad, retain_graph=True)


def recorded(layer: nn.Module, x: Tensor, grad: Tensor) -> Recorded:
    """The forward pass, as training has it."""
    leaf = x.detach().requires_grad_()
    return Recorded(layer(leaf), (leaf, *layer.parameters()), grad)


def backward(
    setting: Setting, shape: tuple[int, int], dtype: torch.dtype, mode: str
) -> dict[str, Contender]:
    """A layer's backward pass, its forward pass, and both of LayerNorm."""
    n_rows, n = shape
    where = {"dtype": dtype, "device": setting.device}
    layer, norm = gm.LayerMap(n, gradient=mode, **where), nn.LayerNorm(n, **where)
    make = partial(_normal, (setting.batch(n_rows), n), dtype, setting.device)
    inputs, grad = setting.buffers(make), make()
    return {
        "backward": Contender(Recorded.backward, [recorded(layer, x, grad) for x in inputs]),
        "its forward": Contender(_without_gradients(layer), inputs),
        "LayerNorm, both ways": Contender(lambda x: recorded(norm, x, grad).backward(), inputs),
    }
