"""Rows that are dealt out to buckets (see `dealing`) one at a time, if need be by several threads.

Each thread deals out a stretch of the row and ranks some of the buckets. Each stretch has its own
spots in every bucket, so that the entries of a bucket stay in order of appearance, whatever the
number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from threading import get_ident

import numpy as np

from groupmap.backends._bits import Bits, for_reading
from groupmap.backends.kernels import common
from groupmap.backends.kernels import threads as thread_pool
from groupmap.backends.kernels.bins import count_bins, line_length, look, set_span
from groupmap.backends.kernels.bucket_lanes import (
    LONGEST_IN_LANES,
    InLanes,
    rank_in_lanes,
    rank_left_of_lanes,
)
from groupmap.backends.kernels.bucket_lines import rank_in_lines
from groupmap.backends.kernels.buckets import Ranking, rank_left, ranking_of
from groupmap.backends.kernels.collecting import collect_from_buckets, collect_from_spots
from groupmap.backends.kernels.common import Gaps, Rest
from groupmap.backends.kernels.dealing import NOTHING, Buckets, Dealer, cut, deal_out, settle
from groupmap.backends.kernels.memory import Lend, Memory
from groupmap.backends.kernels.sampling import sampled_indices
from groupmap.backends.kernels.scaling import InPlace
from groupmap.backends.kernels.task import Finish, Task
from groupmap.backends.kernels.threads import over_rows
from groupmap.backends.kernels.vectors import HAS_AVX2_ALONE, LANES

ENTRIES_PER_BATCH = 2**17  # of one row; whose words, or values, then stay in the cache
# If buckets of one length lay whole KiB apart, they would need the same few lines of the cache.
GAP = 16
MOST_STRETCHES = 16  # the bins of all of them are added up by one thread
LINES_PER_FULL = 2  # lines that words may take, for each that would be full
LONGEST_WITH_SPOTS = 2**18  # of longer ones the buckets are noted, to spare more memory
PREFERS_LANES = HAS_AVX2_ALONE  # else NumPy sorts lines as fast


class LongRow(Dealer):
    """Memory for one row of a task at a time; threads that share it have words of their own."""

    def __init__(
        self, task: Task, memory: Memory, threads: int = 1, lend: Lend | None = None
    ) -> None:
        self.threads, self.lend = _stretches(task.rows.shape[1], threads), lend
        n = task.rows.shape[1]
        self.line = line_length(n)
        super().__init__(
            task, self.line - GAP, memory, stretches=self.threads, in_part=False,
            notes_buckets=n > LONGEST_WITH_SPOTS,
        )  # fmt: skip
        self.sorts_in_lanes = PREFERS_LANES and self.line <= LONGEST_IN_LANES
        self.words_of = {get_ident(): self._words(memory)}
        ends = np.linspace(0, self.n, self.threads + 1, dtype=np.int64).tolist()
        self.stretches = [slice(*both) for both in pairwise(ends)]

    @cached_property
    def copies(self) -> Bits:
        """Memory for a row of other strides."""
        return self.memory.empty(self.n, f"u{self.task.rows.dtype.itemsize}")

    @cached_property
    def rest(self) -> Rest:
        """Memory for what a row that may be divided is without its common values."""
        bits = self.memory.empty((1, self.n), self.entries.keys.dtype)
        return Rest.for_rows_of(self.task, bits, self.memory)

    def rank(self, row: Bits, out: Bits, order: Bits | None, finish: Finish | None) -> bool:
        """Write the values of a row of any stride, finish them, and write its order; whether most
        are crowded."""
        rows, outs = ([each[stretch] for stretch in self.stretches] for each in (row, out))
        if not row.flags.c_contiguous:
            copies = self.copies

            def copy(s: int) -> None:
                own_copy = copies[self.stretches[s]]
                own_copy[...] = row[self.stretches[s]]
                rows[s] = for_reading(own_copy)

            self._for_each_stretch(copy)
        if order is None and self.task.may_be_divided:
            patterns = np.empty(4, dtype=row.dtype)
            some = row[sampled_indices(self.n)]
            if common.find_common(some, self.task.code, patterns):
                return self._rank_divided(rows, outs, patterns, finish)
        return self._rank(rows, outs, order, common.NO_GAPS, finish)

    def _rank_divided(
        self, rows: Sequence[Bits], outs: Sequence[Bits], patterns: Bits, finish: Finish | None
    ) -> bool:
        """The same for a row that is given by stretches, of which the common values, which have
        these patterns, are set aside."""
        task, rest, two = self.task, self.rest, self.rest.two[0]
        assert task.table is not None
        task.check(max(patterns[0] & task.code.flip, patterns[2] & task.code.flip))
        counts, less = np.empty((self.threads, 3), np.int64), np.empty((self.threads, 2), np.int64)

        def squeeze(s: int) -> None:
            bits = rest.bits[0, self.stretches[s]]
            counts[s] = common.squeeze(rows[s], patterns, bits)
            less[s] = common.count_less(bits[: counts[s, 0]], patterns, task.code)

        self._for_each_stretch(squeeze)
        size, *both = counts.sum(axis=0).tolist()
        if size > common.MOST_LEFT * self.n:
            return self._rank(rows, outs, None, common.NO_GAPS, finish)
        rest.sizes[0] = size
        less_of_all = tuple(less.sum(axis=0).tolist())
        common.set_gaps(task.table, task.tie, tuple(both), less_of_all, rest.gaps[0], two)
        pieces, values = (
            [memory[0, self.stretches[s]][: counts[s, 0]] for s in range(self.threads)]
            for memory in (for_reading(rest.bits), rest.values)
        )
        are_crowded = size > 0 and self._rank(
            pieces, values, None, tuple(rest.gaps[0].tolist()), None
        )

        def spread(s: int) -> None:
            stretch = self.stretches[s]
            of_rest = rest.values[0, stretch]
            for begin in range(0, rows[s].size, ENTRIES_PER_BATCH):
                some = slice(begin, min(begin + ENTRIES_PER_BATCH, rows[s].size))
                taken = common.spread(rows[s][some], patterns, two, of_rest, outs[s][some])
                of_rest = of_rest[taken:]
                if finish is not None:
                    finish(stretch.start + some.start, stretch.start + some.stop)

        self._for_each_stretch(spread)
        return are_crowded

    def _rank(
        self,
        rows: Sequence[Bits],
        outs: Sequence[Bits],
        order: Bits | None,
        gaps: Gaps,
        finish: Finish | None,
    ) -> bool:
        """The same for a row that is given in pieces, one for each stretch, which may be shorter if
        there is nothing to finish."""
        dealt, indices = self.dealt, NOTHING if order is None else self.indices
        starts = np.cumsum([0, *(row.size for row in rows)]).tolist()
        noted = [dealt.noted[begin:end] for begin, end in pairwise(starts)]
        n_buckets = self._deal_out(rows, starts, noted, indices)
        n_crowded = self._rank_buckets(n_buckets, gaps, indices, order)
        in_place = None if finish is None else finish.in_place
        is_apart = finish is not None and in_place is None and self.task.needs_finish
        if in_place is None:
            in_place = InPlace.none(self.task.dtype.itemsize)
        chunk = ENTRIES_PER_BATCH if is_apart else self.n

        def collect_and_finish(s: int) -> None:
            for end in range(rows[s].size, 0, -chunk):
                some = slice(max(end - chunk, 0), end)
                first = self.stretches[s].start + some.start
                spots_or_buckets, out = noted[s][some], outs[s][some]
                if dealt.notes_buckets:
                    collect_from_buckets(
                        spots_or_buckets, s, dealt, self.entries.values, out, in_place, first
                    )
                else:
                    collect_from_spots(
                        spots_or_buckets, self.entries.values, out, in_place, 0, first
                    )
                if finish is not None and is_apart:
                    finish(first, first + end - some.start)

        self._for_each_stretch(collect_and_finish)
        return bool(2 * n_crowded > self.n)

    def _deal_out(
        self,
        rows: Sequence[Bits],
        starts: Sequence[int],
        noted: Sequence[Bits],
        indices: Bits,
    ) -> int:
        """Deal out the pieces of a row, which begin there, to so many buckets."""
        bins, dealt = self.bins, self.dealt
        self._for_each_stretch(lambda s: look(rows[s], bins, s))
        self.task.check(set_span(bins))
        self._for_each_stretch(lambda s: count_bins(rows[s], bins, s, noted[s]))
        n_buckets = cut(bins, dealt, 1)

        def deal(s: int) -> None:
            deal_out(rows[s], starts[s], bins, s, True, noted[s], dealt, self.entries.keys, indices)

        self._for_each_stretch(deal)
        settle(dealt, n_buckets, True)
        return n_buckets

    def _words(self, memory: Memory) -> Bits | InLanes:
        """Those of some buckets, sorted side by side, or by NumPy in lines."""
        if self.sorts_in_lanes:
            return InLanes.for_rows(self.dealt.at.shape[1], memory)
        n_lines = LINES_PER_FULL * ENTRIES_PER_BATCH // self.line
        return memory.empty((n_lines, self.line), np.uint32)

    def _own_words(self, _: int) -> Bits | InLanes:
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

    def _rank_buckets(self, n_buckets: int, gaps: Gaps, indices: Bits, order: Bits | None) -> int:
        """Some of them at a time on each thread; how many entries were crowded."""
        task, entries = self.task, self.entries
        orders = None if order is None else order[np.newaxis]
        size = int(self.dealt.buckets.begins[n_buckets])  # of the row, or of the rest of it
        crowded: list[int] = []

        def work(words: Bits | InLanes, first: int, last: int) -> None:
            buckets = self.dealt.buckets.some(first, last)
            longest = int(np.max(buckets.ends - buckets.begins))
            beside = np.empty(longest * (entries.values is entries.keys), entries.values.dtype)
            spots = np.empty(longest + LANES, dtype=np.uint32)
            ascending = np.empty(0, entries.keys.dtype)  # which nobody asks for
            ranking = ranking_of(task, gaps, entries, beside, spots, indices, orders, ascending)
            crowded.append(_rank_some(buckets, words, task.table, ranking))

        over_rows(
            work, self._own_words, n_buckets, -(-size // n_buckets),
            entries_per_block=ENTRIES_PER_BATCH, threads=self.threads,
        )  # fmt: skip
        return sum(crowded)


def _rank_some(
    buckets: Buckets, words: Bits | InLanes, table: Bits | None, ranking: Ranking
) -> int:
    """The values of some buckets, and the order; how many entries were crowded."""
    if isinstance(words, InLanes):
        n_buckets, no_row = len(buckets.ends), ranking.entries.to_read[:0]
        if rank_in_lanes(n_buckets, buckets, words, table, ranking, no_row) > 0:
            return rank_left_of_lanes(n_buckets, buckets, words, table, ranking)
        return 0
    are_left = rank_in_lines(buckets, words, table, ranking)
    return rank_left(are_left, buckets, table, ranking) if np.any(are_left) else 0


def _stretches(n: int, threads: int) -> int:
    """Into how many a row of n entries is divided, each for a thread."""
    return max(1, min(threads, MOST_STRETCHES, n // thread_pool.LEAST_ENTRIES_PER_THREAD))
