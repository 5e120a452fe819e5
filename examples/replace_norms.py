"""What changes where a map takes the place of a norm: three studies on scikit-learn's digits.

python examples/replace_norms.py learning-rates   # which ones train norms and maps
python examples/replace_norms.py evaluation       # BatchMap: one sample at a time, and in batches
python examples/replace_norms.py conversion       # a trained network, converted, and trained on
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable

import torch
from digits import STEPS, Digits, accuracy, digits, make_network, make_norm, train
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import nn

import groupmap as gm

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
NORMS = ("GroupNorm", "GroupMap", "BatchNorm", "BatchMap")
CONVERTED = ("GroupNorm", "LayerNorm", "BatchNorm")
STEPS_ON = (0, 10, 50)

Advance = Callable[[], None]


def trained(norm: str, data: Digits, seed: int, advance: Advance, rate: float) -> nn.Sequential:
    torch.manual_seed(seed)
    network = make_network(make_norm(norm, "transport"))
    train(network, data, seed, advance, learning_rate=rate)
    return network


def of_test(network: nn.Module, data: Digits) -> float:
    return accuracy(network, data.test_images, data.test_labels)


def summary(found: list[float]) -> str:
    spread = statistics.stdev(found) if len(found) > 1 else 0.0
    return f"{statistics.mean(found):.2f} ± {spread:.2f}"


def learning_rates(data: Digits, seeds: int, progress: Progress) -> Table:
    task = progress.add_task("training", total=len(NORMS) * len(RATES) * seeds * STEPS)
    table = Table(
        "layer", *(f"{rate:g}" for rate in RATES), title="accuracy in %, by learning rate"
    )
    for norm in NORMS:
        cells = [
            summary(
                [
                    of_test(trained(norm, data, seed, lambda: progress.advance(task), rate), data)
                    for seed in range(seeds)
                ]
            )
            for rate in RATES
        ]
        table.add_row(norm, *cells)
    return table


@torch.no_grad()
def one_at_a_time(network: nn.Module, data: Digits) -> float:
    network.eval()
    guesses = torch.cat([network(image[None]).argmax(dim=1) for image in data.test_images])
    return 100.0 * float((guesses == data.test_labels).float().mean())


@torch.no_grad()
def by_its_own_ranks(network: nn.Module, data: Digits) -> float:
    """The test images as one batch, mapped by their own statistics."""
    twin = copy.deepcopy(network).train()
    right = twin(data.test_images).argmax(dim=1) == data.test_labels
    return 100.0 * float(right.float().mean())


def evaluation(data: Digits, seeds: int, progress: Progress) -> Table:
    kinds = ("BatchNorm", "BatchMap")
    task = progress.add_task("training", total=len(kinds) * seeds * STEPS)
    table = Table(
        "layer", "one at a time", "all at once", "by the test batch's own statistics",
        title="accuracy in %, by how the test images are given",
    )  # fmt: skip
    for norm in kinds:
        networks = [
            trained(norm, data, seed, lambda: progress.advance(task), 3e-3) for seed in range(seeds)
        ]
        columns = (one_at_a_time, of_test, by_its_own_ranks)
        table.add_row(norm, *(summary([f(each, data) for each in networks]) for f in columns))
    return table


def conversion(data: Digits, seeds: int, progress: Progress) -> Table:
    steps = len(CONVERTED) * seeds * (STEPS + sum(STEPS_ON))
    task = progress.add_task("training", total=steps)

    def advance() -> None:
        progress.advance(task)

    headings = (f"converted, {steps} steps on" for steps in STEPS_ON)
    table = Table("trained with", "as it was", *headings, title="accuracy in %")
    for norm in CONVERTED:
        networks = [trained(norm, data, seed, advance, 3e-3) for seed in range(seeds)]
        cells = [summary([of_test(each, data) for each in networks])]
        for steps in STEPS_ON:
            found = []
            for seed, network in enumerate(networks):
                converted, _ = gm.nn.convert_norms(copy.deepcopy(network), tails="linear")
                train(converted, data, seeds + seed, advance, steps=steps, learning_rate=1e-3)
                found.append(of_test(converted, data))
            cells.append(summary(found))
        table.add_row(norm, *cells)
    return table


STUDIES = {
    "learning-rates": learning_rates,
    "evaluation": evaluation,
    "conversion": conversion,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    with Progress() as progress:
        table = STUDIES[options.study](digits(), options.seeds, progress)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
