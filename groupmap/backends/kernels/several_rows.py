"""Rows that are dealt out to buckets (see `dealing`) together, by one thread."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Unsigned
from groupmap.backends.kernels.bins import Bins
from groupmap.backends.kernels.buckets import (
    Lines,
    emit_buckets,
    emit_crowded,
    sort_words,
    write_words,
)
from groupmap.backends.kernels.common import NO_GAPS, WHOLE, Rest, gaps_of, set_aside, spread
from groupmap.backends.kernels.compiled import ZERO
from groupmap.backends.kernels.dealing import (
    Dealer,
    Dealt,
    collect_from_spots,
    deal_out_row,
    longest_between,
)
from groupmap.backends.kernels.memory import Memory
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
        bits = words.view(self.dealt.keys.dtype)[: shape[0] * shape[1]].reshape(shape)
        return Rest.for_rows_of(self.task, bits, self.memory)

    def rank(self, rows: Bits, out: Bits, order: Bits | None, in_place: InPlace | None) -> bool:
        """Write the values of rows ``(r, n)``, which may be scaled in place, and their order;
        whether most are crowded."""
        task, dealt, lines, buckets_of = self.task, self.dealt, self.lines, self.buckets_of
        if self.in_turns:
            self.bins.counts.fill(0)  # which they are to be, and others may have written there
        rest = self.rest if order is None and task.may_be_divided else None
        indices = None if order is None else self.indices
        asked = (task.table, task.tie, rest, dealt, indices)
        n_lines, n_long, magnitude = deal_out_rows(
            rows, self.limit, self.bins, *asked, buckets_of, lines
        )
        task.check(magnitude)
        bounds = dealt.bounds[: buckets_of[len(rows)] + 1]
        beside = self.beside(bounds)
        sort_words(lines, n_lines, n_long, bounds)
        if emit_and_collect(rows, lines, bounds, buckets_of, *asked, beside, out, order, in_place):
            return False
        n_crowded = self._emit_crowded(len(rows), bounds, rest, beside, indices, order)
        collect_rows(rows, dealt, rest, out, in_place)
        return 2 * n_crowded > rows.size

    def _emit_crowded(
        self,
        n_rows: int,
        bounds: Bits,
        rest: Rest | None,
        beside: Bits | None,
        indices: Bits | None,
        order: Bits | None,
    ) -> int:
        """How many entries were in crowded buckets."""
        task, buckets_of, n_crowded = self.task, self.buckets_of, 0
        for r in range(n_rows):
            buckets = buckets_of[r], buckets_of[r + 1]
            gaps = NO_GAPS if rest is None else tuple(rest.gaps[r].tolist())
            n_crowded += emit_crowded(
                self.lines, bounds, buckets, bounds[buckets[0]], task.table, gaps, task.tie,
                self.dealt, beside, indices, None if order is None else order[r],
            )  # fmt: skip
        return n_crowded


@njit(nogil=True, cache=True)
def deal_out_rows(
    rows: Bits,
    limit: Unsigned,
    bins: Bins,
    table: Bits | None,
    tie: Tie,
    rest: Rest | None,
    dealt: Dealt,
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
        if rest is not None and table is not None:
            magnitude = max(magnitude, set_aside(row, bins.code, table, tie, rest, r))
            if rest.sizes[r] != WHOLE:
                row = rest.bits[r, : rest.sizes[r]]
        if row.size > 0:
            n_buckets, own_magnitude = deal_out_row(
                row, limit, bins, n_buckets, dealt.noted[r], dealt, indices
            )
            magnitude = max(magnitude, own_magnitude)
            if magnitude > limit:
                return 0, 0, magnitude
        buckets_of[r + 1] = n_buckets
    n_lines, n_long = write_words(dealt, dealt.bounds[: n_buckets + 1], lines)
    return n_lines, n_long, magnitude


@njit(nogil=True, cache=True)
def emit_and_collect(
    rows: Bits,
    lines: Lines,
    bounds: Bits,
    buckets_of: Bits,
    table: Bits | None,
    tie: Tie,
    rest: Rest | None,
    dealt: Dealt,
    indices: Bits | None,
    beside: Bits | None,
    out: Bits,
    order: Bits | None,
    in_place: InPlace | None,
) -> bool:
    """The values of rows; whether that is all, or some buckets are crowded and left for later."""
    n_crowded = 0
    spots = np.empty(longest_between(bounds) + LANES, dtype=np.uint32)
    for r in range(out.shape[0]):
        buckets = buckets_of[r], buckets_of[r + 1]
        own_order = None if order is None else order[r]
        n_crowded += emit_buckets(
            lines, bounds, buckets, bounds[buckets[0]], table, gaps_of(rest, r), tie, dealt,
            beside, indices, own_order, spots,
        )  # fmt: skip
    if n_crowded == 0:
        collect_rows(rows, dealt, rest, out, in_place)
    return n_crowded == 0


@njit(nogil=True, cache=True)
def collect_rows(
    rows: Bits, dealt: Dealt, rest: Rest | None, out: Bits, in_place: InPlace | None
) -> None:
    """The value of each entry of rows that were dealt out, scaled if it is to be."""
    start = 0
    for r in range(out.shape[0]):
        own_values = dealt.values[start:]
        if rest is not None and rest.sizes[r] != WHOLE:
            of_rest = rest.values[r, : rest.sizes[r]]
            collect_from_spots(dealt.noted[r], own_values, of_rest, None, r, 0)
            spread(rows[r], rest.patterns[r], rest.two[r], of_rest, out[r])
            if in_place is not None:
                scale_part(in_place, r, 0, out.shape[1])
            start += of_rest.size
            continue
        collect_from_spots(dealt.noted[r], own_values, out[r], in_place, r, 0)
        start += out.shape[1]
