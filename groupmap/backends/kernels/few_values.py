"""Long rows of few different floats, such as photographs have: counted, not sorted, and looked up.

Floats that were whole numbers once are as far apart as these, so that each has a place of its own
on a line; and what stands at a place says whether an entry is equal to it. Where two different ones
share a place, all of it is given up. Some entries tell beforehand how far apart the values are.

Rows are handed out by columns: the channels of an image lie side by side, and what is fetched for
one of them serves the next, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, as_bits
from groupmap.backends.kernels.compiled import uncounted
from groupmap.backends.kernels.memory import SIDE_BY_SIDE, Lend, Memory, lent
from groupmap.backends.kernels.sampling import sampled_indices
from groupmap.backends.kernels.threads import over_rows

Rows = np.ndarray[Any, Any]

SHORTEST, MOST_ROWS = 2**16, 16
SAMPLE = 2**10  # entries that are looked at first
TRIED_FIRST = 2**7  # of them, all different where the values are many
PLACE_BITS = 11
PLACES = 2**PLACE_BITS
APART = 1.5  # places from one value to the next: at least one, however it is rounded
COPIES = 4  # of each count: the same one would often be awaited
AT_ONCE = 2**9  # entries that are looked at again where one of them is new
PART = 2**12  # entries of a row at a time, which stay in the nearest cache
ENTRIES_PER_BLOCK = 2**18


class Lines(NamedTuple):
    """Where the values of each row have their places: from `first` on, `scale` for each unit."""

    first: Rows  # (row)
    scale: Rows  # (row)


class Tally(NamedTuple):
    """What one thread has counted."""

    bits: Bits  # (row, place): of what stands there, all ones where nothing does
    counts: Bits  # (row, copy, place)

    @classmethod
    def of_rows(cls, n_rows: int, dtype: np.dtype[Any], memory: Memory) -> Tally:
        """Nothing yet."""
        bits = memory.empty((n_rows, PLACES), dtype)
        counts = memory.empty((n_rows, COPIES, PLACES), np.uint32)
        bits.fill(np.iinfo(dtype).max)
        counts.fill(0)
        return cls(bits, counts)


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
        """What of the values ``(..., k)`` belongs to each entry; as the rows lie in memory."""
        rows, blocks = self.rows.reshape(-1, self.rows.shape[-1]), self.blocks
        result = np.empty_like(rows, dtype=values.dtype, subok=False)
        out, values = as_bits(result), as_bits(values.reshape(-1, values.shape[-1]))
        at_place = np.take_along_axis(values, self.index, axis=1)

        def work(_: None, begin: int, end: int) -> None:
            for block in blocks[begin:end]:
                take(block.places, at_place, out[:, block.begin : block.end])

        over_rows(
            work, lambda _: None, len(blocks), -(-rows.size // len(blocks)),
            entries_per_block=1, threads=self.threads,
        )  # fmt: skip
        return result.reshape(self.rows.shape)


@contextmanager
def few_values(rows: Rows, *, threads: int, with_places: bool) -> Iterator[FewValues | None]:
    """The values of rows ``(..., n)`` of any strides; None where they are many, or not finite, or
    have no places of their own.

    With the places of the entries they can be looked up, until the end.
    """
    flat = rows.reshape(-1, rows.shape[-1])
    lines = lines_of(flat) if can_be_counted(flat) else None
    if lines is None:
        yield None
        return
    with lent() as lend:
        blocks: list[Block] = []
        tallies = _counted(flat, lines, blocks, lend, threads, with_places)
        found = _added_up(tallies, rows.dtype) if tallies else None
        yield None if found is None else FewValues(rows, *found, blocks, threads)


def can_be_counted(rows: Rows) -> bool:
    """Whether rows of that shape and dtype are worth a look."""
    n_rows, n = rows.shape
    is_known = rows.dtype in (np.float32, np.float64)
    return is_known and 1 <= n_rows <= MOST_ROWS and SHORTEST <= n < 2**32


@np.errstate(all="ignore")  # what does not fit is given up
def lines_of(rows: Rows) -> Lines | None:
    """The places of values that are as far apart as those of some entries; None where that would be
    too many."""
    some = rows[:, sampled_indices(rows.shape[1], SAMPLE)]
    if len(_different(some[0, :: SAMPLE // TRIED_FIRST])) == TRIED_FIRST:
        return None
    lines = Lines(*np.empty((2, len(rows)), dtype=rows.dtype))
    for r, each in enumerate(some):
        values = _different(each).astype(np.float64)
        if not np.isfinite(values[-1] - values[0]):
            return None
        # A single value has as much room as any.
        gap = np.min(np.diff(values)) if len(values) > 1 else max(abs(values[0]), 1.0)
        scale = APART / gap
        span = (values[-1] - values[0]) * scale
        if span >= PLACES:
            return None
        lines.scale[r], lines.first[r] = scale, values[0] - (PLACES - span) / (2.0 * scale)
    are_finite = np.isfinite(lines.first) & np.isfinite(lines.scale)
    return lines if np.all(are_finite) else None


def _different(values: Rows) -> Rows:
    """The same in ascending order, each once; as `numpy.unique`, which takes twice as long."""
    ascending = np.sort(values)
    different: Rows = ascending[np.append(True, ascending[1:] != ascending[:-1])]
    return different


def _counted(
    rows: Rows, lines: Lines, blocks: list[Block], lend: Lend, threads: int, with_places: bool
) -> list[Tally]:
    """What each of the threads has counted, and the blocks of all; nothing where it is given up."""
    tallies: list[Tally] = []
    is_given_up: list[bool] = []

    def own(_: int) -> tuple[Tally, Rows, Memory]:
        memory = lend()
        tallies.append(Tally.of_rows(len(rows), as_bits(rows).dtype, memory))
        return tallies[-1], memory.empty(AT_ONCE, rows.dtype), memory

    def work(own: tuple[Tally, Rows, Memory], begin: int, end: int) -> None:
        tally, near, memory = own
        places = memory.empty((len(rows), end - begin if with_places else PART), np.uint16)
        blocks.append(Block(begin, end, places))
        if not is_given_up and not count_columns(rows[:, begin:end], lines, tally, near, places):
            is_given_up.append(True)

    over_rows(
        work, own, *reversed(rows.shape), entries_per_block=ENTRIES_PER_BLOCK, threads=threads
    )
    return [] if is_given_up else tallies


def _added_up(tallies: list[Tally], dtype: np.dtype[Any]) -> tuple[Rows, Bits] | None:
    """What stands at each place, and how often; None where not all have found the same there."""
    at_place = tallies[0].bits.view(dtype).copy()
    counts = tallies[0].counts.sum(axis=1, dtype=np.int64)
    for tally in tallies[1:]:
        its_counts = tally.counts.sum(axis=1, dtype=np.int64)
        its_values = tally.bits.view(dtype)
        if np.any((at_place != its_values) & (counts > 0) & (its_counts > 0)):
            return None
        np.copyto(at_place, its_values, where=counts == 0)
        counts += its_counts
    at_place += dtype.type(0)  # of two zeros, whichever was found first
    return at_place, counts


@uncounted
def count_columns(columns: Rows, lines: Lines, tally: Tally, near: Rows, places: Bits) -> bool:
    """Count the values of some columns, and write down the places; False where an entry has none of
    its own.

    There is memory for all of the places, or else for those of a part; and for entries `near`.
    """
    n_rows, n = columns.shape
    keeps_places = places.shape[1] >= n
    for begin in range(0, n, PART):
        end = min(begin + PART, n)
        first = begin if keeps_places else 0
        for r in range(n_rows):
            part, of_part = columns[r, begin:end], places[r, first : first + end - begin]
            for start in range(0, part.size, AT_ONCE):
                stop = min(start + AT_ONCE, part.size)
                some, of_some = near[: stop - start], of_part[start:stop]
                for i in range(some.size):
                    some[i] = part[start + i]  # which is slow to take where they lie apart
                are_known = count_known(some, lines, tally, r, of_some)
                if not (are_known or count_new(some, lines, tally, r, of_some)):
                    return False
    return True


@njit(inline="always")
def count_known(some: Rows, lines: Lines, tally: Tally, r: int, places: Bits) -> bool:
    """Count entries of a row; whether all of them stand where they are known, without a branch
    until the end."""
    first, scale = lines.first[r], lines.scale[r]
    bits_at, counts = tally.bits[r], tally.counts[r].reshape(-1)
    bits, word = some.view(bits_at.dtype), bits_at.dtype.type
    for i in range(some.size):
        # No more, wherever an entry lies.
        places[i] = np.uint16(np.int32((some[i] - first) * scale) & np.int32(PLACES - 1))
    differ = word(0)
    for i in range(some.size):
        place = places[i]
        differ = word(differ | (bits_at[place] ^ bits[i]))
        counts[(np.uint64(i & (COPIES - 1)) << np.uint64(PLACE_BITS)) + place] += np.uint32(1)
    return bool(differ == 0)


@uncounted
def count_new(some: Rows, lines: Lines, tally: Tally, r: int, places: Bits) -> bool:
    """The same after that has failed, for entries that may be new; False as above."""
    first, scale, bits_at = lines.first[r], lines.scale[r], tally.bits[r]
    nothing, values_at = bits_at.dtype.type(~bits_at.dtype.type(0)), bits_at.view(some.dtype)
    for i in range(some.size):
        own, counts = some[i], tally.counts[r, i & (COPIES - 1)]
        counts[places[i]] -= np.uint32(1)
        distance = (own - first) * scale
        if not 0 <= distance < PLACES:  # nor NaN
            return False
        place = np.uint16(distance)
        if bits_at[place] == nothing:
            values_at[place] = own
        if values_at[place] != own:
            return False
        places[i] = place
        counts[place] += np.uint32(1)
    return True


@uncounted
def take(places: Bits, values: Bits, out: Bits) -> None:
    """What stands at each entry's place."""
    n_rows, n = places.shape
    for begin in range(0, n, SIDE_BY_SIDE):
        end = min(begin + SIDE_BY_SIDE, n)
        for r in range(n_rows):
            part, own_values, own_out = places[r, begin:end], values[r], out[r, begin:end]
            for i in range(part.size):
                own_out[i] = own_values[part[i]]
