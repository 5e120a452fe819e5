"""The ways to rank a block of rows, each with the memory that it works in.

Words of 32 bits take half as long to sort as words of 64, and have room for the places of rows that
are not too long, unless many entries crowd together. Short rows are sorted side by side (see
`side_by_side`); long ones are dealt out to buckets, which are short (see `dealing`). Rows of few
different values need no sort at all (see `levels`), and in long ones values that many entries share
are set aside (see `common`). For rows of 16 bits there is more (see `halves`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from groupmap.backends._bits import Bits, as_bits, for_reading
from groupmap.backends.kernels import levels
from groupmap.backends.kernels.adding import Sums, add_in_order, add_quantiles_in_order
from groupmap.backends.kernels.common import has_common_between
from groupmap.backends.kernels.emission import emit
from groupmap.backends.kernels.long_row import LongRow
from groupmap.backends.kernels.memory import Contiguous, Memory
from groupmap.backends.kernels.ordering import write_order
from groupmap.backends.kernels.scaling import Goal, Line
from groupmap.backends.kernels.several_rows import SeveralRows
from groupmap.backends.kernels.side_by_side import Sorter
from groupmap.backends.kernels.task import Finish, Task
from groupmap.backends.kernels.vectors import LANES
from groupmap.backends.kernels.words import pack, place

# Doubles in one call: fewer make the calls count, more leave the cache.
ENTRIES_PER_BLOCK = 2**17
BYTES_OF_HALVES = 2
MOST_CROWDED = 3  # one row among so few, and places save less than is lost by sorting again
LONGEST_UNTRIED = 2**13  # rows in places; of longer ones so many crowd that one is tried first
LONGEST_IN_CACHE = 2**17  # a row whose values are gathered there before they are written
# Rows of keys; in shorter ones it takes a while to find that there are many levels.
SHORTEST_COUNTED = 2**12
NO_ORDER = np.empty((0, 0), np.int32)


class Worker:
    """What one thread does with one block of rows after the other, and the memory for it."""

    def __init__(
        self, way: type[Way], task: Task, memory: Memory, block: int, at_once: int
    ) -> None:
        """Of whose rows no more are ranked at once than so many."""
        self.task, self.at_once, n = task, at_once, task.rows.shape[1]
        self.contiguous = Contiguous(task.rows, block, memory)
        self.values: np.ndarray[Any, Any] | None = None
        self.line: Line | None = None
        if task.scaling is not None and way.goes_by_line(task):
            self.line = task.scaling.by_line(n, task.dtype, memory)
        elif (n <= LONGEST_IN_CACHE and not way.WRITES_IN_ORDER) or not task.is_direct:
            self.values = memory.empty((block, n), task.dtype)
        self.way = way(task, min(block, at_once), memory)

    def __call__(self, begin: int, end: int) -> None:
        """Rank these rows, and write their values, scaled.

        If they fit, first to memory that is in the cache: entries are scattered over their rows,
        and each would wait for its part of the result to be fetched.
        """
        task, values = self.task, self.values
        rows = self.contiguous(task.rows[begin:end])
        if self.line is not None:
            result = as_bits(task.result[begin:end]).reshape(-1)
            self.way.rank_by_line(rows, Goal(self.line, result, task.first_row + begin))
            return
        values = task.result[begin:end] if values is None else values[: end - begin]
        order = None if task.order is None else task.order[begin:end]
        finish = Finish(task, values, begin)
        if len(rows) <= self.at_once:
            self.way.rank_and_finish(rows, as_bits(values), order, finish)
            return
        for first in range(0, len(rows), self.at_once):
            some = slice(first, first + self.at_once)
            own_order = None if order is None else order[some]
            self.way.rank(rows[some], as_bits(values[some]), own_order)
        finish(0, rows.shape[1])


class Way(ABC):
    """A way to rank some rows of a task, and the memory that it works in."""

    WRITES_IN_ORDER = False  # the values of a row, one after the other
    ONE_BY_ONE = False  # each row is a block by itself

    def __init__(self, task: Task, block: int, memory: Memory) -> None:
        del block, memory
        self.task = task

    @abstractmethod
    def rank(self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None) -> None:
        """Write the values of some rows, and their order."""

    def rank_and_finish(
        self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None, finish: Finish
    ) -> None:
        """The same, and then what there is to do with the values."""
        self.rank(rows, out, order)
        finish(0, rows.shape[1])

    def rank_and_add(self, rows: np.ndarray[Any, Any], out: Bits, order: Bits, sums: Sums) -> None:
        """The values of some rows of floats; each row, sorted, is added to the sums. There is
        memory for the order."""
        self.rank(rows, out, order)
        order = order.view(np.uint32)  # which need not be looked through for -1
        if sums.are_whole:
            add_in_order(rows, order, sums.values)
        else:
            add_quantiles_in_order(rows, order, sums)

    @classmethod
    def goes_by_line(cls, task: Task) -> bool:
        """Whether it can write the values of one row after the other, scaled."""
        del task
        return False

    def rank_by_line(self, rows: np.ndarray[Any, Any], goal: Goal) -> None:
        """Do so, if it can."""
        raise NotImplementedError


class ByLevelFirst(Way):
    """Rows of few levels are counted; only the others are sorted."""

    def rank(self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None) -> None:
        """Count what can be counted, and sort the rest."""
        is_done = self.count(rows, out, order)
        for_some(self.rank_by_sort, ~is_done, rows, out, order)

    def count(self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None) -> Bits:
        """Count what can be counted; which rows it is."""
        task, bits = self.task, as_bits(rows)
        is_done = np.zeros(len(rows), dtype=np.bool_)
        own_order = NO_ORDER if order is None else order
        rest = (task.code, task.table, task.tie, out, own_order, is_done)
        if rows.dtype.kind == "f" and rows.dtype.itemsize > BYTES_OF_HALVES:
            levels.find_few(rows, bits, task.code, is_done)
            if np.any(is_done):
                task.check(levels.count_places(rows, bits, *rest))
        elif rows.shape[1] >= SHORTEST_COUNTED:
            task.check(levels.count_keys(bits, *rest))
        return is_done

    @abstractmethod
    def rank_by_sort(self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None) -> None:
        """Write the values of rows that may have any number of levels, and their order."""


def for_some(
    rank: Callable[[np.ndarray[Any, Any], Bits, Bits | None], None],
    which: Bits,
    rows: np.ndarray[Any, Any],
    out: Bits,
    order: Bits | None,
) -> None:
    """Rank those of the rows."""
    if np.all(which):
        rank(rows, out, order)
    elif np.any(which):
        own_out, own_order = out[which], None if order is None else order[which]
        rank(for_reading(rows[which]), own_out, own_order)
        out[which] = own_out
        if order is not None:
            order[which] = own_order


class ByKey(ByLevelFirst):
    """Words of keys, with 16 bits for the index of short rows of 16 bits, else of 64."""

    def __init__(self, task: Task, block: int, memory: Memory) -> None:
        super().__init__(task, block, memory)
        n = task.rows.shape[1]
        is_short = task.rows.dtype.itemsize == BYTES_OF_HALVES and n <= 2**16
        self.words = memory.empty((block, n), np.uint32 if is_short else np.uint64)
        self.sort = Sorter(n, self.words.dtype, memory)
        self.spots = memory.empty(n + LANES, np.uint32)

    def rank_by_sort(self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None) -> None:
        """Sort the words, and write the values where their indices say."""
        task, bits, words = self.task, as_bits(rows), self.words[: len(rows)]
        task.check(pack(bits, task.code, words))
        self.sort(words)
        emit(words, bits, task.code, task.table, task.tie, out, None, self.spots)
        if order is not None:
            write_order(words, order)


class _InBuckets(ByLevelFirst):
    """Words of keys, in buckets; in none, from the first rows on of which most are crowded."""

    WRITES_IN_ORDER = True

    def __init__(self, task: Task, block: int, memory: Memory) -> None:
        super().__init__(task, block, memory)
        self.block, self.memory = block, memory
        self.were_crowded, self.memory_again = False, memory.again()

    @cached_property
    def by_key(self) -> ByKey:
        """The way for rows that are crowded, from whose first ones on buckets have served."""
        return ByKey(self.task, self.block, self.memory_again)

    def rank_by_sort(self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None) -> None:
        """In buckets until the first are crowded; then so are the next ones, most likely."""
        done = 0
        if not self.were_crowded:
            done, self.were_crowded = self.rank_in_buckets(as_bits(rows), out, order)
        self.rank_by_key(rows, out, order, since=done)

    def rank_by_key(
        self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None, *, since: int
    ) -> None:
        """The rows from that one on, if there are any."""
        if since < len(rows):
            own_order = None if order is None else order[since:]
            self.by_key.rank_by_sort(rows[since:], out[since:], own_order)

    @abstractmethod
    def rank_in_buckets(self, rows: Bits, out: Bits, order: Bits | None) -> tuple[int, bool]:
        """Write the values of rows, and their order, until most entries of one are crowded; how
        many rows are done, and whether it came to that."""


class ByBucket(_InBuckets):
    """One row after the other, in one call."""

    @cached_property
    def several(self) -> SeveralRows:
        """Memory to deal them out."""
        return SeveralRows(self.task, self.block, self.memory)

    def rank_in_buckets(self, rows: Bits, out: Bits, order: Bits | None) -> tuple[int, bool]:
        """One after the other."""
        return self.several.rank(rows, out, order, None)

    def rank_and_add(self, rows: np.ndarray[Any, Any], out: Bits, order: Bits, sums: Sums) -> None:
        """The buckets give the sorted rows, and the order is not needed, unless some rows were
        counted."""
        if self.were_crowded or np.any(self.count(rows, out, None)):
            super().rank_and_add(rows, out, order, sums)
        else:
            done, self.were_crowded = self.several.rank(as_bits(rows), out, None, None, sums)
            if done < len(rows):
                super().rank_and_add(rows[done:], out[done:], order[done:], sums.since(done))

    def rank_and_finish(
        self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None, finish: Finish
    ) -> None:
        """The same; values are scaled while they are in the nearest cache, unless rows are counted
        or crowded, which is seldom: those would be scaled by themselves."""
        in_place = finish.in_place
        is_done = self.count(rows, out, order)
        if in_place is None or self.were_crowded or np.any(is_done):
            for_some(self.rank_by_sort, ~is_done, rows, out, order)
            finish(0, rows.shape[1])
        else:
            done, self.were_crowded = self.several.rank(as_bits(rows), out, order, in_place)
            if done < len(rows):
                self.rank_by_key(rows, out, order, since=done)
                finish.since(done)(0, rows.shape[1])


class ByPlace(Way):
    """Words of 32 bits; rows whose places are crowded are ranked in another way."""

    def __init__(self, task: Task, block: int, memory: Memory) -> None:
        super().__init__(task, block, memory)
        # Where rows are ranked by keys, the words have served, until the next rows.
        self.block, self.memory, self.memory_again = block, memory, memory.again()
        n = task.rows.shape[1]
        self.words, self.ends = memory.empty((block, n), np.uint32), np.empty(2, task.rows.dtype)
        self.sort = Sorter(n, np.uint32, memory)
        self.spots = memory.empty(n + LANES, np.uint32)
        self.is_short = n <= LONGEST_UNTRIED
        self.places_fail, self.is_tried = False, self.is_short

    @cached_property
    def by_key(self) -> ByKey:
        """The way for short rows."""
        return ByKey(self.task, self.block, self.memory_again)

    @cached_property
    def by_bucket(self) -> ByBucket:
        """The way for longer ones."""
        return ByBucket(self.task, self.block, self.memory)

    def rank(self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None) -> None:
        """By places until many rows are crowded; then so are the next ones, most likely."""
        if not self.is_tried:
            self.is_tried = True
            may_be_divided = order is None and self.task.may_be_divided
            if may_be_divided and has_common_between(rows[0], self.task.code):
                self.places_fail = True
            else:
                self.rank(rows[:1], out[:1], None if order is None else order[:1])
                rows, out, order = rows[1:], out[1:], None if order is None else order[1:]
        if self.places_fail:
            self.rank_otherwise(rows, out, order)
        else:
            self.rank_by_place(rows, out, order)

    def rank_otherwise(self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None) -> None:
        """The same, crowded or not."""
        by_key_or_bucket = self.by_key if self.is_short else self.by_bucket
        by_key_or_bucket.rank(rows, out, order)

    def rank_by_place(self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None) -> None:
        """Sort the words, and see to rows that are crowded."""
        task, bits = self.task, as_bits(rows)
        words = self.words[: len(rows)]
        crowded = np.empty(len(rows), dtype=np.bool_)
        task.check(place(rows, bits, task.code, words, self.ends))
        self.sort(words)
        n_crowded = emit(words, bits, task.code, task.table, task.tie, out, crowded, self.spots)
        if order is not None:
            write_order(words, order)
        if n_crowded > 0:
            self.places_fail = MOST_CROWDED * n_crowded > len(rows)
            for_some(self.rank_otherwise, crowded, rows, out, order)


class ByBatch(_InBuckets):
    """Rows so long that some of the buckets are enough at once."""

    ONE_BY_ONE = True

    @cached_property
    def long_row(self) -> LongRow:
        """Memory to deal one out."""
        return LongRow(self.task, self.memory)

    def rank_in_buckets(self, rows: Bits, out: Bits, order: Bits | None) -> tuple[int, bool]:
        """The buckets of the row."""
        return 1, self._rank_one(rows, out, order, None)

    def rank_and_finish(
        self, rows: np.ndarray[Any, Any], out: Bits, order: Bits | None, finish: Finish
    ) -> None:
        """The same; what there is to do with the values is done while they are in the cache."""
        is_done = bool(np.all(self.count(rows, out, order)))
        if is_done or self.were_crowded:
            if not is_done:
                self.by_key.rank_by_sort(rows, out, order)
            finish(0, rows.shape[1])
        else:
            self.were_crowded = self._rank_one(as_bits(rows), out, order, finish)

    def _rank_one(self, rows: Bits, out: Bits, order: Bits | None, finish: Finish | None) -> bool:
        assert len(rows) == 1
        own_order = None if order is None else order[0]
        return self.long_row.rank(rows[0], out[0], own_order, finish)
