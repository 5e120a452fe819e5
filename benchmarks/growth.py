"""``python -m benchmarks.growth``: nanoseconds an entry as rows grow and as ties increase.

Draws docs/images/growth.png. The number of entries is the same everywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.progress import track

import groupmap as gm
from benchmarks.environment import environment
from benchmarks.textbook import textbook_torch
from benchmarks.timing import interleaved_medians

LENGTHS = tuple(4**k for k in range(3, 13))
DISTINCT = (1, 2, 4, 16, 64, 256, 1024, 4096)
TIED_LENGTH = 4096
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "growth.png"

Series = dict[str, list[float]]


def nanoseconds(x: torch.Tensor) -> dict[str, float]:
    """What each way takes for an entry of x."""
    array, half = x.numpy(), x.to(torch.bfloat16)
    medians = interleaved_medians(
        {
            "ours": lambda: gm.quantile_map(x),
            "ours, bfloat16": lambda: gm.quantile_map(half),
            "textbook torch": lambda: textbook_torch(x),
            "np.sort, one thread": lambda: np.sort(array, axis=-1),
        },
        seconds=0.5,
        least=3,
    )
    return {name: 1e9 * seconds / x.numel() for name, seconds in medians.items()}


def growth_with_n(total: int) -> Series:
    """Rows of 64 to 16 million normal values."""
    found = [nanoseconds(torch.randn(max(1, total // n), n)) for n in track(LENGTHS, "rows grow")]
    return {name: [each[name] for each in found] for name in found[0]}


def growth_with_ties(total: int) -> Series:
    """Rows of 4096 values, of which so many are distinct."""
    shape = (total // TIED_LENGTH, TIED_LENGTH)
    found = [
        nanoseconds(torch.randint(distinct, shape).float())
        for distinct in track(DISTINCT, "ties grow")
    ]
    return {name: [each[name] for each in found] for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--total", type=int, default=2**24)
    total = parser.parse_args().total
    about = environment()
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, at, series, label in (
        (axes[0], LENGTHS, growth_with_n(total), "n, values in a row"),
        (axes[1], DISTINCT, growth_with_ties(total), f"distinct values in a row of {TIED_LENGTH}"),
    ):
        for name, values in series.items():
            axis.loglog(at, values, marker="o", markersize=3, label=name)
        axis.set_xlabel(label)
        axis.set_ylabel("ns an entry")
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.suptitle(
        f"{total} entries, float32 unless said; {about['date']}, {about['threads']} threads",
        fontsize="medium",
    )
    figure.savefig(PICTURE, dpi=80)
    print(PICTURE)


if __name__ == "__main__":
    main()
