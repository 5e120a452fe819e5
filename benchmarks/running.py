"""``python -m benchmarks.running``: BatchMap beside BatchNorm, in training and in evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import groupmap as gm
from benchmarks.timing import interleaved_medians

SHAPES = (
    (64, 64, 32, 32), (256, 128, 1, 1), (20_000, 200, 1, 1), (16, 256, 14, 14), (8, 32, 112, 112)
)  # fmt: skip


def training(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    """Forward and backward."""

    def both_ways() -> None:
        layer(x.detach().requires_grad_()).backward(x)

    return both_ways


def evaluation(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    """Forward, without gradients."""
    layer.eval()

    @torch.no_grad()
    def forward() -> None:
        layer(x)

    return forward


def main() -> None:
    console = Console(width=150)
    table = Table(
        title=f"float32, ms; {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    table.add_column("shape")
    for shape in track(SHAPES, console=console):
        x, c = torch.randn(shape), shape[1]
        times = interleaved_medians(
            {
                "BatchMap, training": training(gm.BatchMap2d(c), x),
                "untracked": training(gm.BatchMap2d(c, track_running_stats=False), x),
                "BatchNorm, training": training(nn.BatchNorm2d(c), x),
                "BatchMap, evaluation": evaluation(gm.BatchMap2d(c), x),
                "by ranks": evaluation(gm.BatchMap2d(c, track_running_stats=False), x),
                "BatchNorm, evaluation": evaluation(nn.BatchNorm2d(c), x),
            }
        )
        if not table.rows:
            for name in times:
                table.add_column(name, justify="right")
        table.add_row(str(shape), *(f"{1e3 * seconds:.2f}" for seconds in times.values()))
    console.print(table)


if __name__ == "__main__":
    main()
