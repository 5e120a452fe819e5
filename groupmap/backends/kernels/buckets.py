"""Buckets (see `dealing`) ranked, each as the short row that it is.

A bucket spans few keys, so that words of 32 bits tell most of its entries apart. How words are
sorted is another matter (see `several_rows`, `long_row`). Here is how they are written, what
becomes of them when they are sorted, and what of the few buckets that words do not serve.
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
    """Rank those buckets by words of 64 bits, whatever they are; how many entries they have.

    Together they are one row, since each is sorted before the next, and no two share a value.
    """
    begins, ends, firsts = (each[which] for each in buckets)
    sizes = ends - begins
    befores = np.cumsum(sizes) - sizes
    entries, n = ranking.entries, int(np.sum(sizes))
    if n == 0:
        return 0
    spots = np.arange(n) + np.repeat(begins - befores, sizes)
    ranks = np.arange(n) + np.repeat(firsts - befores, sizes)
    keys = for_reading(entries.keys[np.newaxis, spots])
    words, values = np.empty(keys.shape, np.uint64), np.empty(keys.shape, entries.values.dtype)
    pack(keys, entries.code, words)
    words.sort(axis=-1)
    own_table = None if table is None else table_at(table, ranking.gaps, ranks)
    memory = np.empty(n + LANES, dtype=np.uint32)
    emit(words, keys, entries.code, own_table, ranking.tie, values, None, memory)
    if table is None:
        # Both counts, which lie in one word, are greater by as many as are less in other buckets.
        values += np.repeat(firsts - befores, sizes).astype(np.uint64) * np.uint64(2**32 + 1)
    if ranking.ascending.size > 0 or ranking.indices.size > 0:
        _write_order(words, spots, ranks, ranking)
    entries.values[spots] = values[0]
    return n


def _write_order(words: Bits, spots: Bits, ranks: Bits, ranking: Ranking) -> None:
    """The order of entries that lie at those spots, and have those ranks, by their words; and their
    keys in that order, while they are there."""
    order = np.empty(words.shape, dtype=np.int32)
    write_order(words, order)
    spots = spots[order[0]]
    if ranking.ascending.size > 0:
        ranking.ascending[ranks] = ranking.entries.keys[spots]
    if ranking.indices.size > 0:
        # No more, even if somebody else writes to the row in the meantime.
        last = np.uint32(ranking.order.shape[1] - 1)
        ranking.order[ranking.row, ranks] = np.minimum(ranking.indices[spots].view(np.uint32), last)


@uncounted_part
def emit_unless_crowded(
    words: Bits, k: int, is_whole: bool, buckets: Buckets, table: Bits | None, ranking: Ranking
) -> bool:
    """The sorted words of a bucket, which may hold the whole of its keys, to values, and to the
    order; whether it is crowded, and left as it is."""
    begin, first, size = buckets.begins[k], buckets.ranks[k], words.size
    end, low = begin + size, np.uint32(index_bits(size))
    entries, spots = ranking.entries, ranking.spots
    keys, values, code = entries.keys[begin:end], entries.values[begin:end], entries.code
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
def emit_level(k: int, buckets: Buckets, table: Bits | None, ranking: Ranking) -> None:
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
