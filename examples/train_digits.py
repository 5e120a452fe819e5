"""A small CNN on scikit-learn's digits, with any norm or map and any gradient mode.

python examples/train_digits.py                               # all configurations
python examples/train_digits.py --norm GroupMap --gradient transport --seeds 5
"""

from __future__ import annotations

import argparse
import statistics

import torch
from digits import (
    GRADIENTS,
    NORMS,
    READOUTS,
    STEPS,
    accuracy,
    digits,
    make_network,
    make_norm,
    train,
)
from rich.console import Console
from rich.progress import Progress
from rich.table import Table


def configurations(norms: list[str], gradients: list[str]) -> list[tuple[str, str]]:
    """Each norm once, each map with each gradient mode."""
    return [
        (norm, gradient)
        for norm in norms
        for gradient in (gradients if norm.endswith("Map") else ["exact"])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--norm", nargs="+", choices=NORMS, default=list(NORMS))
    parser.add_argument("--gradient", nargs="+", choices=GRADIENTS, default=list(GRADIENTS))
    parser.add_argument("--readout", choices=READOUTS, default="positions")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()

    data = digits()
    table = Table(title=f"digits, {STEPS} steps, {options.seeds} seeds: test accuracy in %")
    for heading in ("layer", "gradient", "mean", "sd", "seeds"):
        table.add_column(heading)
    runs = configurations(options.norm, options.gradient)
    with Progress() as progress:
        task = progress.add_task("training", total=len(runs) * options.seeds * STEPS)
        for norm, gradient in runs:
            found = []
            for seed in range(options.seeds):
                torch.manual_seed(seed)
                network = make_network(make_norm(norm, gradient), options.readout)
                train(network, data, seed, lambda: progress.advance(task))
                found.append(accuracy(network, data.test_images, data.test_labels))
            spread = statistics.stdev(found) if len(found) > 1 else 0.0
            table.add_row(
                norm, gradient, f"{statistics.mean(found):.2f}", f"{spread:.2f}",
                " ".join(f"{each:.1f}" for each in found),
            )  # fmt: skip
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
