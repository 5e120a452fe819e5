"""``groupmap demo``: a photograph, mapped to distributions and to another photograph."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from groupmap._typing import Array
from groupmap.files import written_whole
from groupmap.functional import quantile_map
from groupmap.matching import match_quantiles
from groupmap.targets import NAMED_TARGETS, gaussian

PIXELS = (0, 1)  # the axes of an image (H, W, 3) that one channel pools
NEEDS = {"matplotlib": "matplotlib", "rich": "rich", "sklearn": "scikit-learn", "PIL": "pillow"}


@dataclass(frozen=True)
class Row:
    """One line of the demo's table, and one of its picture."""

    name: str
    backend: str
    seconds: float
    distance_before: float
    distance_after: float
    after: Array


def run_demo(output: Path) -> None:
    """Print the table and write the picture."""
    absent = [name for module, name in NEEDS.items() if find_spec(module) is None]
    if absent:
        raise ModuleNotFoundError(
            f"the demo needs {', '.join(absent)}; run: pip install 'groupmap[demo]'"
        )
    from rich.console import Console
    from rich.progress import track

    from groupmap.plots import BeforeAndAfter, draw_before_and_after

    console = Console()
    # Opened first: a place that cannot be written is said before the work, not after it.
    with written_whole(output) as file:
        photograph, other = photographs()
        steps = [*_array_steps(photograph, other), *_torch_steps(photograph)]
        rows = [step() for step in track(steps, "mapping china.jpg", console=console)]
        console.print(_table(rows))
        pictures = [BeforeAndAfter(row.name, photograph, row.after) for row in rows]
        with console.status("drawing"):
            draw_before_and_after(pictures, file)
    print(f"picture: {output}")  # not by the console, which breaks a long path over two lines


def photographs() -> tuple[Array, Array]:
    """Two photographs ``(H, W, 3)`` that scikit-learn ships, float64 in [0, 1]."""
    from sklearn.datasets import load_sample_image

    china, flower = load_sample_image("china.jpg"), load_sample_image("flower.jpg")
    return china / 255.0, flower / 255.0


def _array_steps(photograph: Array, other: Array) -> list[Callable[[], Row]]:
    def to_target(name: str) -> Row:
        seconds, after = _timed(lambda: quantile_map(photograph, name, axis=PIXELS))
        cdf = NAMED_TARGETS[name].cdf
        return Row(
            name,
            "numpy",
            seconds,
            _greatest(photograph, lambda x, channel: _ks_distance(x, cdf)),  # noqa: ARG005
            _greatest(after, lambda x, channel: _ks_distance(x, cdf)),  # noqa: ARG005
            after,
        )

    def to_other() -> Row:
        def distance(x: Array, channel: int) -> float:
            return _ks_distance_of_samples(x, other[..., channel])

        seconds, after = _timed(lambda: match_quantiles(photograph, other, axis=PIXELS))
        return Row(
            "match flower.jpg",
            "numpy",
            seconds,
            _greatest(photograph, distance),
            _greatest(after, distance),
            after,
        )

    return [*(partial(to_target, name) for name in ("gaussian", "uniform", "sparse")), to_other]


def _torch_steps(photograph: Array) -> list[Callable[[], Row]]:
    """One pass of each layer, where torch is installed."""
    if find_spec("torch") is None:
        return []
    import torch

    from groupmap import nn

    batch = torch.from_numpy(np.ascontiguousarray(np.moveaxis(photograph, -1, 0)[None]))
    batch = batch.to(torch.float32)
    _, channels, height, width = batch.shape
    # Each layer with the function that lays its groups out as rows.
    layers: list[tuple[torch.nn.Module, Callable[[Array], Array]]] = [
        (nn.GroupMap(1, channels), lambda y: y.reshape(1, -1)),
        (nn.LayerMap((height, width)), lambda y: y.reshape(channels, -1)),
        (nn.InstanceMap2d(channels), lambda y: y.reshape(channels, -1)),
        (nn.Map(channels, channels), lambda y: y.reshape(channels, -1)),
    ]

    def through(layer: torch.nn.Module, to_rows: Callable[[Array], Array]) -> Row:
        with torch.no_grad():
            seconds, mapped = _timed(lambda: layer(batch))
        before, after = (
            max(_ks_distance(row, gaussian.cdf) for row in to_rows(y.numpy()))
            for y in (batch, mapped)
        )
        image = np.moveaxis(mapped[0].numpy(), 0, -1)
        return Row(f"{type(layer).__name__}, gaussian", "torch", seconds, before, after, image)

    return [partial(through, *pair) for pair in layers]


def _timed(work: Callable[[], Array]) -> tuple[float, Array]:
    """The second of two runs: the first one imports, and builds tables that are kept."""
    work()
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def _greatest(image: Array, distance: Callable[[Array, int], float]) -> float:
    return max(distance(image[..., channel], channel) for channel in range(image.shape[-1]))


def _ks_distance(x: Array, cdf: Callable[[Array], Array]) -> float:
    """sup |F_x − F|, the Kolmogorov–Smirnov distance of a sample to a distribution."""
    from scipy.stats import ks_1samp

    return float(ks_1samp(x.ravel().astype(np.float64), cdf, method="asymp").statistic)


def _ks_distance_of_samples(x: Array, other: Array) -> float:
    from scipy.stats import ks_2samp

    return float(ks_2samp(x.ravel(), other.ravel(), method="asymp").statistic)


def _table(rows: list[Row]) -> object:
    from rich.table import Table

    table = Table(
        title="china.jpg, 427 × 640 × 3, every channel",
        caption="KS: Kolmogorov–Smirnov distance to the target, of the worst group.\n"
        "What is left of it are the ties of an 8-bit photograph: equal pixels stay equal.",
    )
    table.add_column("target")
    for heading in ("KS before", "KS after", "time", "backend"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.distance_before:.4f}",
            f"{row.distance_after:.4f}",
            f"{1e3 * row.seconds:.0f} ms",
            row.backend,
        )
    return table
