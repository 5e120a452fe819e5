"""What a run on a GPU was made on, and what the first calls of a process take there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress

import torch

from benchmarks.environment import environment
from groupmap.backends import cuda as kernels

FIRST_CALL = """
import time, torch, groupmap as gm
layer = gm.LayerMap(1024, device="cuda")
x = torch.randn(4096, 1024, device="cuda", requires_grad=True)
torch.nn.functional.layer_norm(x, (1024,)).backward(x.detach())  # torch's own first call
torch.cuda.synchronize()
for gradients in (False, True):
    start = time.perf_counter()
    with torch.set_grad_enabled(gradients):
        y = layer(x)
    if gradients:
        y.backward(x.detach())
    torch.cuda.synchronize()
    print(time.perf_counter() - start)
"""


def first_calls() -> dict[str, dict[str, float] | str]:
    """What the first calls of a process take: with nothing compiled yet, and with all on disk."""
    found: dict[str, dict[str, float] | str] = {}
    with tempfile.TemporaryDirectory() as empty:
        # Where cuda.core keeps programs, on Linux and on Windows.
        kept_there = os.environ | {"XDG_CACHE_HOME": empty, "LOCALAPPDATA": empty}
        for when in ("compiled from nothing", "from the disk cache"):
            run = subprocess.run(
                [sys.executable, "-c", FIRST_CALL],
                env=kept_there, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if run.returncode:
                found[when] = (run.stderr.strip().splitlines() or ["no output"])[-1]
                continue
            forward, both = map(float, run.stdout.split())
            found[when] = {"forward": forward, "then both ways": both}
    return found


def gpu_environment() -> dict[str, object]:
    """What `environment` says, and the GPU with everything that drives it."""
    found = environment() | {
        "gpu": torch.cuda.get_device_name(),
        "driver": _driver_version(),
        "CUDA of torch": torch.version.cuda,
        "kernels": kernels.INSTALLED,
    }
    with suppress(Exception):
        import cupy

        found["cupy"] = cupy.__version__
    with suppress(Exception):
        from cuda import core

        found["cuda.core"] = core.__version__
    with suppress(Exception):
        from cuda.bindings import nvrtc

        found["NVRTC"] = ".".join(map(str, nvrtc.nvrtcVersion()[1:]))
    with suppress(Exception):
        import cuml

        found["cuml"] = cuml.__version__
    return found


def _driver_version() -> str:
    with suppress(OSError, subprocess.CalledProcessError, IndexError):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.check_output(query, text=True).split()[0]
    with suppress(Exception):
        from cuda.core import system

        return ".".join(map(str, system.get_kernel_mode_driver_version()))
    return "unknown"


def summary(of: Mapping[str, object]) -> str:
    """The same in one line."""
    packages = of["packages"]
    assert isinstance(packages, dict)
    parts = [f"{of['date']}; {of['gpu']}, driver {of['driver']}; torch {packages['torch']}"]
    parts += [f"{each} {of.get(each, '–')}" for each in ("cupy", "cuda.core", "NVRTC", "cuml")]
    if not of["kernels"]:
        parts.append("without the kernels: cuda.core is not installed")
    return ", ".join(parts)
