"""Networks trained on clean digits, tested on distorted ones: a norm against the map.

python examples/robustness.py --seeds 3
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from digits import STEPS, accuracy, digits, make_network, make_norm, train
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

import groupmap as gm


def hot_pixels(images: Tensor, generator: torch.Generator) -> Tensor:
    """Three pixels of each image at twenty times white."""
    images = images.clone().flatten(1)
    where = torch.rand(images.shape, generator=generator).argsort(dim=1)[:, :3]
    return images.scatter(1, where, 20.0).reshape(-1, 1, 8, 8)


def heavy_tails(images: Tensor, generator: torch.Generator) -> Tensor:
    """Noise of Student's t with one and a half degrees of freedom, in steps of 0.1."""
    normal = torch.randn(images.shape, generator=generator)
    squares = torch.randn((3, *images.shape), generator=generator).square().mean(dim=0)
    return images + 0.1 * normal / squares**0.75


DISTORTIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "clean": lambda images, generator: images,
    "gamma 3": lambda images, generator: images**3,
    "contrast 1/10": lambda images, generator: 0.45 + 0.1 * images,
    "hot pixels": hot_pixels,
    "heavy tails": heavy_tails,
    "monotone warp": lambda images, generator: torch.exp(4.0 * images) - 7.0,
}


def on_mapped_input(norm: Callable[[int, int], nn.Module]) -> nn.Sequential:
    """The network behind a map of each image to uniform values."""
    return nn.Sequential(gm.Map(1, 1, "uniform"), *make_network(norm))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "GroupNorm": lambda: make_network(make_norm("GroupNorm", "exact")),
    "GroupMap": lambda: make_network(make_norm("GroupMap", "transport")),
    "GroupMap, affine gradient": lambda: make_network(make_norm("GroupMap", "affine")),
    "Map, then GroupNorm": lambda: on_mapped_input(make_norm("GroupNorm", "exact")),
    "Map, then GroupMap": lambda: on_mapped_input(make_norm("GroupMap", "transport")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds

    data = digits()
    table = Table(title=f"trained on clean digits, {STEPS} steps, {seeds} seeds: accuracy in %")
    table.add_column("network")
    for name in DISTORTIONS:
        table.add_column(name, justify="right")
    with Progress() as progress:
        task = progress.add_task("training", total=len(NETWORKS) * seeds * STEPS)
        for name, make in NETWORKS.items():
            found: dict[str, list[float]] = {each: [] for each in DISTORTIONS}
            for seed in range(seeds):
                torch.manual_seed(seed)
                network = make()
                train(network, data, seed, lambda: progress.advance(task))
                for distortion, distort in DISTORTIONS.items():
                    images = distort(data.test_images, torch.Generator().manual_seed(seed))
                    found[distortion].append(accuracy(network, images, data.test_labels))
            table.add_row(name, *(f"{statistics.mean(each):.1f}" for each in found.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
