"""Rows that are dealt out to buckets (see `dealing`), ranked there, and collected again.

Where there are few rows, each thread deals out a stretch of one and ranks some of its buckets. Each
stretch has its own spots in every bucket, so that the entries of a bucket stay in order of
appearance, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from threading import get_ident
from typing import Any

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Code, Unsigned, code_of
from groupmap.backends.kernels import threads as thread_pool
from groupmap.backends.kernels.bins import Bins, count_bins, line_length
from groupmap.backends.kernels.buckets import (
    Lines,
    emit_buckets,
    emit_crowded,
    sort_words,
    write_words,
)
from groupmap.backends.kernels.dealing import Dealt, collect, cut, deal_out
from groupmap.backends.kernels.keys import magnitude_of
from groupmap.backends.kernels.memory import Lend, Memory
from groupmap.backends.kernels.task import Task
from groupmap.backends.kernels.threads import over_rows
from groupmap.backends.kernels.values import Tie
from groupmap.backends.kernels.words import least_and_greatest_key

ENTRIES_PER_BATCH = 2**17  # of one row; whose words then stay in the cache
MOST_STRETCHES = 16  # the bins of all of them are added up by one thread
LINES_PER_FULL = 2  # lines that words may take, for each that would be full


# What is done with the values from one entry of a row up to another, as soon as they are there.
Finish = Callable[[int, int], None]


class _Rows:
    """Memory for some rows of a task, each in some stretches."""

    def __init__(
        self, task: Task, n_rows: int, memory: Memory, *, stretches: int, in_place: bool
    ) -> None:
        n, dtype = task.rows.shape[1], task.rows.dtype
        self.task, self.n, self.line, self.memory = task, n, line_length(n), memory
        self.dealt = Dealt.for_rows_of(
            memory, n_rows, n, dtype, task.dtype, stretches=stretches, in_place=in_place
        )
        self.bins = Bins.for_rows_of(n, dtype, stretches, self.dealt.bucket_of.dtype, memory)

    @cached_property
    def indices(self) -> Bits:
        """Memory for the index of each entry in its row."""
        return self.memory.empty(self.dealt.keys.size, np.int32)

    def asked(
        self, beside: Bits | None, indices: Bits | None, order: Bits | None
    ) -> tuple[Any, ...]:
        """What `emit_buckets` and its like are to do: not in a tuple of names, in which compiled
        code would not look for what is None."""
        task, dealt = self.task, self.dealt
        as_they_are = code_of(dealt.keys.dtype)  # keys are the codes of themselves
        return self.n, as_they_are, task.table, task.tie, dealt, beside, indices, order


class SeveralRows(_Rows):
    """Memory for some rows of a task that are ranked together, by one thread."""

    def __init__(self, task: Task, n_rows: int, memory: Memory) -> None:
        super().__init__(task, n_rows, memory, stretches=1, in_place=False)
        n_buckets = self.dealt.at.shape[1]
        n_lines = n_buckets + n_rows * self.n // self.line
        words = memory.empty((n_lines, self.line), np.uint32)
        self.lines = Lines.for_buckets(n_buckets, words)

    def rank(self, rows: Bits, out: Bits, order: Bits | None) -> bool:
        """Write the values of rows ``(r, n)``, and their order; whether most are crowded."""
        task, dealt, lines = self.task, self.dealt, self.lines
        limit = rows.dtype.type(np.iinfo(rows.dtype).max if task.limit is None else task.limit)
        indices = None if order is None else self.indices
        n_buckets, n_lines, n_long, magnitude = deal_out_rows(
            rows, limit, self.bins, dealt, indices, lines
        )
        task.check(magnitude)
        bounds = dealt.bounds[: n_buckets + 1]
        sort_words(lines, n_lines, n_long, bounds)
        asked = self.asked(None, indices, order)
        n_crowded = 0
        if emit_and_collect(out, lines, bounds, *asked) > 0:
            n_crowded = emit_crowded(lines, bounds, *asked)
            collect_rows(dealt, out)
        return 2 * n_crowded > rows.size


class LongRow(_Rows):
    """Memory for one row of a task at a time; threads that share it have words of their own."""

    def __init__(
        self, task: Task, memory: Memory, threads: int = 1, lend: Lend | None = None
    ) -> None:
        self.threads, self.lend = _stretches(task.rows.shape[1], threads), lend
        super().__init__(task, 1, memory, stretches=self.threads, in_place=True)
        self.words_of = {get_ident(): self._words(memory)}
        ends = np.linspace(0, self.n, self.threads + 1, dtype=np.int64).tolist()
        self.stretches = [slice(*both) for both in pairwise(ends)]

    def rank(self, row: Bits, out: Bits, order: Bits | None, finish: Finish) -> bool:
        """Write the values of a row of any stride, and its order; whether most are crowded."""
        code, bins, dealt = self.task.code, self.bins, self.dealt
        indices = None if order is None else self.indices
        rows = [row[stretch] for stretch in self.stretches]
        bucket_of = [dealt.bucket_of[0, stretch] for stretch in self.stretches]
        ends = np.empty((2, self.threads), dtype=row.dtype)

        def look(s: int) -> None:
            rows[s] = np.ascontiguousarray(rows[s])
            ends[:, s] = least_and_greatest(rows[s], code)

        self._for_each_stretch(look)
        least, greatest = np.min(ends[0]), np.max(ends[1])
        self.task.check(greatest_magnitude(least, greatest, code))
        self._for_each_stretch(lambda s: count_bins(rows[s], least, greatest, bins, s))
        n_buckets = cut(bins, 0, dealt)

        def deal(s: int) -> None:
            first = self.stretches[s].start
            deal_out(rows[s], first, least, greatest, bins, s, bucket_of[s], dealt, indices)

        self._for_each_stretch(deal)
        n_crowded = self._rank_buckets(n_buckets, indices, order)

        def collect_and_finish(s: int) -> None:
            stretch = self.stretches[s]
            for end in range(stretch.stop, stretch.start, -ENTRIES_PER_BATCH):
                begin = max(end - ENTRIES_PER_BATCH, stretch.start)
                collect(dealt.bucket_of[0, begin:end], s, dealt, out[begin:end])
                finish(begin, end)

        self._for_each_stretch(collect_and_finish)
        return bool(2 * n_crowded > self.n)

    def _words(self, memory: Memory) -> Bits:
        n_lines = LINES_PER_FULL * ENTRIES_PER_BATCH // self.line
        return memory.empty((n_lines, self.line), np.uint32)

    def _own_words(self, _: int) -> Bits:
        """Those of the thread that asks."""
        if get_ident() not in self.words_of:
            assert self.lend is not None
            self.words_of[get_ident()] = self._words(self.lend())
        return self.words_of[get_ident()]

    def _for_each_stretch(self, work: Callable[[int], None]) -> None:
        def some(_: None, begin: int, end: int) -> None:
            for s in range(begin, end):
                work(s)

        over_rows(
            some, lambda _: None, self.threads, self.n // self.threads,
            entries_per_block=1, threads=self.threads,
        )  # fmt: skip

    def _rank_buckets(self, n_buckets: int, indices: Bits | None, order: Bits | None) -> int:
        """Some of them at a time on each thread; how many entries were crowded."""
        dealt = self.dealt
        is_in_place = dealt.values is dealt.keys
        crowded: list[int] = []

        def work(words: Bits, first: int, last: int) -> None:
            bounds = dealt.bounds[first : last + 1]
            sizes = np.diff(bounds)
            n_lines = int(np.sum(-(-sizes // self.line)))
            if n_lines > len(words):
                words = np.empty((n_lines, self.line), dtype=np.uint32)
            lines = Lines.for_buckets(last - first, words)
            n_lines, n_long = write_words(dealt, bounds, lines)
            sort_words(lines, n_lines, n_long, bounds)
            beside = np.empty(np.max(sizes), dtype=dealt.values.dtype) if is_in_place else None
            asked = self.asked(beside, indices, None if order is None else order[np.newaxis])
            if emit_buckets(lines, bounds, *asked) > 0:
                crowded.append(emit_crowded(lines, bounds, *asked))

        over_rows(
            work, self._own_words, n_buckets, -(-self.n // n_buckets),
            entries_per_block=ENTRIES_PER_BATCH, threads=self.threads,
        )  # fmt: skip
        return sum(crowded)


def _stretches(n: int, threads: int) -> int:
    """Into how many a row of n entries is divided, each for a thread."""
    return max(1, min(threads, MOST_STRETCHES, n // thread_pool.LEAST_ENTRIES_PER_THREAD))


@njit(nogil=True, cache=True)
def deal_out_rows(
    rows: Bits, limit: Unsigned, bins: Bins, dealt: Dealt, indices: Bits | None, lines: Lines
) -> tuple[int, int, int, Unsigned]:
    """Deal out rows ``(r, n)``, each to buckets of its own, and write the words of these.

    What comes back is how many buckets there are, what `write_words` gives, and the greatest
    magnitude. If it exceeds the limit, there are none.
    """
    n_buckets = 0
    magnitude = rows.dtype.type(0)
    for r in range(rows.shape[0]):
        row, bucket_of = rows[r], dealt.bucket_of[r]
        least, greatest = least_and_greatest_key(row, bins.code)
        magnitude = max(magnitude, magnitude_of(least, greatest, bins.code))
        if magnitude > limit:  # before bins are sought for NaN, which need not be in order
            return 0, 0, 0, magnitude
        count_bins(row, least, greatest, bins, 0)
        n_buckets = cut(bins, n_buckets, dealt)
        deal_out(row, 0, least, greatest, bins, 0, bucket_of, dealt, indices)
    n_lines, n_long = write_words(dealt, dealt.bounds[: n_buckets + 1], lines)
    return n_buckets, n_lines, n_long, magnitude


@njit(nogil=True, cache=True)
def emit_and_collect(
    out: Bits,
    lines: Lines,
    bounds: Bits,
    n: int,
    code: Code,
    table: Bits | None,
    tie: Tie,
    dealt: Dealt,
    beside: Bits | None,
    indices: Bits | None,
    order: Bits | None,
) -> int:
    """The values of rows, unless some buckets are crowded; how many are."""
    n_crowded = emit_buckets(lines, bounds, n, code, table, tie, dealt, beside, indices, order)
    if n_crowded == 0:
        collect_rows(dealt, out)
    return n_crowded


@njit(nogil=True, cache=True)
def collect_rows(dealt: Dealt, out: Bits) -> None:
    """The value of each entry of rows that were dealt out."""
    for r in range(out.shape[0]):
        collect(dealt.bucket_of[r], 0, dealt, out[r])


@njit(nogil=True, cache=True)
def least_and_greatest(row: Bits, code: Code) -> tuple[Unsigned, Unsigned]:
    """The least and the greatest key."""
    return least_and_greatest_key(row, code)


@njit(nogil=True, cache=True)
def greatest_magnitude(least: Unsigned, greatest: Unsigned, code: Code) -> Unsigned:
    """The greatest between these keys."""
    return magnitude_of(least, greatest, code)
