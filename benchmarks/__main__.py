"""``python -m benchmarks``: the forward map beside textbook code and beside the norm."""

from __future__ import annotations

import math
import os

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import groupmap as gm
from benchmarks.timing import interleaved_medians

# (name, shape, groups), float32
CASES = (
    ("GroupMap", (16, 64, 56, 56), 8),
    ("GroupMap", (32, 256, 14, 14), 32),
    ("GroupMap", (8, 512, 7, 7), 32),
    ("LayerMap", (64, 128, 768), None),
    ("8 rows of a million", (8, 1, 1_000_000), 1),
)


def textbook_torch(rows: torch.Tensor) -> torch.Tensor:
    """What everybody's own port does: argsort, scatter, Q on every element; ties by accident."""
    n = rows.shape[-1]
    ranks = torch.empty_like(rows)
    positions = torch.linspace(0, 1, n, dtype=rows.dtype).expand_as(rows)
    ranks.scatter_(-1, rows.argsort(dim=-1), positions)
    return math.sqrt(2) * torch.erfinv(2 * ranks.clamp(1e-5, 1 - 1e-5) - 1)


def textbook_numpy(rows: np.ndarray) -> np.ndarray:
    """The same in NumPy and SciPy."""
    from scipy.special import ndtri

    ranks = np.empty_like(rows)
    positions = np.broadcast_to(np.linspace(0, 1, rows.shape[-1], dtype=rows.dtype), rows.shape)
    np.put_along_axis(ranks, rows.argsort(axis=-1), positions, axis=-1)
    return ndtri(ranks.clip(1e-5, 1 - 1e-5))


def measure(shape: tuple[int, ...], groups: int | None) -> dict[str, float]:
    """Median seconds of each side on one case."""
    x = torch.randn(shape)
    if groups is None:
        layer, norm = gm.LayerMap(shape[-1]), torch.nn.LayerNorm(shape[-1])
        rows = x.reshape(-1, shape[-1])
    else:
        layer, norm = gm.GroupMap(groups, shape[1]), torch.nn.GroupNorm(groups, shape[1])
        rows = x.reshape(shape[0] * groups, -1)
    array = rows.numpy()
    with torch.no_grad():
        return interleaved_medians(
            {
                "ours, torch": lambda: layer(x),
                "textbook torch": lambda: textbook_torch(rows),
                "ours, numpy": lambda: gm.quantile_map(array),
                "textbook numpy": lambda: textbook_numpy(array),
                "torch's norm": lambda: norm(x),
                "np.sort": lambda: np.sort(array, axis=-1),
            }
        )


def main() -> None:
    console = Console(width=160)
    table = Table(
        title=f"forward, float32, ms; {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, numpy {np.__version__}"
    )
    table.add_column("case")
    for case, shape, groups in track(CASES, console=console):
        times = measure(shape, groups)
        if not table.rows:
            for name in times:
                table.add_column(name, justify="right")
            table.add_column("torch ratio", justify="right")
            table.add_column("numpy ratio", justify="right")
        table.add_row(
            f"{case} {shape}" + (f", {groups} groups" if groups else ""),
            *(f"{1e3 * seconds:.1f}" for seconds in times.values()),
            f"{times['textbook torch'] / times['ours, torch']:.2f}",
            f"{times['textbook numpy'] / times['ours, numpy']:.2f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
