"""What is asked of the kernels that rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.columns import copy_rows
from groupmap.backends.kernels.scaling import InPlace, Scaling
from groupmap.backends.kernels.values import Tie


class NotFiniteError(Exception):
    """An entry is greater than the limit that the task sets."""


class Task(NamedTuple):
    """Some rows ``(r, n)``, what is asked of them, and where it goes; both of any strides."""

    rows: np.ndarray[Any, Any]
    code: Code
    table: Bits | None
    tie: Tie
    dtype: np.dtype[Any]  # of the values before they are scaled
    result: np.ndarray[Any, Any]
    order: Bits | None = None
    scaling: Scaling | None = None
    limit: Unsigned | None = None  # of the entries' magnitudes, as bit patterns
    first_row: int = 0  # the number that the scaling knows the first of the rows by

    @property
    def may_be_divided(self) -> bool:
        """Whether entries of one value become one value, so that they may be set aside."""
        return self.table is not None and not self.tie[0]

    @property
    def is_direct(self) -> bool:
        """Whether values can be written where they go, and scaled there."""
        return self.result.dtype == self.dtype and self.result.flags.c_contiguous

    @property
    def needs_finish(self) -> bool:
        """Whether there is something to do when values are written."""
        return self.scaling is not None or not self.is_direct

    def check(self, magnitude: Unsigned) -> None:
        """Give all of it up if an entry of that magnitude is not to be there."""
        if self.limit is not None and magnitude > self.limit:
            raise NotFiniteError

    def since(self, r: int) -> Task:
        """The same for the rows from that one on."""
        return self._replace(
            rows=self.rows[r:],
            result=self.result[r:],
            order=None if self.order is None else self.order[r:],
            first_row=self.first_row + r,
        )


@dataclass(frozen=True)
class Finish:
    """What is done with values of the rows of a task from that one on, as soon as they are there:
    they are scaled, and written where they go, if they are elsewhere."""

    task: Task
    values: np.ndarray[Any, Any]
    first_row: int

    def __call__(self, begin: int, end: int) -> None:
        """Of the entries from one up to another."""
        task, values = self.task, self.values[:, begin:end]
        rows = slice(self.first_row, self.first_row + len(values))
        result = task.result[rows, begin:end]
        if task.scaling is not None:
            task.scaling(values, task.first_row + self.first_row, result, start=begin)
        elif not np.shares_memory(values, result):
            copy_rows(values, result)

    def since(self, r: int) -> Finish:
        """The same for the rows from that one on."""
        return Finish(self.task, self.values[r:], self.first_row + r)

    @property
    def in_place(self) -> InPlace | None:
        """All that there is to do, if kernels can do it where they write values; else None."""
        task = self.task
        if task.scaling is None or not np.shares_memory(self.values, task.result):
            return None
        return task.scaling.in_place(self.values, task.first_row + self.first_row)
