"""What a run was made on: versions, processor, cores, threads, vector extensions."""

from __future__ import annotations

import datetime
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch
from llvmlite.binding import get_host_cpu_name

from benchmarks.timing import interleaved_medians

SORTS = 16
PACKAGES = ("groupmap", "numpy", "scipy", "torch", "numba", "scikit-learn", "scikit-image", "qnorm")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def work_of(threads: int) -> float:
    """How many times the work of one thread so many do: less, where they share a core or a cache.

    Each sorts rows of its own, by vectors and near the core, for so long that to be woken up does
    not count.
    """
    rng = np.random.default_rng(0)
    own_rows = [rng.normal(size=(512, 768)).astype(np.float32) for _ in range(threads)]

    def sort(rows: np.ndarray) -> None:
        for _ in range(SORTS):
            np.sort(rows)

    with ThreadPoolExecutor(threads) as pool:
        medians = interleaved_medians(
            {"one": lambda: sort(own_rows[0]), "all": lambda: list(pool.map(sort, own_rows))},
            seconds=1.0,
        )
    return threads * medians["one"] / medians["all"]


def environment() -> dict[str, object]:
    """Everything that a reader of the figures should know of the machine and the software."""
    found = {package: _version(package) for package in PACKAGES}
    return {
        "date": datetime.date.today().isoformat(),
        "processor": get_host_cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "work of all threads": round(work_of(torch.get_num_threads()), 2),
        "machine": platform.machine(),
        "vector extensions": np.show_config(mode="dicts")["SIMD Extensions"]["found"],
        "python": platform.python_version(),
        "packages": {package: each for package, each in found.items() if each},
    }


def summary(of: dict[str, object]) -> str:
    """The same in one line."""
    packages = ", ".join(f"{name} {number}" for name, number in of["packages"].items())
    extensions = of["vector extensions"]
    best = extensions[-1] if extensions else "baseline"
    threads = f"{of['threads']} threads, which do {of['work of all threads']} times the work of one"
    return f"{of['date']}; {of['processor']}, {of['cores']} cores, {threads}; {best}; {packages}"
