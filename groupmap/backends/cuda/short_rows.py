"""Rank rows that fit into shared memory, by one launch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from groupmap.backends.cuda import launching
from groupmap.backends.cuda.launching import Place, Shape
from groupmap.backends.cuda.plans import (
    LEAST_CROWDED,
    OF_BITS,
    OF_BUCKETS,
    SORTED,
    Plan,
    bytes_of_key,
)
from groupmap.backends.cuda.programs import Program
from groupmap.backends.cuda.requests import Addresses, Asked, Request

FILES_OF_RESULTS = (
    "sums.cuh",
    "scale.cuh",
    "results.cuh",
    "entries.cuh",
    "writing.cuh",
    "cursors.cuh",
)
FILES = {
    OF_BUCKETS: (
        "bitonic.cuh",
        "segments.cuh",
        "ranking.cuh",
        "crowds.cuh",
        "by_slots.cuh",
        "map.cu",
    ),
    OF_BITS: ("distinct.cu",),
    SORTED: ("sorted_rows.cu",),
}

# Results are looked up by each entry, or in longer rows by slots. So many keys of one bucket are
# looked at one by one; by slots, neighbours look at the same ones.
LONGEST_BY_ENTRIES, LONGEST_BY_ENTRIES_IN_ORDER = 256, 128
CROWDED, CROWDED_BY_SLOTS, CROWDED_BY_SLOTS_IN_ORDER = LEAST_CROWDED, 32, 64
LONGEST_OF_WARP = 512  # the bucket that one warp sorts


def map_rows(at: Addresses, request: Request, plan: Plan, place: Place, *, ordered: bool) -> None:
    """As `ranking.map_rows` does, of rows that the plan is for."""
    prepared(request, plan, Asked.of(at, ordered=ordered)).launch(at, place)


class Prepared(NamedTuple):
    """All that does not depend on where the arrays lie."""

    program: Program
    shape: Shape
    size: tuple[int, int]  # n_rows, n
    how: tuple[int | float, ...]

    def launch(self, at: Sequence[int], place: Place) -> None:
        """On arrays that lie at `Addresses`."""
        arguments = (*at[:2], *self.size, *at[2:], *self.how)
        launching.launch(self.program, self.shape, place, arguments)


@lru_cache(maxsize=1024)  # the same shapes come again and again
def prepared(request: Request, plan: Plan, asked: Asked) -> Prepared:
    """The launch of such a request."""
    by_slots = _goes_by_slots(request, asked)
    names = (
        *plan.names(),
        *asked.names(request),
        ("INDEX_BITS", 16),
        ("BY_SLOTS", int(by_slots)),
        ("CROWDED", _crowded(by_slots=by_slots, ordered=asked.ordered)),
        ("LONGEST_OF_WARP", LONGEST_OF_WARP),
    )
    return Prepared(
        request.program(plan.kernel, (*FILES_OF_RESULTS, *FILES[plan.kernel]), names),
        Shape(-(-request.n_rows // plan.teams), plan.threads * plan.teams, plan.shared_bytes),
        (request.n_rows, request.n),
        (*request.ways(), plan.log_bins, plan.bytes_per_team),
    )


def _goes_by_slots(request: Request, asked: Asked) -> bool:
    """Whether results are looked up in the order of slots, where they take the place of keys."""
    by_entries = LONGEST_BY_ENTRIES_IN_ORDER if asked.ordered else LONGEST_BY_ENTRIES
    has_room = request.table.bits <= 8 * bytes_of_key(request.values)
    return request.n > by_entries and has_room and not asked.counted


def _crowded(*, by_slots: bool, ordered: bool) -> int:
    if not by_slots:
        return CROWDED
    return CROWDED_BY_SLOTS_IN_ORDER if ordered else CROWDED_BY_SLOTS
