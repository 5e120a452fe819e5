"""The transport gradient of a large sample, against the derivative of its population.

For a velocity v that is independent of x, dy/dt = T′(x)·(v − E v). The table says how the estimate
regresses on it, and how far it is off, on the central 90 % of the data.

python examples/population.py --n 4096
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats

import groupmap as gm

SINGLE = {
    "normal": stats.Normal(),
    "lognormal": stats.make_distribution(stats.lognorm)(s=1.0),
    "Student t, 3 degrees": stats.make_distribution(stats.t)(df=3.0),
}
MIXTURES = {
    f"modes at ±2, sd {sd:g}": stats.Mixture([stats.Normal(mu=mu, sigma=sd) for mu in (-2.0, 2.0)])
    for sd in (1.0, 0.5, 0.3, 0.2, 0.1, 0.05)
}
DISTRIBUTIONS = SINGLE | MIXTURES
FLOORS = (1.0, 0.3, 0.0)


def slope_and_error(name: str, n: int, floor: float, seed: int) -> tuple[float, float]:
    """Of the regression of the estimate on the exact derivative, and the relative L2 error."""
    rng = np.random.default_rng(seed)
    distribution = DISTRIBUTIONS[name]
    x, v = distribution.sample(n, rng=rng), rng.normal(size=n)
    p = distribution.cdf(x)
    normal = stats.Normal()
    exact = distribution.pdf(x) / normal.pdf(normal.icdf(p)) * v
    leaf = torch.as_tensor(x).requires_grad_()
    gm.quantile_map(leaf, gradient_floor=floor).backward(torch.as_tensor(v))  # J is symmetric
    found = leaf.grad.numpy()
    central = (p > 0.05) & (p < 0.95)
    found, exact = found[central], exact[central]
    return found @ exact / (exact @ exact), np.linalg.norm(found - exact) / np.linalg.norm(exact)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()

    table = Table(title=f"n = {options.n}, slope (relative error), mean of {options.seeds} seeds")
    table.add_column("x")
    for floor in FLOORS:
        table.add_column(f"gradient_floor={floor:g}", justify="right")
    for name in track(DISTRIBUTIONS, "sampling"):
        cells = []
        for floor in FLOORS:
            found = [slope_and_error(name, options.n, floor, s) for s in range(options.seeds)]
            slope, error = np.mean(found, axis=0)
            cells.append(f"{slope:.2f} ({error:.2f})")
        table.add_row(name, *cells)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
