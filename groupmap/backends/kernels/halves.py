"""Rows of 16 bits, which are ranked without an index where nobody asks for the order.

Levels of long rows are counted (see `lanes`). Short rows are sorted side by side (see
`short_rows`). Of others the keys are sorted as they are; the value is noted for each key, and
looked up.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from groupmap.backends._bits import Bits, as_bits
from groupmap.backends.kernels.lanes import LONGEST, SHORTEST, Lanes, count_in_lanes
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.scaling import Goal
from groupmap.backends.kernels.short_rows import (
    FEWEST_ROWS,
    SideBySide,
    may_lie_side_by_side,
    rank_side_by_side,
)
from groupmap.backends.kernels.side_by_side import Sorter
from groupmap.backends.kernels.task import Task
from groupmap.backends.kernels.values import keys_of, look_up
from groupmap.backends.kernels.ways import ByLevelFirst


class ByValue(ByLevelFirst):
    """Counted in lanes, sorted side by side, or looked up by their keys."""

    def __init__(self, task: Task, block: int, memory: Memory) -> None:
        super().__init__(task, block, memory)
        self.block, self.n = block, task.rows.shape[1]
        self.memory, self.all_rows = memory, np.arange(block)
        self.may_be_counted_in_lanes = SHORTEST <= self.n <= LONGEST

    @cached_property
    def lanes(self) -> Lanes:
        """Memory to count."""
        return Lanes.for_rows(self.n, self.memory)

    @cached_property
    def side_by_side(self) -> SideBySide:
        """Memory for rows on their side."""
        return SideBySide.for_rows(self.n, self.memory)

    @cached_property
    def keys(self) -> Bits:
        """Memory to sort."""
        return self.memory.empty((self.block, self.n), np.uint16)

    @cached_property
    def sort(self) -> Sorter:
        """What sorts them."""
        return Sorter(self.n, np.uint16, self.memory)

    @cached_property
    def value_of_key(self) -> Bits:
        """Memory to note values."""
        return self.memory.empty(2**16, f"u{self.task.dtype.itemsize}")

    def rank(self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None) -> None:
        """In the way that serves them."""
        if self.n <= LONGEST:
            self._rank(as_bits(rows), out, None)
        else:
            super().rank(rows, out, order)

    def rank_by_sort(self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None) -> None:
        """By their keys."""
        del order  # which this way does not find
        self._look_up(as_bits(rows), self.all_rows[: len(rows)], out, None)

    @classmethod
    def goes_by_line(cls, task: Task) -> bool:
        """Rows that may be counted in lanes, and shorter ones."""
        return task.result.flags.c_contiguous and task.rows.shape[1] <= LONGEST

    def rank_by_line(self, rows: np.ndarray[Any, Any], goal: Goal) -> None:
        """In the way that serves them."""
        self._rank(as_bits(rows), goal.line.by_rows, goal)

    def _rank(self, bits: Bits, out: Bits, goal: Goal | None) -> None:
        task, left = self.task, self.all_rows[: len(bits)]
        if task.table is not None and self.may_be_counted_in_lanes:
            left = left.copy()
            n_left, magnitude = count_in_lanes(
                bits, task.code, task.table, task.tie, self.lanes, out, goal, left
            )
            task.check(magnitude)
            left = left[:n_left]
            # Where none fits, the next ones do not, most likely.
            self.may_be_counted_in_lanes = n_left < len(bits)
        may_be_turned = may_lie_side_by_side(self.n) and len(left) >= FEWEST_ROWS
        if task.table is not None and may_be_turned:
            magnitude = rank_side_by_side(
                bits, left, task.code, task.table, task.tie, self.side_by_side, out, goal
            )
            task.check(magnitude)
        elif len(left) > 0:
            self._look_up(bits, left, out, goal)

    def _look_up(self, bits: Bits, which: Bits, out: Bits, goal: Goal | None) -> None:
        """Sort the keys, note each one's value, and look it up."""
        task, keys = self.task, self.keys[: len(which)]
        keys_of(bits, which, task.code, keys)
        self.sort(keys)
        asked = (task.code, task.table, task.tie, out, goal)
        task.check(look_up(keys, self.value_of_key, bits, which, *asked))
