"""What `benchmarks.gpu` measures: kinds of layers, lengths, dtypes and inputs, and their goals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.gpu.contenders import TIES, Contender, Setting, backward, forward, tied
from benchmarks.gpu.goals import ADVERSARIAL_GOAL, HOST_GOAL, TIES_GOAL, Goal, goals_of_rows

TOTAL = 2**26  # elements, of which rows are made
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# (name, shape, groups); None: the last axis
LAYERS: tuple[tuple[str, tuple[int, ...], int | None], ...] = (
    ("GroupMap", (64, 256, 56, 56), 32),
    ("GroupMap", (256, 512, 14, 14), 32),
    ("GroupMap", (32, 64, 56, 56), 8),
    ("LayerMap", (64, 2048, 1024), None),
    ("LayerMap", (64, 1_000_000), None),
)
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)
TIED_LENGTHS = (1024, 4096, 16_384)
BACKWARD_LENGTHS = (256, 1024, 4096, 16_384, 25_088)
HOST_BOUND: tuple[tuple[str, tuple[int, ...], int | None], ...] = (
    ("GroupMap", (16, 96, 14, 14), 8),
    ("GroupMap", (6, 64, 28, 28), 32),
    ("LayerMap", (4, 197, 384), None),
)


@dataclass(frozen=True)
class Case:
    """Contenders for one kind of input, made when its turn has come."""

    name: str
    elements: int
    contenders: Callable[[Setting], dict[str, Contender]]
    goals: tuple[Goal, ...] = ()
    is_host_bound: bool = False
    has_memory: bool = False


def layers() -> Iterator[Case]:
    """Layers of real networks, and 64 rows of a million."""
    for name, shape, groups in LAYERS:
        n = shape[-1] if groups is None else math.prod(shape[1:]) // groups
        for dtype in DTYPES:
            of_groups = f", {groups} groups" if groups else ""
            yield Case(
                f"{name} {shape}{of_groups}, {_name(dtype)}",
                math.prod(shape),
                partial(forward, shape=shape, groups=groups, dtype=dtype),
                goals_of_rows(dtype, n),
                has_memory=True,
            )


def rows() -> Iterator[Case]:
    """Rows of all lengths, of one total."""
    for n in LENGTHS:
        for dtype in DTYPES:
            yield Case(
                f"rows of {n}, {_name(dtype)}",
                TOTAL,
                partial(forward, shape=(TOTAL // n, n), groups=None, dtype=dtype),
                goals_of_rows(dtype, n),
                has_memory=True,
            )


def ties() -> Iterator[Case]:
    """Ours on inputs with ties, and on the worst for buckets, beside ours on Gaussian ones."""
    for n in TIED_LENGTHS:
        for dtype in (torch.float32, torch.bfloat16):
            kinds = [each for each in TIES if each != "adversarial" or dtype == torch.float32]
            goals = [Goal(each, TIES_GOAL, at_most=True) for each in kinds[1:4]]
            if "adversarial" in kinds:
                goals.append(Goal("adversarial", ADVERSARIAL_GOAL, at_most=True))
            yield Case(
                f"ties, rows of {n}, {_name(dtype)}",
                TOTAL,
                partial(tied, shape=(TOTAL // n, n), dtype=dtype, kinds=kinds),
                tuple(goals),
            )


def backwards() -> Iterator[Case]:
    """The backward pass alone, beside the forward pass and beside all of LayerNorm."""
    for mode in ("transport", "affine"):
        for n in BACKWARD_LENGTHS:
            for dtype in (torch.float32, torch.bfloat16):
                yield Case(
                    f"backward, {mode}, rows of {n}, {_name(dtype)}",
                    TOTAL,
                    partial(backward, shape=(TOTAL // n, n), dtype=dtype, mode=mode),
                )


def host_bound() -> Iterator[Case]:
    """Small inputs, one call after the other, in wall time: what the launches cost."""
    for name, shape, groups in HOST_BOUND:
        yield Case(
            f"wall time, {name} {shape}, float32",
            math.prod(shape),
            partial(forward, shape=shape, groups=groups, dtype=torch.float32, with_gpu_peers=False),
            (HOST_GOAL,),
            is_host_bound=True,
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def all_cases() -> list[Case]:
    """All of them, in the order of the table."""
    return [case for kind in (layers, rows, ties, backwards, host_bound) for case in kind()]
