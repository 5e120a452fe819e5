"""Features that follow a distribution, before a linear model and before one of neighbours.

Three tables that come with scikit-learn; for each and each model, accuracy (or R²) in nested
cross-validation of features as they are, standardised, by QuantileTransformer, and by
GroupMapTransformer with target and groups chosen by GridSearchCV on the training folds alone.

With --warp, each feature is first put on another scale, exp(2z) of its standardised z, as if it had
been measured in units that nobody chose well. A rank knows nothing of scales.

python examples/tables.py
python examples/tables.py --warp
python examples/tables.py --picture tables.png
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, QuantileTransformer, StandardScaler

import groupmap as gm

N_QUANTILES = 100
TARGETS = ["gaussian", "uniform", "logistic"]


@dataclass(frozen=True)
class Data:
    """A table, what to predict, and how its features may share a cdf."""

    load: Callable[..., object]
    is_classified: bool
    groupings: tuple[object, ...]

    def models(self) -> dict[str, BaseEstimator]:
        if self.is_classified:
            return {
                "linear": LogisticRegression(solver="newton-cholesky"),
                "neighbours": KNeighborsClassifier(),
            }
        return {"linear": Ridge(), "neighbours": KNeighborsRegressor(10)}

    def folds(self, seed: int) -> KFold | StratifiedKFold:
        return (StratifiedKFold if self.is_classified else KFold)(
            5, shuffle=True, random_state=seed
        )


DATA = {
    "diabetes": Data(load_diabetes, False, (None, [*"abcdeeeeee"])),  # six blood measurements
    "wine": Data(load_wine, True, (None,)),
    # Ten measurements, each with its mean, its standard error and its worst value.
    "breast cancer": Data(load_breast_cancer, True, (None, [*range(10)] * 3, 3)),
}


def transformers() -> dict[str, BaseEstimator]:
    return {
        "as they are": FunctionTransformer(),
        "StandardScaler": StandardScaler(),
        "QuantileTransformer": QuantileTransformer(
            n_quantiles=N_QUANTILES, output_distribution="normal"
        ),
        "GroupMapTransformer": gm.GroupMapTransformer(n_quantiles=N_QUANTILES),
    }


def scores(
    data: Data, transformer: BaseEstimator, model: BaseEstimator, *, warped: bool, seed: int
) -> np.ndarray:
    """The scores of five folds."""
    X, y = data.load(return_X_y=True)
    if warped:
        X = np.exp(2.0 * (X - X.mean(axis=0)) / X.std(axis=0))
    pipeline = make_pipeline(transformer, model)
    if isinstance(transformer, gm.GroupMapTransformer):
        grid = {
            "groupmaptransformer__target_quantiles": TARGETS,
            "groupmaptransformer__groups": list(data.groupings),
            "groupmaptransformer__tails": ["clip", "linear"],
        }
        pipeline = GridSearchCV(pipeline, grid, cv=data.folds(seed + 1), error_score="raise")
    return cross_val_score(pipeline, X, y, cv=data.folds(seed), error_score="raise")


def draw(path: Path) -> None:
    """Three skewed features of breast cancer, before and after."""
    table = load_breast_cancer()
    names = ("mean area", "area error", "worst concavity")
    columns = [list(table.feature_names).index(name) for name in names]
    X = table.data[:, columns]
    mapped = gm.GroupMapTransformer(n_quantiles=N_QUANTILES).fit_transform(X)
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots(2, 4)
    for row, (values, label) in enumerate(((X, "before"), (mapped, "after"))):
        for ax, name, column in zip(axes[row, :3], names, values.T, strict=True):
            for kind, colour in ((0, "tab:red"), (1, "tab:blue")):
                ax.hist(
                    column[table.target == kind], bins=np.histogram_bin_edges(column, 30),
                    color=colour, alpha=0.6, label=table.target_names[kind],
                )  # fmt: skip
            ax.set_title(f"{name}, {label}", fontsize=10)
            ax.set_yticks([])
        ax = axes[row, 3]
        ax.scatter(values[:, 0], values[:, 1], c=table.target, cmap="coolwarm_r", s=6)
        ax.set_xlabel(names[0], fontsize=9)
        ax.set_ylabel(names[1], fontsize=9)
        ax.set_title(label, fontsize=10)
    axes[0, 0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--warp", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    if options.picture is not None:
        draw(options.picture)
        return
    # A fold may have fewer rows than a QuantileTransformer has quantiles, and says so each time.
    warnings.filterwarnings("ignore", message="n_quantiles")
    kinds = transformers()
    table = Table(title="accuracy, or R² (diabetes), mean of five folds ± standard error")
    for name in ("data", "model", *kinds):
        table.add_column(name, justify="left" if name in {"data", "model"} else "right")
    rows = [(name, model) for name in options.data for model in DATA[name].models()]
    for name, model in track(rows, "cross-validating"):
        found = [
            scores(
                DATA[name],
                transformer,
                DATA[name].models()[model],
                warped=options.warp,
                seed=options.seed,
            )
            for transformer in kinds.values()
        ]
        cells = [f"{each.mean():.3f} ± {each.std(ddof=1) / len(each) ** 0.5:.3f}" for each in found]
        table.add_row(name, model, *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
