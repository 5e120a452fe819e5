"""Rows that are dealt out to buckets (see `dealing`), ranked one after the other by one thread.

All that is done with a row is done in one kernel, while it is in the cache.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from groupmap.backends._bits import Bits, Unsigned, as_bits
from groupmap.backends.kernels.adding import Sums, add_keys
from groupmap.backends.kernels.bins import Bins
from groupmap.backends.kernels.bucket_lanes import (
    LONGEST,
    InLanes,
    rank_in_lanes,
    rank_left_of_lanes,
)
from groupmap.backends.kernels.buckets import Ranking, ranking_of
from groupmap.backends.kernels.collecting import collect_from_spots
from groupmap.backends.kernels.common import (
    NO_GAPS,
    WHOLE,
    Rest,
    are_to_be_divided,
    set_aside_in_rows,
    spread,
)
from groupmap.backends.kernels.compiled import ZERO, kernel
from groupmap.backends.kernels.dealing import (
    NOTHING,
    Dealer,
    Dealt,
    deal_out_row,
    magnitude_of_dealt,
)
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.sampling import sampled_indices
from groupmap.backends.kernels.scaling import InPlace, no_rows, scale_part
from groupmap.backends.kernels.task import Task
from groupmap.backends.kernels.vectors import LANES

# Entries of a bucket; more in longer rows, whose buckets would not stay in the cache.
LONGEST_BUCKET, LONGEST_OF_LONG, LONG = 192, 480, 2**15
# A part of the entries is counted before they are dealt out; of longer rows all are, since the room
# that is left behind buckets would take up the cache.
LONGEST_IN_PART = 2**17
NO_FLOATS = np.empty(0)


class SeveralRows(Dealer):
    """Memory for rows of a task, of which so many come at once."""

    def __init__(self, task: Task, n_rows: int, memory: Memory) -> None:
        n = task.rows.shape[1]
        super().__init__(
            task, LONGEST_BUCKET if n <= LONG else LONGEST_OF_LONG, memory,
            stretches=1, in_part=n <= LONGEST_IN_PART, notes_buckets=False,
        )  # fmt: skip
        self.n_rows = n_rows
        keys, values = self.entries.keys, self.entries.values
        self.in_lanes = InLanes.for_rows(self.dealt.at.shape[1], memory)
        self.spots = memory.empty(LONGEST + LANES, np.uint32)
        self.beside = memory.empty(LONGEST * (values is keys), values.dtype)

    @cached_property
    def rest(self) -> Rest:
        """Memory for what rows that may be divided are without their common values."""
        bits = self.memory.empty((self.n_rows, self.n), self.entries.keys.dtype)
        return Rest.for_rows_of(self.task, bits, self.memory)

    @cached_property
    def whole(self) -> Rest:
        """What says that no row is divided."""
        return Rest.of_whole_rows(self.task, self.n_rows)

    @cached_property
    def ascending(self) -> np.ndarray[Any, Any]:
        """Memory for a row of floats in ascending order."""
        return self.memory.empty(self.n, f"f{self.task.rows.itemsize}")

    def rank(
        self,
        rows: Bits,
        out: Bits,
        order: Bits | None,
        in_place: InPlace | None,
        sums: Sums | None = None,
    ) -> tuple[int, bool]:
        """Write the values of rows ``(r, n)``, which may be scaled in place, and their order; and
        add each row, in ascending order, to the sums, if there are any.

        How many rows are done, and whether most entries of the last of these are crowded: then the
        others, which are so, too, most likely, are left as they are.
        """
        task, rest = self.task, self.whole
        may_be_divided = order is None and sums is None and task.may_be_divided
        # In place of what is absent: to compile once serves both.
        if in_place is None:
            in_place = InPlace.none(task.dtype.itemsize)
        ascending = NO_FLOATS.astype(f"f{rows.itemsize}") if sums is None else self.ascending
        sums = Sums.none() if sums is None else sums
        if may_be_divided and are_to_be_divided(rows, task.code, sampled_indices(self.n)):
            assert task.table is not None
            rest = self.rest
            task.check(set_aside_in_rows(rows, task.code, task.table, task.tie, rest))
        indices = NOTHING if order is None else self.indices
        ranking = ranking_of(
            task, NO_GAPS, self.entries, self.beside, self.spots, indices, order,
            as_bits(ascending),
        )  # fmt: skip
        r = 0
        while r < len(rows):
            r, n_buckets, magnitude = rank_rows(
                rows, r, rest, self.limit, self.bins, self.dealt, self.in_lanes, task.table,
                ranking, out, in_place, ascending, sums,
            )  # fmt: skip
            task.check(magnitude)
            if r < len(rows):
                own_ranking = ranking._replace(gaps=tuple(rest.gaps[r].tolist()), row=r)
                n_crowded = rank_left_of_lanes(
                    n_buckets, self.dealt.buckets, self.in_lanes, task.table, own_ranking
                )
                collect_row(rows, r, self.dealt.noted, self.entries.values, rest, out, in_place)
                if ascending.size > 0:
                    add_keys(own_ranking.ascending, task.code, ascending, r, sums)
                r += 1
                if 2 * n_crowded > self.n:
                    return r, True
        return len(rows), False


@kernel
def rank_rows(
    rows: Bits,
    first: int,
    rest: Rest,
    limit: Unsigned,
    bins: Bins,
    dealt: Dealt,
    in_lanes: InLanes,
    table: Bits | None,
    ranking: Ranking,
    out: Bits,
    in_place: InPlace,
    ascending: np.ndarray[Any, Any],
    sums: Sums,
) -> tuple[int, int, Unsigned]:
    """Rank rows ``(r, n)``, or the rest of them, from the first one on.

    What comes back: the number of rows if all are done, else the row of which some buckets are
    left; how many buckets that one has; and the greatest magnitude. If it exceeds the limit, no
    more rows are ranked.
    """
    magnitude = rows.dtype.type(0)
    for r in range(first, rows.shape[0]):
        row = rows[r]
        if rest.sizes[r] != WHOLE:
            row = rest.bits[r, : rest.sizes[r]]
        if row.size > 0:
            n_buckets = deal_out_row(row, bins, dealt, ranking.entries.keys, ranking.indices)
            own = magnitude_of_dealt(ranking.entries.keys, dealt.buckets, n_buckets, bins.code)
            magnitude = max(magnitude, own)
            if magnitude > limit:
                return r, 0, magnitude
            own_gaps = rest.gaps[r, 0], rest.gaps[r, 1], rest.gaps[r, 2], rest.gaps[r, 3]
            own_ranking = Ranking(
                own_gaps, ranking.tie, ranking.entries, ranking.beside, ranking.spots,
                ranking.indices, ranking.order, r, ranking.ascending,
            )  # fmt: skip
            next_row = rows[min(r + 1, rows.shape[0] - 1)]
            n_left = rank_in_lanes(n_buckets, dealt.buckets, in_lanes, table, own_ranking, next_row)
            if n_left > 0:
                return r, n_buckets, magnitude
        collect_row(rows, r, dealt.noted, ranking.entries.values, rest, out, in_place)
        if ascending.size > 0:
            add_keys(ranking.ascending, bins.code, ascending, r, sums)
    return rows.shape[0], 0, magnitude


@kernel
def collect_row(
    rows: Bits, r: int, noted: Bits, values: Bits, rest: Rest, out: Bits, in_place: InPlace
) -> None:
    """The value of each entry of a row that was dealt out, scaled if it is to be."""
    if rest.sizes[r] == WHOLE:
        collect_from_spots(noted, values, out[r], in_place, r, ZERO)
        return
    of_rest = rest.values[r, : rest.sizes[r]]
    collect_from_spots(noted, values, of_rest, no_rows(in_place), r, ZERO)
    spread(rows[r], rest.patterns[r], rest.two[r], of_rest, out[r])
    scale_part(in_place, r, ZERO, out.shape[1])
