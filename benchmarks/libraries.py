"""``python -m benchmarks.libraries``: every public function on the arrays of each library.

What one library takes much longer for than another goes another way there than it could.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats

import groupmap as gm
from benchmarks.environment import environment
from benchmarks.timing import interleaved_medians

SLOW = 2.5  # times as long as NumPy's: shown in bold

Made = Callable[[np.ndarray], Any]  # an array of one library from one of NumPy
Work = Callable[[], object]


def of_jax(x: np.ndarray) -> jax.Array:
    """The same as a JAX array."""
    return jax.numpy.asarray(x)


LIBRARIES: dict[str, Made] = {"NumPy": np.asarray, "torch": torch.from_numpy, "JAX": of_jax}


class Data(NamedTuple):
    """What all functions are called with."""

    rows: np.ndarray
    incomplete: np.ndarray
    table: np.ndarray
    incomplete_table: np.ndarray
    image: np.ndarray
    incomplete_image: np.ndarray
    activations: np.ndarray
    sample: np.ndarray
    weight: np.ndarray

    @classmethod
    def drawn(cls, scale: float) -> Data:
        """Some millions of entries in all, times the scale."""
        rng = np.random.default_rng(0)

        def some(n: int) -> int:
            return max(8, int(scale * n))

        def with_holes(x: np.ndarray, share: float) -> np.ndarray:
            return np.where(rng.random(x.shape) < share, np.nan, x).astype(x.dtype)

        rows = rng.normal(size=(some(1024), 1024)).astype(np.float32)
        table = rng.normal(size=(some(50_000), 20))
        image = rng.normal(size=(512, some(512), 3)).astype(np.float32)
        return cls(
            rows, with_holes(rows, 0.01), table, with_holes(table, 0.1), image,
            with_holes(image, 0.05), rng.normal(size=(8, 16, 32, some(32))).astype(np.float32),
            rng.normal(size=5000), rng.normal(size=1024).astype(np.float32),
        )  # fmt: skip


def transformer(**options: Any) -> gm.GroupMapTransformer:
    """One with a thousand quantiles."""
    return gm.GroupMapTransformer(n_quantiles=1000, **options)


def transforming(made: Made, X: np.ndarray, *, back: bool = False, **options: Any) -> Work:
    """A fitted transformer's work."""
    X = made(X)
    fitted = transformer(**options).fit(X)
    y = fitted.transform(X)
    return (lambda: fitted.inverse_transform(y)) if back else (lambda: fitted.transform(X))


def learning(made: Made, data: Data) -> Work:
    """Ten chunks."""
    chunks = [made(each.copy()) for each in np.array_split(data.table, 10)]

    def learn() -> object:
        fitted = transformer()
        for chunk in chunks:
            fitted.partial_fit(chunk)
        return fitted.quantiles_

    return learn


def fitting(made: Made, X: np.ndarray, weight: np.ndarray | None = None, **options: Any) -> Work:
    """A fit of a transformer."""
    X, weight = made(X), None if weight is None else made(weight)
    return lambda: transformer(**options).fit(X, sample_weight=weight).quantiles_


def cdf_of(made: Made, data: Data, method: str, **options: Any) -> Work:
    """One of a cdf's methods."""
    x = made(data.table[:, 0].copy())
    fitted = gm.EmpiricalCDF.fit(x, **options)
    at = x if method == "cdf" else fitted.cdf(x)
    return lambda: getattr(fitted, method)(at)


def mapping(made: Made, x: np.ndarray, *targets: Any, **options: Any) -> Work:
    """A quantile map, along rows unless said."""
    x = made(x)
    targets = tuple(made(each) if isinstance(each, np.ndarray) else each for each in targets)
    options = {"axis": -1, **options}
    return lambda: gm.quantile_map(x, *targets, **options)


def matching(made: Made, x: np.ndarray, reference: np.ndarray) -> Work:
    """Channel by channel."""
    x, reference = made(x), made(reference)
    return lambda: gm.match_quantiles(x, reference, axis=(0, 1))


def photograph(image: np.ndarray) -> np.ndarray:
    """Of few values."""
    return np.round(20.0 * image)


def layered(made: Made, data: Data) -> Work:
    """With a weight for each feature."""
    x, weight = made(data.rows), made(data.weight)
    return lambda: gm.layer_map(x, 1024, weight)


def on_channels(function: Callable[..., Any], made: Made, data: Data, *arguments: Any) -> Work:
    """A function of activations."""
    x = made(data.activations)
    return lambda: function(x, *arguments)


def normalizing(made: Made, X: np.ndarray) -> Work:
    """All columns alike."""
    X = made(X)
    return lambda: gm.normalize_quantiles(X, axis=0)


CASES: dict[str, Callable[[Made, Data], Work]] = {
    "quantile_map, rows": lambda made, data: mapping(made, data.rows),
    "columns": lambda made, data: mapping(made, data.table, axis=0),
    "of all": lambda made, data: mapping(made, data.table, axis=None),
    "some missing": lambda made, data: mapping(made, data.incomplete),
    "in columns": lambda made, data: mapping(made, data.incomplete_table, axis=0),
    "random ties": lambda made, data: mapping(made, data.rows, ties="random", rng=0),
    "noise": lambda made, data: mapping(made, data.rows, eps=0.1, rng=0),
    "to a sample": lambda made, data: mapping(made, data.rows, data.sample),
    "to a sample, some missing": lambda made, data: mapping(made, data.incomplete, data.sample),
    "to a SciPy distribution": lambda made, data: mapping(made, data.rows, stats.t(5)),
    "integers": lambda made, data: mapping(made, (100 * data.rows).astype(np.int32)),
    "match_quantiles": lambda made, data: matching(made, data.image, data.image[::-1] + 1),
    "some pixels missing": lambda made, data: matching(made, data.incomplete_image, data.image),
    "photographs": lambda made, data: matching(
        made, photograph(data.image), photograph(data.image[::-1] + 1)
    ),
    "normalize_quantiles": lambda made, data: normalizing(made, data.table),
    "of a table that misses some": lambda made, data: normalizing(made, data.incomplete_table),
    "group_map": lambda made, data: on_channels(gm.group_map, made, data, 4),
    "instance_map": lambda made, data: on_channels(gm.instance_map, made, data),
    "layer_map": layered,
    "EmpiricalCDF.cdf": lambda made, data: cdf_of(made, data, "cdf"),
    "EmpiricalCDF.ppf": lambda made, data: cdf_of(made, data, "ppf"),
    "cdf with linear tails": lambda made, data: cdf_of(made, data, "cdf", tails="linear"),
    "fit": lambda made, data: fitting(made, data.table),
    "fit of what misses some": lambda made, data: fitting(made, data.incomplete_table),
    "fit with weights": lambda made, data: fitting(made, data.table, np.abs(data.table[:, 0])),
    "fit, ten chunks": learning,
    "transform": lambda made, data: transforming(made, data.table),
    "inverse_transform": lambda made, data: transforming(made, data.table, back=True),
    "gaussian": lambda made, data: transforming(
        made, data.table, target_quantiles="gaussian"
    ),
    "gaussian, back": lambda made, data: transforming(
        made, data.table, back=True, target_quantiles="gaussian"
    ),
    "linear tails": lambda made, data: transforming(
        made, data.table, target_quantiles="gaussian", tails="linear"
    ),
    "a sample": lambda made, data: transforming(
        made, data.table, target_quantiles=made(data.sample)
    ),
    "a sample, back": lambda made, data: transforming(
        made, data.table, back=True, target_quantiles=made(data.sample)
    ),
}  # fmt: skip


def finished(work: Work) -> Work:
    """The work and all that it has begun: JAX comes back before."""
    return lambda: jax.block_until_ready(work())


def seconds_of(case: Callable[[Made, Data], Work], data: Data) -> dict[str, float]:
    """What each library takes."""
    sides = {name: finished(case(made, data)) for name, made in LIBRARIES.items()}
    return interleaved_medians(sides, seconds=0.6, least=3)


def shown(found: dict[str, dict[str, float]], about: dict[str, Any]) -> Table:
    """All of them, the others by how many times NumPy's."""
    first, *others = LIBRARIES
    table = Table(
        title=f"milliseconds, and how many times that the others take; {about['date']}, "
        f"{about['processor']}, {about['threads']} threads"
    )
    for name in ("case", first, *others):
        table.add_column(name, justify="left" if name == "case" else "right")
    for case, seconds in found.items():
        ratios = [seconds[each] / seconds[first] for each in others]
        marked = [f"[bold]{ratio:.2f}[/]" if ratio > SLOW else f"{ratio:.2f}" for ratio in ratios]
        table.add_row(case, f"{1e3 * seconds[first]:.2f}", *marked)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="WORD", help="the cases that hold a word")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of entries")
    parser.add_argument("--json", type=Path, help="write the seconds to this file, too")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    data, about, console = Data.drawn(arguments.scale), environment(), Console(width=100)
    cases = {
        name: case
        for name, case in CASES.items()
        if arguments.only is None or any(word in name for word in arguments.only)
    }
    found = {
        name: seconds_of(case, data)
        for name, case in track(cases.items(), "libraries", console=console)
    }
    console.print(shown(found, about))
    if arguments.json is not None:
        text = json.dumps({"environment": about, "seconds": found}, indent=1)
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
