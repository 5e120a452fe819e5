"""What `benchmarks.gpu` measures: the cases, what is compared in each, and the goals.

The first contender of a case is what the others are divided by; it is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import groupmap as gm

TOTAL = 2**26  # elements, of which rows are made
MOST_BUFFERS = 256
MOST_COLUMNS = 64  # cuML fits column after column, in Python

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# (name, shape, groups); None: the last axis
LAYERS: tuple[tuple[str, tuple[int, ...], int | None], ...] = (
    ("GroupMap", (64, 256, 56, 56), 32),
    ("GroupMap", (256, 512, 14, 14), 32),
    ("GroupMap", (32, 64, 56, 56), 8),
    ("LayerMap", (64, 2048, 1024), None),
    ("LayerMap", (64, 1_000_000), None),
)
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)
TIED_LENGTHS = (1024, 4096, 16_384)
BACKWARD_LENGTHS = (256, 1024, 4096, 16_384)
HOST_BOUND: tuple[tuple[str, tuple[int, ...], int | None], ...] = (
    ("GroupMap", (16, 96, 14, 14), 8),
    ("GroupMap", (6, 64, 28, 28), 32),
    ("LayerMap", (4, 197, 384), None),
)


class Goal(NamedTuple):
    """How many times ours another takes: at least, or for what is ours too, at most."""

    of: str
    bound: float
    at_most: bool = False

    def is_reached(self, ratio: float) -> bool:
        """Whether a measured ratio is as it should be."""
        return ratio <= self.bound if self.at_most else ratio >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}"


# (bits of a value, least n, greatest n, the textbook ÷ ours, a copy ÷ ours)
ROW_GOALS = (
    (32, 256, 256, 12.0, 0.15),
    (32, 257, 4096, 6.0, 0.15),
    (32, 16_384, 25_600, 8.0, 0.11),
    (32, 1_000_000, 1_000_000, 2.8, 0.08),
    (16, 1, 4096, 5.0, 0.10),
    (16, 16_384, 65_535, 12.0, 0.19),
)
PEERS = frozenset({"textbook", "copy", "CuPy", "norm", "cuML", "LayerNorm, both ways"})
CUPY_GOAL = Goal("CuPy", 20.0)
HOST_GOAL = Goal("textbook", 4.0)
TIES_GOAL, ADVERSARIAL_GOAL = 1.5, 4.0


def goals_of_rows(dtype: torch.dtype, n: int) -> tuple[Goal, ...]:
    """The goals for large batches of rows of n values."""
    bits = 8 * dtype.itemsize
    found = [
        goal
        for of_bits, least, greatest, textbook, copy in ROW_GOALS
        if bits == of_bits and least <= n <= greatest
        for goal in (Goal("textbook", textbook), Goal("copy", copy))
    ]
    return (*found, CUPY_GOAL)


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


@dataclass(frozen=True)
class Case:
    """Contenders for one kind of input, made when its turn has come."""

    name: str
    elements: int
    contenders: Callable[[Setting], dict[str, Contender]]
    goals: tuple[Goal, ...] = ()
    is_host_bound: bool = False
    has_memory: bool = False


def textbook(rows: Tensor) -> Tensor:
    """Argsort, scatter and Q on every element, as in `benchmarks.textbook`, where the rows lie."""
    n = rows.shape[-1]
    positions = torch.linspace(0, 1, n, dtype=rows.dtype, device=rows.device).expand_as(rows)
    ranks = torch.empty_like(rows).scatter_(-1, rows.argsort(dim=-1), positions)
    return math.sqrt(2) * torch.erfinv(2 * ranks.clamp(1e-5, 1 - 1e-5) - 1)


def cupy_chain(x: Any, n: int, weight: Any, bias: Any) -> Any:
    """The same in CuPy."""
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


def _forward(
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
        return textbook(x.reshape(-1, n)).reshape(x.shape) * weight + bias

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


def layers() -> Iterator[Case]:
    """Layers of real networks, and 64 rows of a million."""
    for name, shape, groups in LAYERS:
        n = shape[-1] if groups is None else math.prod(shape[1:]) // groups
        for dtype in DTYPES:
            of_groups = f", {groups} groups" if groups else ""
            yield Case(
                f"{name} {shape}{of_groups}, {_name(dtype)}",
                math.prod(shape),
                partial(_forward, shape=shape, groups=groups, dtype=dtype),
                goals_of_rows(dtype, n),
                has_memory=True,
            )


def rows() -> Iterator[Case]:
    """Rows of all lengths, of one total."""
    for n in LENGTHS:
        for dtype in DTYPES:
            yield Case(
                f"rows of {n}, {_name(dtype)}",
                TOTAL,
                partial(_forward, shape=(TOTAL // n, n), groups=None, dtype=dtype),
                goals_of_rows(dtype, n),
                has_memory=True,
            )


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


def _tied(
    setting: Setting, n: int, dtype: torch.dtype, kinds: Sequence[str]
) -> dict[str, Contender]:
    shape = (setting.batch(TOTAL // n), n)
    layer = _without_gradients(gm.LayerMap(n, dtype=dtype, device=setting.device))
    return {
        kind: Contender(layer, setting.buffers(partial(TIES[kind], shape, dtype, setting.device)))
        for kind in kinds
    }


def ties() -> Iterator[Case]:
    """Ours on inputs with ties, and on the worst for buckets, beside ours on Gaussian ones."""
    for n in TIED_LENGTHS:
        for dtype in (torch.float32, torch.bfloat16):
            kinds = [each for each in TIES if each != "adversarial" or dtype == torch.float32]
            goals = [Goal(each, TIES_GOAL, at_most=True) for each in kinds[1:4]]
            if "adversarial" in kinds:
                goals.append(Goal("adversarial", ADVERSARIAL_GOAL, at_most=True))
            yield Case(
                f"ties, rows of {n}, {_name(dtype)}",
                TOTAL,
                partial(_tied, n=n, dtype=dtype, kinds=kinds),
                tuple(goals),
            )


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


def _backward(setting: Setting, n: int, dtype: torch.dtype, mode: str) -> dict[str, Contender]:
    where = {"dtype": dtype, "device": setting.device}
    layer, norm = gm.LayerMap(n, gradient=mode, **where), nn.LayerNorm(n, **where)
    make = partial(_normal, (setting.batch(TOTAL // n), n), dtype, setting.device)
    inputs, grad = setting.buffers(make), make()
    return {
        "backward": Contender(Recorded.backward, [recorded(layer, x, grad) for x in inputs]),
        "its forward": Contender(_without_gradients(layer), inputs),
        "LayerNorm, both ways": Contender(lambda x: recorded(norm, x, grad).backward(), inputs),
    }


def backwards() -> Iterator[Case]:
    """The backward pass alone, beside the forward pass and beside all of LayerNorm."""
    for mode in ("transport", "affine"):
        for n in BACKWARD_LENGTHS:
            for dtype in (torch.float32, torch.bfloat16):
                yield Case(
                    f"backward, {mode}, rows of {n}, {_name(dtype)}",
                    TOTAL,
                    partial(_backward, n=n, dtype=dtype, mode=mode),
                )


def host_bound() -> Iterator[Case]:
    """Small inputs, one call after the other, in wall time: what the launches cost."""
    for name, shape, groups in HOST_BOUND:
        yield Case(
            f"wall time, {name} {shape}, float32",
            math.prod(shape),
            partial(
                _forward, shape=shape, groups=groups, dtype=torch.float32, with_gpu_peers=False
            ),
            (HOST_GOAL,),
            is_host_bound=True,
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def all_cases() -> list[Case]:
    """All of them, in the order of the table."""
    return [case for kind in (layers, rows, ties, backwards, host_bound) for case in kind()]
