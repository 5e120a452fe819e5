"""Entries of a long row dealt out to buckets that follow one another in order.

Neighbouring bins make a bucket as long as together they have no more than some hundreds of entries.
How many they have, a part of the entries tells well enough: there is room behind each bucket, and
where it does not suffice, which is rare, all are counted. So they are where several threads share a
row, since each needs spots of its own in every bucket, where buckets are to have one length, and
where the room behind them would take up too much of the cache.

Each entry notes the spot that it was dealt out to, where what becomes of it is collected from (see
`collecting`). Or, where memory is to be spared, it notes only its bucket, which takes 16 bits:
entries keep their order of appearance there, so that it is enough to take the next one. Where all
are counted, an entry notes its bin until it is dealt out, if there is room. Values take the place
of the keys, if they are as wide.
"""

from __future__ import annotations

import sys
from functools import cached_property
from math import ceil, sqrt
from typing import Any, NamedTuple

import numpy as np

from groupmap.backends._bits import Bits, Code, Unsigned, code_of, for_reading
from groupmap.backends.kernels.bins import (
    CHUNK,
    Bins,
    can_note_bins,
    count_bins,
    find_bins,
    look,
    set_span,
    width_of,
)
from groupmap.backends.kernels.compiled import ZERO, inlined, kernel, part, uncounted_part
from groupmap.backends.kernels.keys import key_at, magnitude_of
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.sampling import IRREGULAR, IRREGULAR_BITS
from groupmap.backends.kernels.task import Task
from groupmap.backends.kernels.vectors import fetch, store_word

LONGEST_NEAR = 2**17  # keys; where there are more they have to be fetched
AHEAD = 8  # entries of a bucket: about a line of the cache
# Numbers are noted a word at once, since each entry is written to two more places, and to write is
# what takes the time. The first of them is the lowest part of the word.
BITS_OF_WORD, IS_LITTLE_ENDIAN = 64, sys.byteorder == "little"
NOTHING = np.empty(0, np.int32)
ONE_OF = 8  # entries is counted, where a part of them is enough
FEWEST_COUNTED = 512  # of fewer it is as well to count all
# A bucket that is thought to have some entries has room for so many standard deviations more, and
# for what so many of the counted ones stand for.
DEVIATIONS, MORE_COUNTED = 4, 4


class Entries(NamedTuple):
    """Those of a row, by buckets."""

    keys: Bits
    values: Bits  # perhaps in the place of the keys
    code: Code  # of the keys, which are the codes of themselves
    to_read: Bits  # the keys as a row is given, so that what reads either is compiled once

    @classmethod
    def of(
        cls, count: int, kind: np.dtype[Any], kind_of_values: np.dtype[Any], memory: Memory
    ) -> Entries:
        """Memory for so many, the values in the place of the keys, if they fit there."""
        keys = values = memory.empty(count, f"u{kind.itemsize}")
        if kind_of_values.itemsize != kind.itemsize:
            values = memory.empty(count, f"u{kind_of_values.itemsize}")
        return cls(keys, values, code_of(keys.dtype), for_reading(keys))


class Buckets(NamedTuple):
    """Of a row: where the entries of each begin and end, and how many the ones before have."""

    begins: Bits  # one more: where there is nothing behind the room of the last
    ends: Bits
    ranks: Bits

    @classmethod
    def for_rows(cls, most: int) -> Buckets:
        """Memory for so many."""
        return cls(*(np.zeros(most + 1, dtype=np.int64) for _ in range(3)))

    def some(self, first: int, last: int) -> Buckets:
        """Those from one up to another."""
        return Buckets(*(each[first:last] for each in self))


class Dealt(NamedTuple):
    """Where the entries of a row are dealt out to."""

    noted: Bits  # (entry): its spot, or its bucket; before, perhaps its bin
    at: Bits  # (stretch, bucket): the next spot for an entry of the stretch
    buckets: Buckets
    longest: int  # bucket of several bins
    notes_buckets: bool

    @classmethod
    def for_rows_of(
        cls, memory: Memory, n: int, slots: int, longest: int, *, stretches: int,
        notes_buckets: bool,
    ) -> Dealt:  # fmt: skip
        """For a row of n entries, in some stretches, that are dealt out to so many slots."""
        most = most_buckets(n, longest)
        spot = np.uint16 if slots <= 2**16 else np.uint32
        bucket = np.uint16 if most <= 2**16 else np.uint32
        return cls(
            noted=memory.empty(n, bucket if notes_buckets else spot),
            at=memory.empty((stretches, most), np.uint32),
            buckets=Buckets.for_rows(most),
            longest=longest,
            notes_buckets=notes_buckets,
        )


def most_buckets(n: int, longest: int) -> int:
    """How many there may be: any two that adjoin are too long for one; the last may be empty."""
    return 2 * n // longest + 3


def slots_for(n: int, longest: int, one_of: int) -> int:
    """How many slots the buckets of a row have at most, however it is cut; and one for entries that
    there is no room for."""
    if one_of == 1:
        return n + 1
    # All together have the most room if there are as many as may be, of one size.
    most = most_buckets(n, longest)
    return n + ceil(DEVIATIONS * sqrt(one_of * n * most)) + MORE_COUNTED * one_of * most + 1


class Dealer:
    """Memory to deal out the rows of a task, one at a time, each in some stretches, to buckets that
    are no longer, unless a bin is; or are not thought to be, where only a part is counted."""

    def __init__(
        self,
        task: Task,
        longest: int,
        memory: Memory,
        *,
        stretches: int,
        in_part: bool,
        notes_buckets: bool,
    ) -> None:
        n, dtype = task.rows.shape[1], task.rows.dtype
        self.task, self.n, self.memory = task, n, memory
        keys = np.dtype(f"u{dtype.itemsize}")
        self.limit = keys.type(np.iinfo(keys).max if task.limit is None else task.limit)
        self.slots = slots_for(n, longest, ONE_OF if in_part else 1)
        self.entries = Entries.of(self.slots, dtype, task.dtype, memory)
        self.dealt = Dealt.for_rows_of(
            memory, n, self.slots, longest, stretches=stretches, notes_buckets=notes_buckets
        )
        self.bins = Bins.for_rows_of(
            n, dtype, stretches, self.dealt.at.shape[1], memory, n // ONE_OF if in_part else 0
        )

    @cached_property
    def indices(self) -> Bits:
        """Memory for the index of each entry in its row."""
        return self.memory.empty(self.slots, np.int32)


@part
def deal_out_row(row: Bits, bins: Bins, dealt: Dealt, dealt_keys: Bits, indices: Bits) -> int:
    """Deal out all of a row; to how many buckets."""
    some = bins.some[: row.size // ONE_OF]
    seen, one_of = row, 1
    if some.size >= FEWEST_COUNTED:
        sample(row, some)
        seen, one_of = some, ONE_OF
    while True:
        look(seen, bins, ZERO)
        set_span(bins)
        count_bins(seen, bins, ZERO, dealt.noted)
        n_buckets, are_counted = cut(bins, dealt, one_of), one_of == 1
        deal_out(row, ZERO, bins, ZERO, are_counted, dealt.noted, dealt, dealt_keys, indices)
        if settle(dealt, n_buckets, are_counted):
            return n_buckets
        seen, one_of = row, 1


@inlined
def sample(row: Bits, some: Bits) -> None:
    """One of each few entries that follow one another; not always the same, as what repeats itself
    would be."""
    one_of = np.uint32(ONE_OF)
    for k in range(some.size):
        irregular = np.uint16(np.uint32(k) * np.uint32(IRREGULAR))
        within = (np.uint32(irregular) * one_of) >> np.uint32(IRREGULAR_BITS)
        some[k] = row[np.uint32(k) * one_of + within]


@kernel
def cut(bins: Bins, dealt: Dealt, one_of: int) -> int:
    """Put the bins of a row together to buckets, and empty their counts; how many buckets there
    are. Of so many entries one has been counted."""
    begins, totals = dealt.buckets.begins, bins.counts[0].copy()
    for s in range(1, bins.counts.shape[0]):
        totals += bins.counts[s]
    bucket, size = 0, 0
    begins[0] = 0
    for b in range(totals.size):
        count = one_of * int(totals[b])
        # A bin that is too long stays alone: where not all are counted, the next one may only seem
        # to be empty. In one branch that is rarely taken: which are could not be foretold.
        is_alone = size > dealt.longest
        if (size > 0) & (size + count > dealt.longest) & ((count > 0) | is_alone):
            begins[bucket + 1] = begins[bucket] + room_for(size, one_of)
            bucket, size = bucket + 1, 0
        size += count
        bins.bucket_of[b] = bucket
    begins[bucket + 1] = begins[bucket] + room_for(size, one_of)
    give_spots(bins, dealt, bucket + 1)
    bins.counts.fill(0)
    return bucket + 1


@inlined
def room_for(size: int, one_of: int) -> int:
    """How many slots a bucket gets that is thought to have so many entries."""
    if one_of == 1:
        return size
    return size + int(DEVIATIONS * sqrt(one_of * size)) + MORE_COUNTED * one_of


@part
def give_spots(bins: Bins, dealt: Dealt, n_buckets: int) -> None:
    """Give each stretch its first spot in each bucket."""
    at, counts = dealt.at, bins.counts
    for k in range(n_buckets):
        at[0, k] = dealt.buckets.begins[k]
    for s in range(counts.shape[0] - 1):
        for k in range(n_buckets):
            at[s + 1, k] = at[s, k]
        for b in range(counts.shape[1]):
            at[s + 1, bins.bucket_of[b]] += counts[s, b]


@kernel
def settle(dealt: Dealt, n_buckets: int, are_counted: bool) -> bool:
    """Note where buckets end when entries are dealt out; whether there was room for all."""
    begins, ends, ranks = dealt.buckets
    last = dealt.at[dealt.at.shape[0] - 1]
    has_room, rank = True, 0
    for k in range(n_buckets):
        # Where entries were counted, it is known, even if somebody has written to the row since.
        ends[k] = begins[k + 1] if are_counted else np.int64(last[k])
        has_room &= ends[k] <= begins[k + 1]
        ranks[k] = rank
        rank += ends[k] - begins[k]
    return has_room


@inlined
def magnitude_of_dealt(keys: Bits, buckets: Buckets, n_buckets: int, code: Code) -> Unsigned:
    """The greatest magnitude of entries that were dealt out, whose keys have that code."""
    begins, ends = buckets.begins, buckets.ends
    first, last = 0, n_buckets - 1
    while first < last and begins[first] == ends[first]:
        first += 1
    while first < last and begins[last] == ends[last]:
        last -= 1
    lowest, highest = keys[begins[first]], keys[begins[last]]
    for i in range(begins[first], ends[first]):
        lowest = min(lowest, keys[i])
    for i in range(begins[last], ends[last]):
        highest = max(highest, keys[i])
    return magnitude_of(lowest, highest, code)


@kernel
def deal_out(
    row: Bits,
    first_index: int,
    bins: Bins,
    stretch: int,
    may_be_noted: bool,
    noted: Bits,
    dealt: Dealt,
    dealt_keys: Bits,
    indices: Bits,
) -> None:
    """Write the key of each entry of a stretch to the next spot of its bucket; and if there is
    memory for it, its index in the row, where the stretch begins with that one.

    What each entry notes may have been the number of its bin.
    """
    at, are_noted = dealt.at[stretch], may_be_noted and can_note_bins(bins, noted)
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
        # Asked here, and not for each entry.
        if indices.size > 0:
            deal_out_chunk(
                keys, bin_of, first_index + begin, bins.bucket_of, at, dealt.notes_buckets, own,
                dealt_keys, indices,
            )  # fmt: skip
        else:
            deal_out_chunk(
                keys, bin_of, first_index + begin, bins.bucket_of, at, dealt.notes_buckets, own,
                dealt_keys, None,
            )  # fmt: skip


@uncounted_part
def deal_out_chunk(
    keys: Bits,
    bin_of: Bits,
    first_index: int,
    bucket_of: Bits,
    at: Bits,
    notes_buckets: bool,
    noted: Bits,
    dealt_keys: Bits,
    indices: Bits | None,
) -> None:
    """The same for some entries, as many as there is to note, whose bins are known."""
    width, in_words = width_of(noted), 0
    per_word = BITS_OF_WORD // width
    if IS_LITTLE_ENDIAN:
        in_words = noted.size - noted.size % per_word
    last_spot = np.uint32(dealt_keys.size - 1)
    for i in range(0, in_words, per_word):
        word = np.uint64(0)
        for j in range(per_word):
            note = deal_out_one(
                keys[i + j], bucket_of[bin_of[i + j]], first_index + i + j, at, last_spot,
                notes_buckets, dealt_keys, indices,
            )  # fmt: skip
            word |= np.uint64(note) << np.uint64(width * j)
        store_word(word, noted, i)
    for i in range(in_words, noted.size):
        noted[i] = deal_out_one(
            keys[i], bucket_of[bin_of[i]], first_index + i, at, last_spot, notes_buckets,
            dealt_keys, indices,
        )  # fmt: skip


@inlined
def deal_out_one(
    key: Unsigned,
    bucket: Unsigned,
    index: int,
    at: Bits,
    last_spot: Unsigned,
    notes_buckets: bool,
    dealt_keys: Bits,
    indices: Bits | None,
) -> Unsigned:
    """Write the key of an entry, and if anybody asks, its index; what it notes."""
    spot = min(at[bucket], last_spot)  # where there is no room left, or somebody writes to the row
    at[bucket] = spot + np.uint32(1)
    dealt_keys[spot] = key
    if dealt_keys.size > LONGEST_NEAR:
        fetch(dealt_keys, np.int64(spot) + AHEAD)
    if indices is not None:
        indices[spot] = index
    return bucket if notes_buckets else spot
