"""``python -m benchmarks.gpu --check``: what is promised besides speed, a line for each."""

from __future__ import annotations

import itertools
import shlex
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import torch

from benchmarks.gpu.compiled_checks import COMPILED_DTYPES, check_compiled
from benchmarks.gpu.failures import BrokenPromiseError, in_a_line, tidy
from benchmarks.gpu.layer_checks import (
    CHECKED_DTYPES,
    CHECKED_GRADIENTS,
    check_graphs,
    check_memory,
    check_repetition,
    check_synchronisation,
)
from benchmarks.gpu.rank_checks import RANK_DTYPES, check_ranks
from groupmap.backends import cuda as kernels

SANITIZER = "compute-sanitizer"
SANITIZER_TOOLS = ("memcheck", "racecheck")
SANITIZED = "the same bits in every run, transport"


def check_kernels() -> str:
    """There are kernels at all: else everything else says nothing of them."""
    if not kernels.INSTALLED:
        raise BrokenPromiseError("cuda.core is not installed; pip install 'groupmap[cuda]'")
    return "installed"


def all_checks() -> Iterator[tuple[str, Callable[[], str]]]:
    """What is promised, by name. Graphs come last: a failed capture may spoil what follows."""
    yield "kernels", check_kernels
    for library in ("torch", "cupy"):
        if find_spec(library):
            for name in RANK_DTYPES:
                if library != "cupy" or name != "bfloat16":
                    yield (
                        f"ranks as NumPy's, {library}, {name}",
                        partial(check_ranks, library, name),
                    )
    for dtype in CHECKED_DTYPES:
        yield f"extra memory, {dtype}", partial(check_memory, dtype)
    for dtype in COMPILED_DTYPES:
        yield f"compiled as eager, {dtype}", partial(check_compiled, dtype)
    for what, check in (
        ("the same bits in every run", check_repetition),
        ("no host synchronisation", check_synchronisation),
        ("CUDA graphs", check_graphs),
    ):
        for gradient, dtype in itertools.product(CHECKED_GRADIENTS, CHECKED_DTYPES):
            yield f"{what}, {gradient}, {dtype}", partial(check, gradient, dtype)


def by_hand() -> Iterator[tuple[str, str]]:
    """What is not run here, by name, with the command line: it takes long.

    Each tensor gets memory of its own, so that what reaches beyond it is seen.
    """
    if shutil.which(SANITIZER):
        checks = ["python", "-m", "benchmarks.gpu", "--check", "--only", SANITIZED]
        for tool in SANITIZER_TOOLS:
            command = shlex.join([SANITIZER, "--tool", tool, "--error-exitcode", "1", *checks])
            yield f"{SANITIZER}, {tool}", f"PYTORCH_NO_CUDA_MEMORY_CACHING=1 {command}"


def run_checks(only: str) -> int:
    """A line for each; 1 if one failed."""
    failed = 0
    torch.manual_seed(0)
    for name, check in all_checks():
        if only not in name:
            continue
        try:
            said = f"PASS  {name}: {check()}"
        except BrokenPromiseError as error:
            said = f"FAIL  {name}: {error}"
        except Exception as error:
            said = f"FAIL  {name}: {in_a_line(error)}"
        failed += said.startswith("FAIL")
        print(said, flush=True)
        tidy()
    for name, command in by_hand():
        if only in name:
            print(f"TO RUN BY HAND  {name}: {command}")
    return int(failed > 0)
