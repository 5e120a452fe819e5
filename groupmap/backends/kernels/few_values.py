"""Long rows of few different floats, such as photographs have: counted, not sorted, and looked up.

Rows are handed out by columns: the channels of an image lie side by side, and what is fetched for
one of them serves the next, too. How they are counted, `places` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from groupmap.backends._bits import Bits, Rows, as_bits
from groupmap.backends.kernels.eight_bits import take
from groupmap.backends.kernels.memory import Lend, Memory, lent
from groupmap.backends.kernels.places import (
    AT_ONCE,
    PART,
    Lines,
    Tally,
    added_up,
    count_columns,
    lines_of,
    may_be_few,
)
from groupmap.backends.kernels.threads import over_rows

SHORTEST = 2**16  # of shorter rows the few calls of NumPy's take as long as a sort
MOST_ROWS = 16  # that are counted side by side, so that their counts stay in the cache
ENTRIES_PER_BLOCK = 2**18


class Block(NamedTuple):
    """The places of the entries of some columns."""

    begin: int
    end: int
    places: Bits  # (row, column)


class FewValues:
    """The different values of each of some rows ``(..., n)`` in ascending order, and how often each
    occurs.

    Rows that have fewer than others are filled up with the greatest, which occurs no more.
    """

    def __init__(
        self, rows: Rows, at_place: Rows, counts: Bits, blocks: list[Block], threads: int
    ) -> None:
        """Of what stands at each place ``(r, place)``, and how often."""
        self.rows, self.blocks, self.threads = rows, blocks, threads
        is_there = counts > 0
        # Which of the values stands at a place; at those of none, any.
        self.index = np.maximum(np.cumsum(is_there, axis=1) - 1, 0)
        row, place = np.nonzero(is_there)
        index = self.index[row, place]
        shape = len(counts), int(index.max()) + 1
        numbers = np.full(shape, -np.inf, dtype=rows.dtype)
        of_value = np.zeros(shape, dtype=np.int64)
        numbers[row, index], of_value[row, index] = at_place[row, place], counts[row, place]
        less_equal = np.cumsum(of_value, axis=1)
        self.numbers, self.less, self.less_equal = (
            each.reshape(*rows.shape[:-1], shape[1])
            for each in (np.maximum.accumulate(numbers, 1), less_equal - of_value, less_equal)
        )

    def look_up(self, values: Rows) -> Rows:
        """What of the values ``(..., k)`` belongs to each entry, each row lying together."""
        blocks, result = self.blocks, np.empty(self.rows.shape, dtype=values.dtype)
        out = as_bits(result.reshape(-1, self.rows.shape[-1]))
        values = as_bits(values.reshape(-1, values.shape[-1]))
        at_place = np.take_along_axis(values, self.index, axis=1)

        # Row by row: in the result they lie apart.
        jobs = [(block, r) for block in blocks for r in range(len(out))]

        def work(_: None, begin: int, end: int) -> None:
            for block, r in jobs[begin:end]:
                row, columns = slice(r, r + 1), slice(block.begin, block.end)
                take(block.places[row], np.uint16(0), at_place[row], out[row, columns])

        over_rows(
            work, lambda _: None, len(jobs), -(-result.size // len(jobs)),
            entries_per_block=ENTRIES_PER_BLOCK, threads=self.threads,
        )  # fmt: skip
        return result


@contextmanager
def values_if_few(rows: Rows, *, threads: int, with_places: bool) -> Iterator[FewValues | None]:
    """The values of rows ``(..., n)`` of any strides; None where they are many, or not finite, or
    have no places of their own.

    Where the places of the entries are kept, the values can be looked up, until the end.
    """
    if not (can_be_counted(rows) and may_be_few(rows[(0,) * (rows.ndim - 1)])):
        yield None
        return
    flat = rows.reshape(-1, rows.shape[-1])  # perhaps a copy, which takes its time
    lines = lines_of(flat)
    if lines is None:
        yield None
        return
    with lent() as lend:
        blocks: list[Block] = []
        tallies = _counted(flat, lines, blocks, lend, threads, with_places)
        found = added_up(tallies, rows.dtype) if tallies else None
        yield None if found is None else FewValues(rows, *found, blocks, threads)


def can_be_counted(rows: Rows) -> bool:
    """Whether rows of that shape and dtype are worth a look."""
    *free, n = rows.shape
    is_known = rows.dtype in (np.float32, np.float64)
    return is_known and 1 <= math.prod(free) <= MOST_ROWS and SHORTEST <= n < 2**32


class _Counter:
    """What one thread counts, and the memory for it."""

    def __init__(self, rows: Rows, memory: Memory) -> None:
        self.tally = Tally.of_rows(len(rows), as_bits(rows).dtype, memory)
        self.near = memory.empty(AT_ONCE, rows.dtype)
        self.of_part = memory.empty((len(rows), PART), np.uint16)
        self.memory = memory


def _counted(
    rows: Rows, lines: Lines, blocks: list[Block], lend: Lend, threads: int, with_places: bool
) -> list[Tally]:
    """What each of the threads has counted, and the blocks of all; nothing where it is given up."""
    tallies: list[Tally] = []
    is_given_up: list[bool] = []

    def own(_: int) -> _Counter:
        counter = _Counter(rows, lend())
        tallies.append(counter.tally)
        return counter

    def work(own: _Counter, begin: int, end: int) -> None:
        places = own.of_part
        if with_places:
            places = own.memory.empty((len(rows), end - begin), np.uint16)
            blocks.append(Block(begin, end, places))
        if not is_given_up and not count_columns(
            rows[:, begin:end], lines, own.tally, own.near, places
        ):
            is_given_up.append(True)

    over_rows(
        work, own, *reversed(rows.shape), entries_per_block=ENTRIES_PER_BLOCK, threads=threads
    )
    return [] if is_given_up else tallies
