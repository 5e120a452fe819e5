"""``python -m benchmarks.gradients``: the time of forward and backward together."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import groupmap as gm
from benchmarks.textbook import textbook_torch
from benchmarks.timing import interleaved_medians

SHAPES = ((1024, 256), (256, 1024), (64, 4096), (16, 25088), (4, 262144))


def forward_and_backward(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> None:
    """One pass there and back."""
    leaf = x.detach().requires_grad_()
    f(leaf).backward(x)


def main() -> None:
    console = Console(width=140)
    table = Table(
        title=f"float32, ms; {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    table.add_column("rows × n")
    for shape in track(SHAPES, console=console):
        x, n = torch.randn(shape), shape[-1]

        def passes(gradient: str | None, x: torch.Tensor = x) -> None:
            forward_and_backward(lambda x: gm.quantile_map(x, gradient=gradient), x)

        def layer_norm(x: torch.Tensor = x, n: int = n) -> None:
            forward_and_backward(lambda x: torch.nn.functional.layer_norm(x, (n,)), x)

        sides: dict[str, Callable[[], object]] = {
            "ours, forward": lambda x=x: gm.quantile_map(x),
            "transport, both ways": lambda passes=passes: passes("transport"),
            "affine, both ways": lambda passes=passes: passes("affine"),
            "textbook, forward": lambda x=x: textbook_torch(x),
            "LayerNorm, both ways": layer_norm,
        }
        times = interleaved_medians(sides)
        if not table.rows:
            for name in times:
                table.add_column(name, justify="right")
        table.add_row(
            f"{shape[0]} × {n}",
            *(f"{1e3 * seconds:.1f}" for seconds in times.values()),
        )
    console.print(table)


if __name__ == "__main__":
    main()
