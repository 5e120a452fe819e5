"""How many times ours others should take: the goals of large batches, small inputs and ties."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Goal(NamedTuple):
    """How many times ours another takes: at least, or for what is ours too, at most."""

    of: str
    bound: float
    at_most: bool = False

    def is_reached(self, ratio: float) -> bool:
        """Whether a measured ratio is as it should be."""
        return ratio <= self.bound if self.at_most else ratio >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}"


# (bits of a value, least n, greatest n, the textbook ÷ ours, a copy ÷ ours)
ROW_GOALS = (
    (32, 256, 256, 12.0, 0.15),
    (32, 257, 4096, 6.0, 0.15),
    (32, 16_384, 25_600, 8.0, 0.11),
    (32, 1_000_000, 1_000_000, 2.8, 0.08),
    (16, 1, 4096, 5.0, 0.10),
    (16, 16_384, 65_535, 12.0, 0.19),
)

CUPY_GOAL = Goal("CuPy", 20.0)
HOST_GOAL = Goal("textbook", 4.0)
TIES_GOAL, ADVERSARIAL_GOAL = 1.5, 4.0


def goals_of_rows(dtype: torch.dtype, n: int) -> tuple[Goal, ...]:
    """The goals for large batches of rows of n values."""
    bits = 8 * dtype.itemsize
    found = [
        goal
        for of_bits, least, greatest, textbook, copy in ROW_GOALS
        if bits == of_bits and least <= n <= greatest
        for goal in (Goal("textbook", textbook), Goal("copy", copy))
    ]
    return (*found, CUPY_GOAL)
