"""Rows that are dealt out to buckets (see `dealing`) together, by one thread."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Unsigned
from groupmap.backends.kernels.bins import Bins
from groupmap.backends.kernels.buckets import (
    Lines,
    emit_buckets,
    emit_crowded,
    sort_words,
    write_order_of_buckets,
    write_words,
)
from groupmap.backends.kernels.collecting import collect_from_spots
from groupmap.backends.kernels.common import (
    WHOLE,
    Rest,
    are_to_be_divided,
    set_aside_in_rows,
    spread,
)
from groupmap.backends.kernels.compiled import ZERO, uncounted
from groupmap.backends.kernels.dealing import (
    Dealer,
    Dealt,
    Entries,
    deal_out_row,
    longest_between,
)
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.sampling import sampled_indices
from groupmap.backends.kernels.scaling import InPlace, scale_part
from groupmap.backends.kernels.task import Task
from groupmap.backends.kernels.values import Tie
from groupmap.backends.kernels.vectors import LANES


class SeveralRows(Dealer):
    """Memory for some rows of a task; perhaps used in turns, and then less of it."""

    def __init__(self, task: Task, n_rows: int, memory: Memory, *, in_turns: bool = False) -> None:
        super().__init__(
            task, n_rows, memory, stretches=1, is_in_place=in_turns, notes_buckets=False
        )
        self.in_turns = in_turns
        n_buckets = self.dealt.at.shape[1]
        n_lines = n_buckets + n_rows * self.n // self.line
        words = memory.empty((n_lines, self.line), np.uint32)
        self.lines = Lines.for_buckets(n_buckets, words)
        self.buckets_of = np.zeros(n_rows + 1, dtype=np.int64)
        self.n_rows = n_rows

    @cached_property
    def rest(self) -> Rest:
        """Memory for what rows that may be divided are without their common values: that of the
        words, which are written when that has been dealt out, and have served when its values are
        collected. They have room for two numbers an entry."""
        shape, words = (self.n_rows, self.n), self.lines.words.reshape(-1)
        bits = words.view(self.entries.keys.dtype)[: shape[0] * shape[1]].reshape(shape)
        return Rest.for_rows_of(self.task, bits, self.memory)

    @cached_property
    def whole(self) -> Rest:
        """What says that no row is divided."""
        return Rest.of_whole_rows(self.task, self.n_rows)

    def rank(self, rows: Bits, out: Bits, order: Bits | None, in_place: InPlace | None) -> bool:
        """Write the values of rows ``(r, n)``, which may be scaled in place, and their order;
        whether most are crowded."""
        task, dealt, lines = self.task, self.dealt, self.lines
        if self.in_turns:
            self.bins.counts.fill(0)  # which they are to be, and others may have written there
        rest, indices = self.whole, None if order is None else self.indices
        may_be_divided = order is None and task.may_be_divided
        if may_be_divided and are_to_be_divided(rows, task.code, sampled_indices(self.n)):
            assert task.table is not None
            rest = self.rest
            task.check(set_aside_in_rows(rows, task.code, task.table, task.tie, rest))
        buckets_of = self.buckets_of[: len(rows) + 1]
        n_lines, n_long, magnitude = deal_out_rows(
            rows, rest, self.limit, self.bins, dealt, self.entries.keys, indices, buckets_of, lines
        )
        task.check(magnitude)
        bounds = dealt.bounds[: buckets_of[-1] + 1]
        sort_words(lines, n_lines, n_long, bounds)
        n_crowded = self._emit(bounds, buckets_of, rest, indices, order)
        collect_rows(rows, dealt.noted, self.entries.values, rest, out, in_place)
        return 2 * n_crowded > rows.size

    def _emit(
        self, bounds: Bits, buckets_of: Bits, rest: Rest, indices: Bits | None, order: Bits | None
    ) -> int:
        """Sorted words to values, and to the order; how many entries were in crowded buckets."""
        task, lines, entries = self.task, self.lines, self.entries
        beside = self.beside(bounds)
        spots = np.empty(longest_between(bounds) + LANES, dtype=np.uint32)
        n_crowded = emit_rows(
            lines, bounds, buckets_of, task.table, rest.gaps, task.tie, entries, beside, spots
        )
        if order is not None and indices is not None:
            write_order_of_rows(lines, bounds, buckets_of, indices, order)
        if n_crowded == 0:
            return 0
        n_crowded = 0
        for r, buckets in enumerate(pairwise(buckets_of.tolist())):
            n_crowded += emit_crowded(
                lines, bounds, buckets, bounds[buckets[0]], task.table,
                tuple(rest.gaps[r].tolist()), task.tie, entries, beside,
                indices, None if order is None else order[r],
            )  # fmt: skip
        return n_crowded


@njit(nogil=True, cache=True)
def deal_out_rows(
    rows: Bits,
    rest: Rest,
    limit: Unsigned,
    bins: Bins,
    dealt: Dealt,
    dealt_keys: Bits,
    indices: Bits | None,
    buckets_of: Bits,
    lines: Lines,
) -> tuple[int, int, Unsigned]:
    """Deal out rows ``(r, n)``, or the rest of them, each to buckets of its own, and write the
    words of these.

    Where the buckets of each row begin goes to `buckets_of`. What comes back is what `write_words`
    gives, and the greatest magnitude. If it exceeds the limit, there are no buckets.
    """
    n_buckets = ZERO
    magnitude = rows.dtype.type(0)
    for r in range(rows.shape[0]):
        row = rows[r]
        if rest.sizes[r] != WHOLE:
            row = rest.bits[r, : rest.sizes[r]]
        if row.size > 0:
            n_buckets, own_magnitude = deal_out_row(
                row, limit, bins, n_buckets, dealt.noted[r], dealt, dealt_keys, indices
            )
            magnitude = max(magnitude, own_magnitude)
            if magnitude > limit:
                return 0, 0, magnitude
        buckets_of[r + 1] = n_buckets
    n_lines, n_long = write_words(dealt_keys, dealt.bounds[: n_buckets + 1], lines)
    return n_lines, n_long, magnitude


@uncounted
def emit_rows(
    lines: Lines,
    bounds: Bits,
    buckets_of: Bits,
    table: Bits | None,
    gaps: Bits,
    tie: Tie,
    entries: Entries,
    beside: Bits | None,
    spots: Bits,
) -> int:
    """The values of the buckets of each row, whose ranks have these gaps; how many are crowded, and
    left for later."""
    n_crowded = 0
    for r in range(buckets_of.size - 1):
        buckets = buckets_of[r], buckets_of[r + 1]
        own_gaps = gaps[r, 0], gaps[r, 1], gaps[r, 2], gaps[r, 3]
        n_crowded += emit_buckets(
            lines, bounds, buckets, bounds[buckets[0]], table, own_gaps, tie, entries, beside, spots
        )
    return n_crowded


@uncounted
def write_order_of_rows(
    lines: Lines, bounds: Bits, buckets_of: Bits, indices: Bits, order: Bits
) -> None:
    """The order of each row, but for crowded buckets."""
    for r in range(order.shape[0]):
        buckets = buckets_of[r], buckets_of[r + 1]
        write_order_of_buckets(lines, bounds, buckets, bounds[buckets[0]], indices, order[r])


@njit(nogil=True, cache=True)
def collect_rows(
    rows: Bits, noted: Bits, values: Bits, rest: Rest, out: Bits, in_place: InPlace | None
) -> None:
    """The value of each entry of rows that were dealt out, scaled if it is to be."""
    start = 0
    for r in range(out.shape[0]):
        own_values = values[start:]
        if rest.sizes[r] != WHOLE:
            of_rest = rest.values[r, : rest.sizes[r]]
            collect_from_spots(noted[r], own_values, of_rest, None, r, 0)
            spread(rows[r], rest.patterns[r], rest.two[r], of_rest, out[r])
            if in_place is not None:
                scale_part(in_place, r, 0, out.shape[1])
            start += of_rest.size
            continue
        collect_from_spots(noted[r], own_values, out[r], in_place, r, 0)
        start += out.shape[1]
