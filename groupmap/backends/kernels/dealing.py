"""Entries of long rows dealt out to buckets that follow one another in order.

Neighbouring bins make a bucket as long as together they have no more than some hundreds of entries.

Each entry notes the spot that it was dealt out to, where what becomes of it is collected from (see
`collecting`). Or, where memory is to be spared, it notes only its bucket, which takes 16 bits:
entries keep their order of appearance there, so that it is enough to take the next one. Likewise
values may take the place of the keys. Until it is dealt out it notes its bin, where there is room.
"""

from __future__ import annotations

import sys
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Code, Unsigned, code_of
from groupmap.backends.kernels.bins import (
    CHUNK,
    GROUP,
    Bins,
    can_note_bins,
    count_bins,
    find_bins,
    line_length,
    look,
    set_span,
    width_of,
)
from groupmap.backends.kernels.compiled import uncounted
from groupmap.backends.kernels.keys import key_at
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.task import Task
from groupmap.backends.kernels.vectors import fetch, store_word

# If buckets of one length lay whole KiB apart, they would need the same few lines of the cache.
GAP = 16
LONGEST_BESIDE = 2**16  # rows whose values lie beside the keys, which is a little faster
LONGEST_NEAR = 2**19  # keys; where there are more they have to be fetched
AHEAD = 8  # entries of a bucket: about a line of the cache
# Numbers are noted a word at once, since each entry is written to two more places, and to write is
# what takes the time. The first of them is the lowest part of the word.
BITS_OF_WORD, IS_LITTLE_ENDIAN = 64, sys.byteorder == "little"


class Entries(NamedTuple):
    """Those of some rows, by buckets."""

    keys: Bits
    values: Bits  # perhaps in the place of the keys
    code: Code  # of the keys, which are the codes of themselves

    @classmethod
    def of(
        cls,
        count: int,
        kind: np.dtype[Any],
        kind_of_values: np.dtype[Any],
        memory: Memory,
        *,
        is_in_place: bool,
    ) -> Entries:
        """Memory for so many, the values in the place of the keys, if they are to and fit there."""
        keys = values = memory.empty(count, f"u{kind.itemsize}")
        if not is_in_place or kind_of_values.itemsize != kind.itemsize:
            values = memory.empty(count, f"u{kind_of_values.itemsize}")
        return cls(keys, values, code_of(keys.dtype))


class Dealt(NamedTuple):
    """Where the entries of some rows are dealt out to."""

    noted: Bits  # (row, entry): its spot in the row, or its bucket; before, perhaps its bin
    at: Bits  # (stretch, bucket): the next spot for an entry of the stretch
    bounds: Bits  # where each bucket begins, and where the last one ends
    longest: int  # bucket of several bins
    notes_buckets: bool

    @classmethod
    def for_rows_of(
        cls, memory: Memory, n_rows: int, n: int, *, stretches: int, notes_buckets: bool
    ) -> Dealt:
        """For some rows of n entries, each in some stretches."""
        longest = line_length(n) - GAP
        most = n_rows * (2 * n // longest + 2)  # any two that adjoin are too long for one
        spot = np.uint16 if n <= 2**16 else np.uint32
        bucket = np.uint16 if most <= 2**16 else np.uint32
        return cls(
            noted=memory.empty((n_rows, n), bucket if notes_buckets else spot),
            at=memory.empty((stretches, most), np.uint32),
            bounds=np.zeros(most + 1, dtype=np.int64),
            longest=longest,
            notes_buckets=notes_buckets,
        )


class Dealer:
    """Memory to deal out some rows of a task, each in some stretches."""

    def __init__(
        self,
        task: Task,
        n_rows: int,
        memory: Memory,
        *,
        stretches: int,
        is_in_place: bool,
        notes_buckets: bool,
    ) -> None:
        n, dtype = task.rows.shape[1], task.rows.dtype
        self.task, self.n, self.line, self.memory = task, n, line_length(n), memory
        keys = np.dtype(f"u{dtype.itemsize}")
        self.limit = keys.type(np.iinfo(keys).max if task.limit is None else task.limit)
        self.entries = Entries.of(
            n_rows * n, dtype, task.dtype, memory, is_in_place=is_in_place or n > LONGEST_BESIDE
        )
        self.dealt = Dealt.for_rows_of(
            memory, n_rows, n, stretches=stretches, notes_buckets=notes_buckets
        )
        self.bins = Bins.for_rows_of(n, dtype, stretches, self.dealt.at.shape[1], memory)

    def beside(self, bounds: Bits) -> Bits | None:
        """Where values take the place of the keys, memory for those of the longest of the buckets
        with these bounds."""
        keys, values, _ = self.entries
        if values is not keys:
            return None
        return np.empty(longest_between(bounds), dtype=values.dtype)

    @cached_property
    def indices(self) -> Bits:
        """Memory for the index of each entry in its row."""
        return self.memory.empty(self.entries.keys.size, np.int32)


@njit(cache=True)  # so short that other threads may wait
def longest_between(bounds: Bits) -> int:
    """The size of the longest bucket."""
    longest = 0
    for k in range(bounds.size - 1):
        longest = max(longest, bounds[k + 1] - bounds[k])
    return longest


@njit(nogil=True, cache=True)
def cut(bins: Bins, first: int, dealt: Dealt) -> int:
    """Put the bins of a row together to buckets, from that one on; how many there are then."""
    counts, bounds = bins.counts, dealt.bounds
    n_stretches, n_bins = counts.shape
    bucket, first_bin = first, 0
    begin = end = bounds[first]
    totals = np.empty(GROUP, dtype=np.int64)
    for group in range(0, n_bins, GROUP):
        totals[:] = 0
        for s in range(n_stretches):
            in_stretch = counts[s, group : group + GROUP]
            for b in range(GROUP):
                totals[b] += np.int64(in_stretch[b])
        if totals.sum() == 0:
            continue
        for b in range(group, group + GROUP):
            count = totals[b - group]
            # In one branch that is rarely taken: which bins are empty could not be foretold.
            if (count > 0) & (end > begin) & (end + count - begin > dealt.longest):
                fill_bucket(bucket, first_bin, b, bins, dealt)
                bucket, first_bin = bucket + 1, b
                bounds[bucket] = begin = end
            end += count
    fill_bucket(bucket, first_bin, n_bins, bins, dealt)
    bounds[bucket + 1] = end
    return bucket + 1


@njit(inline="always")
def fill_bucket(bucket: int, first_bin: int, end_bin: int, bins: Bins, dealt: Dealt) -> None:
    """Give these bins to a bucket, and to each stretch its first spot there; empty their counts."""
    bins.bucket_of[first_bin:end_bin] = bucket
    spot = dealt.bounds[bucket]
    for s in range(bins.counts.shape[0]):
        counts = bins.counts[s, first_bin:end_bin]
        dealt.at[s, bucket] = spot
        if bins.counts.shape[0] > 1:
            for b in range(counts.size):
                spot += np.int64(counts[b])
        counts[:] = 0


@njit(nogil=True, cache=True)
def deal_out(
    row: Bits,
    first_index: int,
    bins: Bins,
    stretch: int,
    noted: Bits,
    dealt: Dealt,
    dealt_keys: Bits,
    start: int,
    end: int,
    indices: Bits | None,
) -> None:
    """Write the key of each entry of a stretch to the next spot of its bucket; and if anybody asks,
    its index in the row, where the stretch begins with that one.

    What each entry notes may have been the number of its bin.
    """
    at, are_noted = dealt.at[stretch], can_note_bins(bins, noted)
    keys, bin_of = np.empty(CHUNK, dtype=row.dtype), np.empty(CHUNK, dtype=np.uint32)
    for begin in range(0, row.size, CHUNK):
        some = row[begin : begin + CHUNK]
        own = noted[begin : begin + some.size]  # the rest of a row is shorter
        if are_noted:
            for i in range(some.size):
                keys[i] = key_at(some, i, bins.code)
            for i in range(some.size):
                bin_of[i] = own[i]
        else:
            find_bins(some, bins, keys, bin_of)
        deal_out_chunk(
            keys, bin_of, first_index + begin, bins.bucket_of, at, dealt.notes_buckets, own,
            dealt_keys, start, end, indices,
        )  # fmt: skip


@uncounted
def deal_out_chunk(
    keys: Bits,
    bin_of: Bits,
    first_index: int,
    bucket_of: Bits,
    at: Bits,
    notes_buckets: bool,
    noted: Bits,
    dealt_keys: Bits,
    start: int,
    end: int,
    indices: Bits | None,
) -> None:
    """The same for some entries, as many as there is to note, whose bins are known."""
    width, in_words = width_of(noted), 0
    per_word = BITS_OF_WORD // width
    if IS_LITTLE_ENDIAN:
        in_words = noted.size - noted.size % per_word
    first_spot, last_spot = np.uint32(start), np.uint32(end - 1)
    for i in range(0, in_words, per_word):
        word = np.uint64(0)
        for j in range(per_word):
            note = deal_out_one(
                keys[i + j], bucket_of[bin_of[i + j]], first_index + i + j, at, first_spot,
                last_spot, notes_buckets, dealt_keys, indices,
            )  # fmt: skip
            word |= np.uint64(note) << np.uint64(width * j)
        store_word(word, noted, i)
    for i in range(in_words, noted.size):
        noted[i] = deal_out_one(
            keys[i], bucket_of[bin_of[i]], first_index + i, at, first_spot, last_spot,
            notes_buckets, dealt_keys, indices,
        )  # fmt: skip


@njit(inline="always")
def deal_out_one(
    key: Unsigned,
    bucket: Unsigned,
    index: int,
    at: Bits,
    first_spot: Unsigned,
    last_spot: Unsigned,
    notes_buckets: bool,
    dealt_keys: Bits,
    indices: Bits | None,
) -> Unsigned:
    """Write the key of an entry, and if anybody asks, its index; what it notes."""
    # The last spot is behind none, unless somebody else writes to the row in the meantime.
    spot = min(at[bucket], last_spot)
    at[bucket] = spot + np.uint32(1)
    dealt_keys[spot] = key
    if dealt_keys.size > LONGEST_NEAR:
        fetch(dealt_keys, np.int64(spot) + AHEAD)
    if indices is not None:
        indices[spot] = index
    return bucket if notes_buckets else spot - first_spot


@njit(nogil=True, cache=True)
def deal_out_row(
    row: Bits,
    limit: Unsigned,
    bins: Bins,
    first_bucket: int,
    noted: Bits,
    dealt: Dealt,
    dealt_keys: Bits,
    indices: Bits | None,
) -> tuple[int, Unsigned]:
    """Deal out all of a row, to buckets from that one on; how many there are then, and the greatest
    magnitude. If it exceeds the limit, there are no more than before."""
    look(row, bins, 0)
    magnitude = set_span(bins)
    if magnitude > limit:
        return first_bucket, magnitude
    count_bins(row, bins, 0, noted)
    n_buckets = cut(bins, first_bucket, dealt)
    start, end = dealt.bounds[first_bucket], dealt.bounds[n_buckets]
    deal_out(row, 0, bins, 0, noted, dealt, dealt_keys, start, end, indices)
    return n_buckets, magnitude
