"""Buckets (see `dealing`) ranked, each as the short row that it is.

A bucket spans few keys, so that words of 32 bits tell most of its entries apart. How these are
written and sorted is another matter (see `bucket_words`, `bucket_lanes`, `bucket_lines`). Here is
what becomes of them when they are sorted; and of the buckets that they do not serve, of which some
together make a row of their own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from groupmap.backends._bits import Bits, Code, Unsigned, for_reading
from groupmap.backends.kernels.common import Gaps, left_out, table_across, table_at
from groupmap.backends.kernels.compiled import (
    ZERO,
    counted_part,
    uncounted_part,
)
from groupmap.backends.kernels.dealing import NOTHING, Buckets, Entries
from groupmap.backends.kernels.emission import CROWDED, emit, emit_row
from groupmap.backends.kernels.equals import find_equal
from groupmap.backends.kernels.ordering import (
    write_ascending,
    write_order,
    write_order_of_equal,
    write_order_of_one,
)
from groupmap.backends.kernels.runs import count_conflicts
from groupmap.backends.kernels.task import Task
from groupmap.backends.kernels.values import Tie, value_of_one, value_of_ties
from groupmap.backends.kernels.vectors import LANES
from groupmap.backends.kernels.words import index_bits, pack

MOST_TOGETHER = 2**14  # entries of buckets that are ranked as one row


class Ranking(NamedTuple):
    """What is asked of the buckets of a row, beside the table; what nobody asks for has no size."""

    gaps: Gaps  # between their ranks
    tie: Tie
    entries: Entries
    beside: Bits  # memory for the values of the longest, where they take the place of keys
    spots: Bits  # memory for as many numbers of 32 bits, and a vector more
    indices: Bits  # of the entries in their row
    order: Bits  # of rows, of which this is one
    row: int
    ascending: Bits  # keys of the row


def ranking_of(
    task: Task,
    gaps: Gaps,
    entries: Entries,
    beside: Bits,
    spots: Bits,
    indices: Bits,
    order: Bits | None,
    ascending: Bits,
) -> Ranking:
    """What a task asks of the buckets of the first of some rows."""
    if order is None:
        order = NOTHING[np.newaxis]
    return Ranking(gaps, task.tie, entries, beside, spots, indices, order, 0, ascending)


def rank_left(which: Bits, buckets: Buckets, table: Bits | None, ranking: Ranking) -> int:
    """Rank those buckets by words of 64 bits, whatever they are; how many entries they have."""
    begins, ends, firsts = (each[which] for each in buckets)
    sizes = ends - begins
    # Large ones by themselves.
    is_large = sizes > MOST_TOGETHER
    n_large = np.cumsum(is_large)
    batches = np.cumsum(sizes * ~is_large) // MOST_TOGETHER + 2 * n_large - is_large
    for some in np.split(np.arange(sizes.size), np.flatnonzero(np.diff(batches)) + 1):
        if some.size == 1:
            begin, end, first = (int(each[some[0]]) for each in (begins, ends, firsts))
            _rank_some(slice(begin, end), slice(first, first + end - begin), table, ranking)
        elif some.size > 1:
            spots = _ranges(begins[some], sizes[some])
            _rank_some(spots, _ranges(firsts[some], sizes[some]), table, ranking)
    return int(np.sum(sizes))


def _ranges(begins: Bits, sizes: Bits) -> Bits:
    """All numbers of some ranges."""
    before = np.cumsum(sizes) - sizes
    numbers: Bits = np.arange(np.sum(sizes)) + np.repeat(begins - before, sizes)
    return numbers


def _rank_some(
    spots: slice | Bits, ranks: slice | Bits, table: Bits | None, ranking: Ranking
) -> None:
    """The values and the order of the entries of some buckets, which lie at those spots and share
    those ranks.

    They are ranked as one row: no two buckets have a value in common, and all of one are less than
    all of the next.
    """
    entries = ranking.entries
    keys = for_reading(entries.keys[np.newaxis, spots])
    words, values = np.empty(keys.shape, np.uint64), np.empty(keys.shape, entries.values.dtype)
    pack(keys, entries.code, words)
    words.sort(axis=-1)
    own_table = None if table is None else table_at(table, ranking.gaps, ranks)
    memory = np.empty(keys.size + LANES, dtype=np.uint32)
    emit(words, keys, entries.code, own_table, ranking.tie, values, None, memory)
    if table is None:
        # Both counts, which lie in one word, are greater by as many as are less in other buckets.
        less = ranks.start if isinstance(ranks, slice) else ranks - np.arange(keys.size)
        values += np.asarray(less, dtype=np.uint64) * np.uint64(2**32 + 1)
    if ranking.ascending.size > 0 or ranking.indices.size > 0:
        order = np.empty(keys.shape, dtype=np.int32)
        write_order(words, order)
        if ranking.ascending.size > 0:
            ranking.ascending[ranks] = keys[0, order[0]]
        if ranking.indices.size > 0:
            indices = ranking.indices[spots][order[0]].view(np.uint32)
            # No more, even if somebody else writes to the row in the meantime.
            last = np.uint32(ranking.order.shape[1] - 1)
            ranking.order[ranking.row, ranks] = np.minimum(indices, last)
    entries.values[spots] = values[0]


@uncounted_part
def emit_bucket(
    words: Bits, k: int, is_whole: bool, buckets: Buckets, table: Bits | None, ranking: Ranking
) -> bool:
    """The sorted words of a bucket, which may hold the whole of its keys, to values, and to the
    order; whether it is crowded, and left as it is."""
    begin, first, size = buckets.begins[k], buckets.ranks[k], words.size
    end, low = begin + size, np.uint32(index_bits(size))
    entries, spots = ranking.entries, ranking.spots
    keys, values, code = entries.to_read[begin:end], entries.values[begin:end], entries.code
    n_equal, is_exact = find_equal(words, low, spots), is_whole
    if not is_exact and CROWDED * n_equal > size:
        index = np.uint32((1 << low) - 1)
        conflicts = count_conflicts(words, spots[:n_equal], index, keys, code)
        is_exact = conflicts == 0
        if CROWDED * conflicts > size:
            return True
    gaps, tie = ranking.gaps, ranking.tie
    before, behind = left_out(gaps, first), left_out(gaps, first + size - 1)
    out = ranking.beside[:size] if ranking.beside.size > 0 else values
    if table is not None and before != behind:
        emit_across(words, first, spots, n_equal, low, is_exact, keys, code, table, gaps, tie, out)
    else:
        rank = first + before
        emit_near(words, rank, spots, n_equal, low, is_exact, keys, code, table, tie, out)
    if ranking.ascending.size > 0:
        write_ascending(words, first, keys, ranking.ascending)
    if ranking.beside.size > 0:
        for i in range(size):
            values[i] = out[i]
    if ranking.indices.size > 0:
        write_order_of_one(words, begin, first, ranking.indices, ranking.order[ranking.row])
    return False


@uncounted_part
def emit_equal_bucket(k: int, buckets: Buckets, table: Bits | None, ranking: Ranking) -> None:
    """The values and the order of a bucket whose entries are equal."""
    begin, first, tie = buckets.begins[k], buckets.ranks[k], ranking.tie
    size, less = buckets.ends[k] - begin, first + left_out(ranking.gaps, first)
    values = ranking.entries.values[begin : begin + size]
    if ranking.ascending.size > 0:
        for i in range(size):
            ranking.ascending[first + i] = ranking.entries.keys[begin + i]
    if tie[0]:
        for i in range(size):
            values[i] = value_of_one(less + i, table)
    else:
        value = value_of_ties(less, less + size, table, tie)
        for i in range(size):
            values[i] = value
    if ranking.indices.size > 0:
        write_order_of_equal(size, begin, first, ranking.indices, ranking.order[ranking.row])


# Not inline: few buckets are at a gap.
@counted_part
def emit_across(
    words: Bits,
    first: int,
    spots: Bits,
    n_equal: int,
    low: Unsigned,
    is_exact: bool,
    keys: Bits,
    code: Code,
    table: Bits,
    gaps: Gaps,
    tie: Tie,
    out: Bits,
) -> None:
    """The values of the words of a bucket that come after the `first` entries of the row, and
    between whose ranks there is a gap."""
    own_table = table_across(table, gaps, first, first + words.size)
    emit_near(words, ZERO, spots, n_equal, low, is_exact, keys, code, own_table, tie, out)


@uncounted_part
def emit_near(
    words: Bits,
    first: int,
    spots: Bits,
    n_equal: int,
    low: Unsigned,
    is_exact: bool,
    keys: Bits,
    code: Code,
    table: Bits | None,
    tie: Tie,
    out: Bits,
) -> None:
    """The same where there is none; the bucket is in the nearest cache."""
    emit_row(words, first, spots, n_equal, low, is_exact, keys, code, table, tie, out, False)
