"""What a run was made on: versions, cores, threads, vector extensions."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch

PACKAGES = ("groupmap", "numpy", "scipy", "torch", "numba", "scikit-learn", "scikit-image", "qnorm")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment() -> dict[str, object]:
    """Everything that a reader of the figures should know of the machine and the software."""
    found = {package: _version(package) for package in PACKAGES}
    return {
        "date": datetime.date.today().isoformat(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
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
    return f"{of['date']}; {of['cores']} cores, {of['threads']} threads, {best}; {packages}"
