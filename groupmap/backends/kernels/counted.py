"""Rows of few different values, by these alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from groupmap.backends._bits import Bits
from groupmap.backends.kernels.eight_bits import EightBits
from groupmap.backends.kernels.few_values import few_values

Rows = np.ndarray[Any, Any]


class Counted(Protocol):
    """Some values of each row ``(..., n)``, all that occur among them, in ascending order."""

    numbers: Rows  # (..., k)
    less: Bits  # how many entries of its row are less than each of them
    less_equal: Bits  # and how many at most equal to it

    def look_up(self, values: Rows) -> Rows:
        """What of the values ``(..., k)`` belongs to each entry; as the rows lie in memory."""


@contextmanager
def counted(rows: Rows, *, threads: int, is_looked_up: bool = True) -> Iterator[Counted | None]:
    """The values of the rows; None where they are many, or not finite.

    Only if that is said beforehand they can be looked up, until the end.
    """
    if rows.dtype.itemsize == 1:
        yield EightBits(rows, threads=threads)
        return
    with few_values(rows, threads=threads, with_places=is_looked_up) as found:
        yield found
