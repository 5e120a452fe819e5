"""What is asked of the kernels that rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.scaling import Scaling
from groupmap.backends.kernels.values import Tie

# What is done with the values from one entry of a row up to another, as soon as they are there.
Finish = Callable[[int, int], None]


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

    def finish(self, values: np.ndarray[Any, Any], begin: int, end: int, *, start: int = 0) -> None:
        """Scale the values of these rows, which are those of the entries from `start` on, and write
        them where they go, if they are elsewhere."""
        result = self.result[begin:end, start : start + values.shape[1]]
        if self.scaling is not None:
            self.scaling(values, self.first_row + begin, result, start=start)
        elif not np.shares_memory(values, result):
            result[...] = values

    def since(self, r: int) -> Task:
        """The same for the rows from that one on."""
        return self._replace(
            rows=self.rows[r:],
            result=self.result[r:],
            order=None if self.order is None else self.order[r:],
            first_row=self.first_row + r,
        )
