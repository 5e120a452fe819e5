"""A long row on all threads: dealt out to parts that follow one another in order.

A histogram of many bins between the least and the greatest entry says where to cut, so that each
part is short enough for places (see `words`), unless many entries lie close together; such a part
is sorted by keys. Stretches of the row are dealt out at once, each to
its own stretch of every part; so the entries of a part stay in order of appearance, whatever the
number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Code, Unsigned, as_bits
from groupmap.backends.kernels.emission import CROWDED, emit_row
from groupmap.backends.kernels.equals import count_equal
from groupmap.backends.kernels.levels import TRIED_FIRST, may_be_few
from groupmap.backends.kernels.threads import over_rows
from groupmap.backends.kernels.values import Tie
from groupmap.backends.kernels.vectors import CHUNK, LANES
from groupmap.backends.kernels.ways import ENTRIES_PER_BLOCK, Task
from groupmap.backends.kernels.words import LONGEST_IN_PLACES, extent, index_bits, pack, place

BINS = 2**14
MOST_CROWDED = 0.6  # of a row; half of it, as zeros often are, leaves enough for other threads


def rank_by_parts(task: Task, r: int, values: np.ndarray[Any, Any], threads: int) -> bool:
    """Write the values of the task's row r of floats, and its order; whether that was possible.

    It is not where all are equal or some are not finite, nor worth it where most lie close together
    or there are so few values that these can be counted.
    """
    first = np.ascontiguousarray(task.rows[r, :TRIED_FIRST])
    if may_be_few(first, as_bits(first), task.code):
        return False
    order = None if task.order is None else task.order[r]
    row = _LongRow(task.rows[r], task.code, min(threads, task.rows.shape[1]))
    task.check(row.magnitude)
    if not (row.is_divisible and row.deal_out()):
        return False
    row.emit(task, as_bits(values), order)
    return True


class _LongRow:
    """A row in stretches, one a thread, and what is known of it."""

    def __init__(self, row: np.ndarray[Any, Any], code: Code, threads: int) -> None:
        self.code, self.threads = code, threads
        self.n, self.dtype = row.size, row.dtype
        bounds = np.linspace(0, row.size, threads + 1, dtype=np.int64)
        self.begins = bounds[:-1]
        self.stretches = [row[begin:end] for begin, end in pairwise(bounds)]
        self.ends = np.empty((threads, 2), dtype=row.dtype)

        def look(s: int) -> None:
            stretch = np.ascontiguousarray(self.stretches[s])
            self.stretches[s] = stretch
            self.ends[s] = least_and_greatest(stretch, as_bits(stretch), code)

        self._for_each_stretch(look)
        both = np.asarray([np.min(self.ends), np.max(self.ends)], dtype=row.dtype)
        # NaN, which is at an end of its stretch, is an end of these.
        greatest_bin = row.dtype.type(BINS - 1)
        least, scale, self.magnitude = extent_of_row(both, as_bits(both), code, greatest_bin)
        self.least, self.scale = row.dtype.type(least), row.dtype.type(scale)
        self.is_divisible = self.scale > 0

    def _for_each_stretch(self, work: Callable[[int], None]) -> None:
        def some(_: None, begin: int, end: int) -> None:
            for s in range(begin, end):
                work(s)

        over_rows(
            some, lambda _: None, self.threads, self.n // self.threads,
            entries_per_block=1, threads=self.threads,
        )  # fmt: skip

    def deal_out(self) -> bool:
        """The entries and their indices by parts; whether these are short enough, most of them."""
        counts = np.zeros((self.threads, BINS), dtype=np.uint32)

        def count(s: int) -> None:
            count_bins(self.stretches[s], self.least, self.scale, counts[s])

        self._for_each_stretch(count)
        part_of = np.empty(BINS, dtype=np.uint32)
        most_parts = 2 * self.n // LONGEST_IN_PLACES + 2  # any two that adjoin are too long for one
        begins = np.empty((self.threads, most_parts), dtype=np.uint64)
        self.part_ends = np.empty(most_parts, dtype=np.int64)
        n_parts = cut(counts, part_of, begins, self.part_ends)
        self.part_ends = self.part_ends[:n_parts]
        lengths = np.diff(self.part_ends, prepend=0)
        if int(lengths[lengths > LONGEST_IN_PLACES].sum()) > MOST_CROWDED * self.n:
            return False
        self.entries = np.empty(self.n, dtype=self.dtype)
        self.indices = np.empty(self.n, dtype=np.uint32)

        def write(s: int) -> None:
            stretch = self.stretches[s]
            write_out(
                stretch, as_bits(stretch), self.begins[s], self.least, self.scale, part_of,
                begins[s], as_bits(self.entries), self.indices,
            )  # fmt: skip

        self._for_each_stretch(write)
        return True

    def emit(self, task: Task, out: Bits, order: Bits | None) -> None:
        """Rank each part, and write its values."""
        words = np.empty(self.n, dtype=np.uint32)
        bits = as_bits(self.entries)
        what = (self.code, task.table, task.tie, out, order)

        def work(_: None, first: int, last: int) -> None:
            begin, ends = (
                int(self.part_ends[first - 1]) if first > 0 else 0,
                self.part_ends[first:last],
            )
            place_parts(self.entries, bits, self.code, begin, ends, words)
            bounds = list(pairwise([begin, *ends.tolist()]))
            for a, b in bounds:
                if b - a <= LONGEST_IN_PLACES:
                    words[a:b].sort()
            crowded = np.empty(len(ends), dtype=np.bool_)
            emit_parts(words, begin, ends, bits, self.indices, *what, crowded)
            for part in np.flatnonzero(crowded):
                a, b = bounds[part]
                keys = np.empty((1, b - a), dtype=np.uint64)
                pack(bits[np.newaxis, a:b], self.code, keys)
                keys.sort(axis=-1)
                emit_part_by_key(keys[0], a, bits[a:b], self.indices[a:b], *what)

        over_rows(
            work, lambda _: None, len(self.part_ends), LONGEST_IN_PLACES,
            entries_per_block=ENTRIES_PER_BLOCK, threads=self.threads,
        )  # fmt: skip


@njit(nogil=True, cache=True)
def least_and_greatest(
    row: np.ndarray[Any, Any], bits: Bits, code: Code
) -> tuple[Unsigned, Unsigned]:
    """The least and the greatest entry."""
    ends = np.empty(2, dtype=row.dtype)
    extent(bits, code, row.dtype.type(1), ends)
    return ends[0], ends[1]


@njit(nogil=True, cache=True)
def extent_of_row(
    row: np.ndarray[Any, Any], bits: Bits, code: Code, greatest_place: float
) -> tuple[float, float, Unsigned]:
    """What `groupmap.backends.kernels.words.extent` finds."""
    return extent(bits, code, greatest_place, np.empty(2, dtype=row.dtype))


@njit(nogil=True, cache=True)
def count_bins(row: np.ndarray[Any, Any], least: float, scale: float, counts: Bits) -> None:
    """Add to each bin how many entries lie in it."""
    bin_of = np.empty(CHUNK, dtype=np.uint32)
    for begin in range(0, row.size, CHUNK):
        some = row[begin : begin + CHUNK]
        for i in range(some.size):
            bin_of[i] = np.uint32(np.int32((some[i] - least) * scale))
        for i in range(some.size):
            counts[bin_of[i]] += np.uint32(1)


@njit(nogil=True, cache=True)
def cut(counts: Bits, part_of: Bits, begins: Bits, ends: Bits) -> int:
    """Which part each bin belongs to, where its entries of each stretch begin, and where it ends.

    How many parts there are comes back. A bin that is too full is a part by itself.
    """
    n_stretches = counts.shape[0]
    part, begin, end = 0, 0, 0
    of_part = np.zeros((n_stretches, ends.size), dtype=np.uint64)
    for k in range(BINS):
        count = 0
        for s in range(n_stretches):
            count += int(counts[s, k])
        if end > begin and end + count - begin > LONGEST_IN_PLACES:
            ends[part] = begin = end
            part += 1
        end += count
        part_of[k] = part
        for s in range(n_stretches):
            of_part[s, part] += counts[s, k]
    ends[part] = end
    at = np.uint64(0)
    for p in range(part + 1):
        for s in range(n_stretches):
            begins[s, p] = at
            at += of_part[s, p]
    return part + 1


@njit(nogil=True, cache=True)
def write_out(
    row: np.ndarray[Any, Any],
    row_bits: Bits,
    first: int,
    least: float,
    scale: float,
    part_of: Bits,
    at: Bits,
    bits: Bits,
    indices: Bits,
) -> None:
    """Each entry of a stretch, the first of which has that index, to the next spot of its part."""
    bin_of = np.empty(CHUNK, dtype=np.uint32)
    for begin in range(0, row.size, CHUNK):
        some, own_bits = row[begin : begin + CHUNK], row_bits[begin : begin + CHUNK]
        for i in range(some.size):
            bin_of[i] = np.uint32(np.int32((some[i] - least) * scale))
        for i in range(some.size):
            part = part_of[bin_of[i]]
            spot = at[part]
            at[part] = spot + np.uint64(1)
            bits[spot] = own_bits[i]
            indices[spot] = np.uint32(first + begin + i)


@njit(nogil=True, cache=True)
def place_parts(
    entries: np.ndarray[Any, Any], bits: Bits, code: Code, begin: int, ends: Bits, words: Bits
) -> None:
    """The words of each part that is not too long, as of a row."""
    for end in ends:
        if begin < end <= begin + LONGEST_IN_PLACES:
            place(
                entries[begin:end].reshape(1, -1), bits[begin:end].reshape(1, -1), code,
                words[begin:end].reshape(1, -1),
            )  # fmt: skip
        begin = end


@njit(nogil=True, cache=True)
def emit_parts(
    words: Bits,
    begin: int,
    ends: Bits,
    bits: Bits,
    indices: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
    order: Bits | None,
    crowded: Bits,
) -> None:
    """The sorted words of each part to values, and to the order of the row.

    Parts that are too long, or whose places are too close together, are noted as crowded.
    """
    own_out = np.empty(LONGEST_IN_PLACES, dtype=out.dtype)
    spots = np.empty(LONGEST_IN_PLACES + LANES, dtype=np.uint32)
    for p in range(ends.size):
        end = ends[p]
        part, low = words[begin:end], words.dtype.type(index_bits(end - begin))
        equals = 0 if part.size > LONGEST_IN_PLACES else count_equal(part, low)
        crowded[p] = part.size > LONGEST_IN_PLACES or CROWDED * equals > part.size
        if not crowded[p]:
            emit_part(
                part, begin, equals, low, bits[begin:end], indices[begin:end], code, table, tie,
                own_out, spots, out, order,
            )  # fmt: skip
        begin = end


@njit(nogil=True, cache=True)
def emit_part_by_key(
    words: Bits,
    first: int,
    bits: Bits,
    indices: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
    order: Bits | None,
) -> None:
    """The same for one part, from sorted words of keys."""
    own_out = np.empty(words.size, dtype=out.dtype)
    spots = np.empty(words.size + LANES, dtype=np.uint32)
    low = words.dtype.type(index_bits(words.size))
    emit_part(
        words, first, count_equal(words, low), low, bits, indices, code, table, tie, own_out, spots,
        out, order,
    )  # fmt: skip


@njit(inline="always")
def emit_part(
    words: Bits,
    first: int,
    equals: int,
    low: Unsigned,
    bits: Bits,
    indices: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    own_out: Bits,
    spots: Bits,
    out: Bits,
    order: Bits | None,
) -> None:
    """The values of a part whose first rank is that, by way of memory for the part itself."""
    index = words.dtype.type((1 << low) - 1)
    emit_row(words, first, equals, low, index, bits, code, table, tie, own_out, spots)
    for i in range(words.size):  # in order of appearance, from one end of the row to the other
        out[indices[i]] = own_out[i]
    if order is not None:
        for i in range(words.size):
            order[first + i] = indices[words[i] & index]
