"""The values of rows that have few different ones, counted, and what becomes of them looked up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from groupmap.backends._bits import Bits, Rows
from groupmap.backends.kernels.eight_bits import EightBits
from groupmap.backends.kernels.few_values import values_if_few


class CountedValues(Protocol):
    """Values of each row ``(..., n)`` in ascending order: all that occur, and some that may not."""

    numbers: Rows  # (..., k)
    less: Bits  # how many entries of its row are less than each of them
    less_equal: Bits  # and how many at most equal to it

    def look_up(self, values: Rows) -> Rows:
        """What of the values ``(..., k)`` belongs to each entry."""


@contextmanager
def counted_values(
    rows: Rows, *, threads: int, are_looked_up: bool = True
) -> Iterator[CountedValues | None]:
    """The values of the rows; None where they are many, or not finite.

    They can be looked up until the end; and only where that is wanted, which takes memory.
    """
    if rows.dtype.itemsize == 1:
        yield EightBits(rows, threads=threads)
        return
    with values_if_few(rows, threads=threads, with_places=are_looked_up) as found:
        yield found
