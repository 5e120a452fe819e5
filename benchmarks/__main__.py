"""``python -m benchmarks``: everything in one table, ours beside what people have.

All sides of a case take turns; the ratios are what to read.

python -m benchmarks --only forward backward --json results.json
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.cases import KINDS
from benchmarks.environment import environment, summary
from benchmarks.timing import interleaved_medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case")
    parser.add_argument("--json", type=Path, help="write the medians, in seconds, and the machine")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the peers
    about = environment()
    found = []
    with Progress() as progress:
        for kind in options.only:
            task = progress.add_task(kind, total=None)
            for name, sides in KINDS[kind]():
                progress.update(task, description=name)
                with torch.set_grad_enabled(kind == "backward"):
                    medians = interleaved_medians(sides, seconds=options.seconds)
                found.append({"case": name, "medians": medians})
            progress.update(task, description=kind, total=1, completed=1)

    table = Table(title=f"milliseconds; how many times ours others take\n{summary(about)}")
    table.add_column("case")
    table.add_column("ours", justify="right")
    table.add_column("others")
    for each in found:
        (_, ours), *others = each["medians"].items()
        table.add_row(
            each["case"], f"{1e3 * ours:.2f}",
            ", ".join(f"{name} {seconds / ours:.2f}×" for name, seconds in others),
        )  # fmt: skip
    Console(width=150).print(table)
    if options.json:
        options.json.write_text(json.dumps({"environment": about, "results": found}, indent=1))


if __name__ == "__main__":
    main()
