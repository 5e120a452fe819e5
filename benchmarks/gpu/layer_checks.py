"""Promises of layers: no waiting, graphs, the same bits in every run, and little memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import groupmap as gm
from benchmarks.gpu.contenders import Contender, recorded
from benchmarks.gpu.failures import BrokenPromiseError, in_a_line
from benchmarks.gpu.timing import extra_memory
from groupmap.backends.cuda import programs, ranking

MOST_CHECKED = 2**18  # elements of an input
# Each for another way to rank, or to pass back.
CHECKED_LENGTHS = (256, 1024, 8192, 20_000, 32_768, 100_000)
CHECKED_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
CHECKED_GRADIENTS = ("transport", "affine", "straight_through")
MEMORY_LENGTHS = (256, 1024, 4096, 16_384, 32_768)
MOST_EXTRA_MEMORY = 0.1

Pass = Callable[[Tensor], tuple[Tensor, ...]]


def checked_layers(
    gradient: str, dtype: torch.dtype, device: str = "cuda"
) -> dict[str, tuple[nn.Module, Tensor]]:
    """Some layers, and an input for each."""
    where = {"device": device, "dtype": dtype}
    found = {}
    for n in CHECKED_LENGTHS:
        x = torch.randn(min(64, MOST_CHECKED // n), n, device=device).to(dtype)
        found[f"LayerMap({n})"] = gm.LayerMap(n, gradient=gradient, **where), x
    batch = max(1, min(8, MOST_CHECKED // (64 * 14 * 14)))
    x = torch.randn(batch, 64, 14, 14, device=device).to(dtype)
    found["GroupMap(4, 64)"] = gm.GroupMap(4, 64, gradient=gradient, **where), x
    return found


def passes_of(layer: nn.Module, grad: Tensor) -> dict[str, Pass]:
    """The forward pass without gradients, and both."""

    @torch.no_grad()
    def forward(values: Tensor) -> tuple[Tensor, ...]:
        return (layer(values),)

    def both(values: Tensor) -> tuple[Tensor, ...]:
        return both_ways(layer, values, grad)

    return {"forward": forward, "both ways": both}


def with_nan(x: Tensor) -> Tensor:
    """The same with NaN, infinities and ties here and there."""
    x = x.clone()
    flat = x.view(-1)
    flat[::97], flat[5::101], flat[7::103] = torch.nan, torch.inf, -torch.inf
    flat[::3] = flat[::3].round()
    return x


def both_ways(layer: nn.Module, x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """The result, and all gradients."""
    y, to, _ = recorded(layer, x, grad)
    return (y.detach(), *torch.autograd.grad(y, to, grad))


def _is_same(left: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    """Whether all bits are the same, those of NaN among them."""
    return all(
        torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
        for a, b in zip(left, right, strict=True)
    )


def check_synchronisation(gradient: str, dtype: torch.dtype) -> str:
    """Neither pass waits for the device, whatever the input holds."""
    layers = checked_layers(gradient, dtype)
    for name, (layer, x) in layers.items():
        for passes, work in passes_of(layer, torch.randn_like(x)).items():
            for kind, values in (("", x), (", NaN in the input", with_nan(x))):
                work(values)
                torch.cuda.synchronize()
                torch.cuda.set_sync_debug_mode("error")
                try:
                    work(values)
                except RuntimeError as error:
                    said = in_a_line(error)
                    raise BrokenPromiseError(f"{name}, {passes}{kind}: {said}") from error
                finally:
                    torch.cuda.set_sync_debug_mode("default")
    return f"{len(layers)} layers, forward and both ways"


def check_graphs(gradient: str, dtype: torch.dtype) -> str:
    """What is captured and replayed comes to the same bits as what is called."""
    layers = checked_layers(gradient, dtype)
    for name, (layer, x) in layers.items():
        for passes, work in passes_of(layer, torch.randn_like(x)).items():
            static = x.clone()
            graph, captured = _captured(work, static)
            for kind, values in (
                ("the same input", x),
                ("another input", torch.randn_like(x)),
                ("NaN in the input", with_nan(x)),
            ):
                static.copy_(values)
                graph.replay()
                if not _is_same(captured, work(values)):
                    raise BrokenPromiseError(
                        f"{name}, {passes}, {kind}: other bits than without a graph"
                    )
    return f"{len(layers)} layers, forward and both ways"


def _captured(work: Pass, static: Tensor) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]:
    """A graph of the work, and where its results will lie."""
    # https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work(static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = work(static)
    return graph, captured


def check_repetition(gradient: str, dtype: torch.dtype, device: str = "cuda") -> str:
    """Two runs come to the same bits."""
    layers = checked_layers(gradient, dtype, device)
    for name, (layer, x) in layers.items():
        for values in (x, x.relu(), with_nan(x)):
            grad = torch.randn_like(values)
            first = both_ways(layer, values, grad)
            if not all(_is_same(first, both_ways(layer, values, grad)) for _ in range(4)):
                raise BrokenPromiseError(f"{name}: other bits in another run")
    return f"{len(layers)} layers, five runs"


def check_memory(dtype: torch.dtype) -> str:
    """A forward pass takes little besides input and output, where rows fit a block."""
    greatest, lengths = 0.0, []
    for n in MEMORY_LENGTHS:
        x = torch.randn(2**24 // n, n, device="cuda").to(dtype)
        if not ranking.fits(n, programs.numbers_of(dtype), x.device.index, ordered=False):
            continue
        layer = gm.LayerMap(n, device="cuda", dtype=dtype)
        with torch.no_grad():
            extra = extra_memory(Contender(layer, [x]))
        if extra > MOST_EXTRA_MEMORY:
            raise BrokenPromiseError(f"rows of {n}: {extra:.1%} of the input")
        greatest = max(greatest, extra)
        lengths.append(n)
    if not lengths:
        raise BrokenPromiseError("no row fits a block")
    return f"at most {greatest:.1%} of the input, rows of {', '.join(map(str, lengths))}"
