"""``python -m benchmarks.gpu``: layers on one NVIDIA GPU, beside what people have and a copy.

python -m benchmarks.gpu --only "rows of 1024" --json results.json
python -m benchmarks.gpu --check
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.gpu.cases import all_cases
from benchmarks.gpu.checks import run_checks
from benchmarks.gpu.contenders import Setting
from benchmarks.gpu.environment import first_calls, gpu_environment, summary
from benchmarks.gpu.failures import tidy
from benchmarks.gpu.results import Result, measure

NO_GPU = "benchmarks.gpu needs an NVIDIA GPU that torch can use, and there is none here."
SECONDS = 1.0  # on the device, for a case
LEAST_TURNS = 5
ALL_IN = 420.0  # seconds, unless others are asked for
CACHES = 4  # how many times the second-level cache all inputs are
WIDTH = 190
COLUMNS = ("textbook", "copy", "CuPy", "norm", "cuML")


def table_of(results: Iterable[Result], title: str) -> Table:
    """One row a case; what is in no column of its own is named in the last one."""
    table = Table(title=f"{title}\nothers in units of ours; G/s: 10⁹ elements a second of ours")
    table.add_column("case", no_wrap=True)
    for heading in ("ours, ms", "G/s", *COLUMNS, "extra memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("others")
    for each in results:
        cells, ours = _cells(each), each.ours
        others = [f"{name} {cell}" for name, cell in cells.items() if name not in COLUMNS]
        others += [f"{name} failed" for name in each.failures]
        table.add_row(
            each.case.name,
            "–" if ours is None else f"{1e3 * ours:.4f}",
            "–" if ours is None else f"{each.case.elements / ours / 1e9:.2f}",
            *(cells.get(column, "–") for column in COLUMNS),
            "–" if each.memory is None else f"{each.memory:.1%}",
            ", ".join(others),
        )
    return table


def _cells(of: Result) -> dict[str, str]:
    """The ratios, each with its goal."""
    goals = {goal.of: f" ({goal}: {'yes' if reached else 'no'})" for goal, _, reached in of.goals()}
    return {name: f"{ratio:.3g}{goals.get(name, '')}" for name, ratio in of.ratios.items()}


def notes_on(results: Sequence[Result], first: Mapping[str, object]) -> list[str]:
    """What is said below the table."""
    judged = [(each.case.name, *goal) for each in results for goal in each.goals()]
    missed = [each for each in judged if not each[-1]]
    notes = [f"goals reached: {len(judged) - len(missed)} of {len(judged)}"]
    notes += [f"missed: {name}: {of.of} {got:.3g}, goal {of}" for name, of, got, _ in missed]
    for when, found in first.items():
        seconds = (
            ", ".join(f"{name} {each:.2f} s" for name, each in found.items())
            if isinstance(found, Mapping)
            else f"failed: {found}"
        )
        notes.append(f"first call, {when}: {seconds}")
    for each in results:
        for name, reason in each.failures.items():
            notes.append(f"failed: {each.case.name}: {name}: {reason}")
    return notes


def run(options: argparse.Namespace) -> int:
    """The benchmark; 1 if something of ours failed."""
    end = time.perf_counter() + options.seconds
    chosen = [each for each in all_cases() if options.only in each.name]
    share = 2 if options.quick else 1
    first = first_calls()  # in processes of their own, before this one is on the device
    about = gpu_environment()
    written: dict[str, object] = {"environment": about, "first call, in seconds": first}
    cache = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    setting = Setting(cache_bytes=CACHES * cache)
    torch.manual_seed(0)
    results: list[Result] = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(chosen))
        for done, case in enumerate(chosen):
            progress.update(task, description=case.name)
            left = max(end - time.perf_counter(), 0.0) / (len(chosen) - done)
            seconds = min(SECONDS / share, left)
            results.append(measure(case, setting, seconds=seconds, least=-(-LEAST_TURNS // share)))
            tidy()
            if options.json:  # after each case, should the run be ended from outside
                written["results"] = [each.as_json() for each in results]
                options.json.write_text(json.dumps(written, indent=1, ensure_ascii=False))
            progress.advance(task)
    console = Console(width=WIDTH)
    console.print(table_of(results, summary(about)))
    for note in notes_on(results, first):
        console.print(note, markup=False, highlight=False)
    return int(any(each.has_failed for each in results))


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0, 1 where something failed, 2 without a GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0].partition(": ")[2]
    )
    parser.add_argument("--only", default="", help="cases, or checks, whose names contain this")
    parser.add_argument("--quick", action="store_true", help="half the repetitions")
    parser.add_argument(
        "--seconds", type=float, default=ALL_IN,
        help="after which no case gets more than its least turns (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the medians, the ratios and the machine")
    parser.add_argument(
        "--check", action="store_true", help="what is promised besides speed, in place of times"
    )
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available() or torch.version.cuda is None:
        print(NO_GPU, file=sys.stderr)
        return 2
    if options.check:
        return run_checks(options.only)
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
