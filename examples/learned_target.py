"""Targets that learn: a CNN on scikit-learn's digits, and the quantile functions that it ends with.

python examples/learned_target.py --seeds 5
python examples/learned_target.py --picture docs/images/learned_targets.png
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from digits import GROUPS, STEPS, accuracy, digits, make_network, train
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import nn

import groupmap as gm

NUM_KNOTS = 16
TARGETS: dict[str, Callable[[], object]] = {
    "gaussian": lambda: gm.gaussian,
    "uniform": lambda: gm.uniform,
    "learned, from gaussian": lambda: gm.nn.MonotoneQuantile(NUM_KNOTS, "gaussian"),
    "learned, from uniform": lambda: gm.nn.MonotoneQuantile(NUM_KNOTS, "uniform"),
    "learned, one a group": lambda: [
        gm.nn.MonotoneQuantile(NUM_KNOTS, "gaussian") for _ in range(GROUPS)
    ],
}


def network_with(target: Callable[[], object]) -> nn.Sequential:
    return make_network(lambda c, side: gm.GroupMap(GROUPS, c, target_quantiles=target()))


@torch.no_grad()
def draw(networks: dict[str, nn.Sequential], path: Path) -> None:
    """The targets of each layer before and after training."""
    p = torch.linspace(0.0, 1.0, 1001)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots(1, len(networks), sharex=True)
    for ax, (name, network) in zip(axes, networks.items(), strict=True):
        layers = [layer for layer in network if isinstance(layer, gm.GroupMap)]
        start = TARGETS[name]().forward(p)
        ax.plot(p, start, color="0.6", linestyle="--", label="at the start")
        for i, layer in enumerate(layers):
            ax.plot(p, layer.target_quantiles(p), color=f"C{i}", label=f"layer {i + 1}")
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("p")
    axes[0].set_ylabel("Q(p)")
    axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    data, networks = digits(), {}
    table = Table("target of GroupMap", "mean", "sd", title=f"digits, {STEPS} steps: accuracy in %")
    with Progress() as progress:
        task = progress.add_task("training", total=len(options.targets) * options.seeds * STEPS)
        for name in options.targets:
            found = []
            for seed in range(options.seeds):
                torch.manual_seed(seed)
                networks[name] = network_with(TARGETS[name])
                train(networks[name], data, seed, lambda: progress.advance(task))
                found.append(accuracy(networks[name], data.test_images, data.test_labels))
            spread = statistics.stdev(found) if len(found) > 1 else 0.0
            table.add_row(name, f"{statistics.mean(found):.2f}", f"{spread:.2f}")
    Console(width=100).print(table)
    if options.picture is not None:
        shown = ("learned, from gaussian", "learned, from uniform")
        draw({name: networks[name] for name in shown if name in networks}, options.picture)


if __name__ == "__main__":
    main()
