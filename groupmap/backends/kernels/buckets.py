"""Buckets (see `dealing`) ranked, each as the short row that it is.

A bucket spans few keys, so that words of 32 bits tell most of its entries apart. How words are
sorted is another matter (see `several_rows`, `long_row`). Here is how they are written, what
becomes of them when they are sorted, and what of the few buckets that words do not serve.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.common import Gaps, left_out, table_across
from groupmap.backends.kernels.compiled import (
    ZERO,
    counted_part,
    inlined,
    uncounted_kernel,
    uncounted_part,
)
from groupmap.backends.kernels.dealing import NOTHING, Buckets, Entries
from groupmap.backends.kernels.emission import CROWDED, emit_row
from groupmap.backends.kernels.equals import find_equal
from groupmap.backends.kernels.ordering import (
    write_ascending,
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
    ascending: Bits | None = None,
) -> Ranking:
    """What a task asks of the buckets of the first of some rows."""
    if order is None:
        order = NOTHING[np.newaxis]
    if ascending is None:
        ascending = NOTHING.astype(entries.keys.dtype)
    return Ranking(gaps, task.tie, entries, beside, spots, indices, order, 0, ascending)


def rank_left(which: Bits, buckets: Buckets, table: Bits | None, ranking: Ranking) -> int:
    """Rank those buckets by words of 64 bits, whatever they are; how many entries they have."""
    n_entries, entries = 0, ranking.entries
    for k in np.flatnonzero(which).tolist():
        begin, end = buckets.begins[k], buckets.ends[k]
        words = np.empty((1, end - begin), dtype=np.uint64)
        pack(entries.keys[np.newaxis, begin:end], entries.code, words)
        words.sort(axis=-1)
        beside = np.empty((end - begin) * (ranking.beside.size > 0), ranking.beside.dtype)
        spots = np.empty(end - begin + LANES, dtype=np.uint32)
        own_ranking = ranking._replace(beside=beside, spots=spots)
        emit_as_they_are(words[0], k, buckets, table, own_ranking)
        n_entries += end - begin
    return n_entries


@uncounted_part
def emit_unless_crowded(
    words: Bits, k: int, is_whole: bool, buckets: Buckets, table: Bits | None, ranking: Ranking
) -> bool:
    """The sorted words of a bucket, which may hold the whole of its keys, to values, and to the
    order; whether it is crowded, and left as it is."""
    begin, size, entries = buckets.begins[k], words.size, ranking.entries
    low = np.uint32(index_bits(size))
    equals, is_exact = find_equal(words, low, ranking.spots), is_whole
    if not is_exact and CROWDED * equals > size:
        keys, index = entries.keys[begin : begin + size], np.uint32((1 << low) - 1)
        conflicts = count_conflicts(words, ranking.spots[:equals], index, keys, entries.code)
        is_exact = conflicts == 0
        if CROWDED * conflicts > size:
            return True
    emit_bucket(words, k, equals, low, is_exact, buckets, table, ranking)
    return False


@uncounted_kernel
def emit_as_they_are(
    words: Bits, k: int, buckets: Buckets, table: Bits | None, ranking: Ranking
) -> None:
    """The same for a bucket that is crowded or not."""
    low = words.dtype.type(index_bits(words.size))
    is_whole = 2 * ranking.entries.keys.itemsize <= words.itemsize
    equals = find_equal(words, low, ranking.spots)
    emit_bucket(words, k, equals, low, is_whole, buckets, table, ranking)


@inlined
def emit_bucket(
    words: Bits,
    k: int,
    n_equal: int,
    low: Unsigned,
    is_exact: bool,
    buckets: Buckets,
    table: Bits | None,
    ranking: Ranking,
) -> None:
    """The values and the order of a bucket."""
    entries, gaps, tie = ranking.entries, ranking.gaps, ranking.tie
    begin, first, spots = buckets.begins[k], buckets.ranks[k], ranking.spots
    end = begin + words.size
    keys, values, code = entries.keys[begin:end], entries.values[begin:end], entries.code
    before, behind = left_out(gaps, first), left_out(gaps, first + words.size - 1)
    out = ranking.beside[: words.size] if ranking.beside.size > 0 else values
    if table is not None and before != behind:
        emit_across(words, first, spots, n_equal, low, is_exact, keys, code, table, gaps, tie, out)
    else:
        rank = first + before
        emit_near(words, rank, spots, n_equal, low, is_exact, keys, code, table, tie, out)
    if ranking.ascending.size > 0:
        write_ascending(words, first, keys, ranking.ascending)
    if ranking.beside.size > 0:
        for i in range(words.size):
            values[i] = out[i]
    if ranking.indices.size > 0:
        write_order_of_one(words, begin, first, ranking.indices, ranking.order[ranking.row])


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
