"""What the two examples on scikit-learn's digits share: the data, the network, the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import groupmap as gm

STEPS, BATCH, LEARNING_RATE, GROUPS = 150, 64, 3e-3, 8

NORMS = (
    "GroupNorm", "LayerNorm", "InstanceNorm", "BatchNorm",
    "GroupMap", "LayerMap", "InstanceMap", "BatchMap",
)  # fmt: skip
GRADIENTS = ("transport", "affine", "straight_through", "none")

# From (64, 4, 4) to what the linear readout sees: every position, or the mean of each channel.
READOUTS: dict[str, Callable[[], tuple[int, nn.Module]]] = {
    "positions": lambda: (64 * 4 * 4, nn.Flatten()),
    "means": lambda: (64, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
}


@dataclass(frozen=True)
class Digits:
    """1797 images ``(1, 8, 8)`` in [0, 1], three quarters of them for training."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def digits() -> Digits:
    """The same split in every run."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16.0, labels, test_size=0.25, random_state=0, stratify=labels)
    train, test, train_labels, test_labels = (torch.as_tensor(part) for part in parts)
    return Digits(
        train.float().reshape(-1, 1, 8, 8), train_labels, test.float().reshape(-1, 1, 8, 8),
        test_labels,
    )  # fmt: skip


def make_norm(name: str, gradient: str) -> Callable[[int, int], nn.Module]:
    """From channels and side length to the layer of that name."""
    passes = None if gradient == "none" else gradient
    makers: dict[str, Callable[[int, int], nn.Module]] = {
        "GroupNorm": lambda c, side: nn.GroupNorm(GROUPS, c),
        "LayerNorm": lambda c, side: nn.LayerNorm((c, side, side)),
        "InstanceNorm": lambda c, side: nn.InstanceNorm2d(c, affine=True),
        "BatchNorm": lambda c, side: nn.BatchNorm2d(c),
        "GroupMap": lambda c, side: gm.GroupMap(GROUPS, c, gradient=passes),
        "LayerMap": lambda c, side: gm.LayerMap((c, side, side), gradient=passes),
        "InstanceMap": lambda c, side: gm.InstanceMap2d(c, affine=True, gradient=passes),
        "BatchMap": lambda c, side: gm.BatchMap2d(c, gradient=passes),
    }
    return makers[name]


def make_network(
    norm: Callable[[int, int], nn.Module], readout: str = "positions"
) -> nn.Sequential:
    """Three convolutions, each with the norm and a ReLU, and a linear readout."""
    features, pooling = READOUTS[readout]()
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), norm(32, 8), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, stride=2), norm(64, 4), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1), norm(64, 4), nn.ReLU(),
        pooling, nn.Linear(features, 10),
    )  # fmt: skip


def train(
    network: nn.Module,
    data: Digits,
    seed: int,
    on_step: Callable[[], None],
    *,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
) -> None:
    """Adam on random batches; the same batches for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    network.train()
    for _ in range(steps):
        batch = torch.randint(len(data.train_labels), (BATCH,), generator=generator)
        scores = network(data.train_images[batch])
        loss = nn.functional.cross_entropy(scores, data.train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step()


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images that are recognised, in per cent."""
    network.eval()
    return 100.0 * float((network(images).argmax(dim=1) == labels).float().mean())
