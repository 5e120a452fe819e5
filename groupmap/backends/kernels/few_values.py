"""Long rows of few different floats, such as photographs have: counted, not sorted, and looked up.

A level is a number that the thread gives to a value when it first meets it. Where to look for the
level of an entry tells a hash of its bits, and the bits of that level whether it is the one. Some
entries tell beforehand which values there are, so that most likely no two of them share a hash.

Rows are handed out by columns: the channels of an image lie side by side, and what is fetched for
one of them serves the next, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from groupmap.backends._bits import INFINITY, Bits, Unsigned, as_bits, code_of
from groupmap.backends.kernels.compiled import uncounted
from groupmap.backends.kernels.memory import SIDE_BY_SIDE, Lend, Memory, lent
from groupmap.backends.kernels.sampling import sampled_indices
from groupmap.backends.kernels.threads import over_rows
from groupmap.backends.kernels.words import bits_to_shift

Rows = np.ndarray[Any, Any]

SHORTEST, MOST_ROWS = 2**16, 16
SAMPLE, MOST_IN_SAMPLE = 2**10, 384  # entries, and values of them, where those of the row are few
TRIED_FIRST = 2**7  # of them, all different where the values are many
LEVEL_BITS = 10
MOST_LEVELS = 2**LEVEL_BITS - 1  # 0 is none of them
SLOT_BITS = 13
COPIES = 4  # of each count: the same one would often be awaited
AT_ONCE = 2**9  # entries that are looked at again where one of them is new
PART = 2**12  # entries of a row at a time, which stay in the nearest cache
ENTRIES_PER_BLOCK = 2**18
MULTIPLIERS = {4: 0x9E3779B1, 8: 0x9E3779B97F4A7C15}  # the golden section of a word
TRIES = 2**8


class Known(NamedTuple):
    """The levels that one thread knows, of each row; none has the number 0."""

    level_at: Bits  # (row, slot): 0 where there is none
    bits: Bits  # (row, level): those of a NaN where there is none
    sizes: Bits  # (row): one more than there are levels
    counts: Bits  # (row, copy, level)

    @classmethod
    def of_rows(cls, n_rows: int, dtype: np.dtype[Any]) -> Known:
        """Memory for rows of bit patterns of that dtype, of which nothing is known yet."""
        return cls(
            np.zeros((n_rows, 2**SLOT_BITS), dtype=np.uint16),
            np.full((n_rows, 2**LEVEL_BITS), np.iinfo(dtype).max, dtype=dtype),
            np.ones(n_rows, dtype=np.int64),
            np.zeros((n_rows, COPIES, 2**LEVEL_BITS), dtype=np.uint32),
        )

    def copy(self) -> Known:
        """The same for another thread."""
        return Known(*(each.copy() for each in self))


class Ask(NamedTuple):
    """Which rows are counted, and how."""

    bits: Bits
    multipliers: Bits  # of each row
    flip: Unsigned  # the bits of a magnitude
    limit: Unsigned  # of the magnitudes
    keeps_levels: bool


class Counter:
    """What one thread counts, and the memory for it."""

    def __init__(self, known: Known, memory: Memory) -> None:
        self.known, self.memory = known, memory
        self.blocks: list[tuple[int, int, Bits]] = []  # of columns: from one up to another, levels

    def count(self, ask: Ask, begin: int, end: int) -> bool:
        """Count the levels of some columns; whether these are few."""
        length = end - begin if ask.keeps_levels else PART
        levels = self.memory.empty((len(ask.bits), length), np.uint16)
        self.blocks.append((begin, end, levels))
        columns = ask.bits[:, begin:end]
        return bool(count_columns(columns, ask, self.known, levels))


class FewValues:
    """The different values of each of some rows ``(..., n)`` in ascending order, and how often each
    occurs.

    Rows that have fewer than others are filled up with the greatest, which occurs no more.
    """

    def __init__(
        self, rows: Rows, counters: list[Counter], levels: list[Bits], threads: int
    ) -> None:
        """The first of the counters knows all levels; for each of them, which its own are there."""
        self.rows, self.counters, self.threads = rows, counters, threads
        numbers, less_equal, places = in_order(counters[0].known, rows.dtype)
        less = np.zeros_like(less_equal)
        less[:, 1:] = less_equal[:, :-1]
        shape = (*rows.shape[:-1], numbers.shape[1])
        self.numbers, self.less, self.less_equal = (
            each.reshape(shape) for each in (numbers, less, less_equal)
        )
        self.places = [np.take_along_axis(places, each, axis=1) for each in levels]

    def look_up(self, values: Rows) -> Rows:
        """What of the values ``(..., k)`` belongs to each entry; as the rows lie in memory."""
        rows = self.rows.reshape(-1, self.rows.shape[-1])
        result = np.empty_like(rows, dtype=values.dtype, subok=False)
        out, values = as_bits(result), as_bits(values.reshape(-1, values.shape[-1]))
        jobs = []
        for counter, places in zip(self.counters, self.places, strict=True):
            of_levels = np.take_along_axis(values, places, axis=1)
            jobs += [(each[2], of_levels, out[:, each[0] : each[1]]) for each in counter.blocks]

        def work(_: None, begin: int, end: int) -> None:
            for job in jobs[begin:end]:
                take(*job)

        over_rows(
            work, lambda _: None, len(jobs), -(-rows.size // len(jobs)),
            entries_per_block=1, threads=self.threads,
        )  # fmt: skip
        return result.reshape(self.rows.shape)


def in_order(known: Known, dtype: np.dtype[Any]) -> tuple[Rows, Bits, Bits]:
    """The values of all levels, in ascending order; how many entries are at most equal to each; and
    the place of each level among them."""
    size = known.sizes.max()
    values = known.bits[:, 1:size].view(dtype) + dtype.type(0)  # of which none is negative zero
    counts = known.counts[:, :, 1:size].sum(axis=1, dtype=np.int64)
    order = np.argsort(values, axis=1)
    ascending = np.take_along_axis(values, order, axis=1)
    place = np.zeros(order.shape, dtype=np.int64)
    # NaN, where a row has no more, lies behind and is equal to none.
    np.cumsum(ascending[:, 1:] != ascending[:, :-1], axis=1, out=place[:, 1:])
    n_places = np.max(place, where=~np.isnan(ascending), initial=0) + 1
    numbers, less_equal = np.empty_like(ascending), np.empty_like(counts)
    np.put_along_axis(numbers, place, ascending, axis=1)
    # Of several at one place the last one is right, and is the one that stays.
    ends = np.cumsum(np.take_along_axis(counts, order, axis=1), axis=1)
    np.put_along_axis(less_equal, place, ends, axis=1)
    places = np.zeros(known.bits.shape, dtype=np.int64)
    np.put_along_axis(places, order + 1, place, axis=1)
    return np.fmax.accumulate(numbers[:, :n_places], axis=1), less_equal[:, :n_places], places


@contextmanager
def few_values(
    rows: Rows, *, threads: int, may_be_infinite: bool, with_levels: bool
) -> Iterator[FewValues | None]:
    """The values of rows ``(..., n)`` of any strides; None where they are many, or one is NaN, or
    infinite where it may not be.

    With the levels of the entries they can be looked up, until the end.
    """
    flat = rows.reshape(-1, rows.shape[-1])
    of_sample = values_of_sample(flat, may_be_infinite) if can_be_counted(flat) else None
    if of_sample is None:
        yield None
        return
    known, multipliers = _first_known(of_sample)
    limit = _limit(rows.dtype, may_be_infinite)
    ask = Ask(as_bits(flat), multipliers, code_of(rows.dtype).flip, limit, with_levels)
    with lent() as lend:
        counters = _counted(ask, known, lend, threads)
        levels = _numbered_alike(ask, counters)
        yield FewValues(rows, counters, levels, threads) if levels else None


def can_be_counted(rows: Rows) -> bool:
    """Whether rows of that shape and dtype are worth a look."""
    n_rows, n = rows.shape
    is_known = rows.dtype in (np.float32, np.float64)
    return is_known and 1 <= n_rows <= MOST_ROWS and SHORTEST <= n < 2**32


def values_of_sample(rows: Rows, may_be_infinite: bool) -> list[Bits] | None:
    """The bits of the different values among some entries of each row; None where they are many,
    or greater than they may be."""
    some = as_bits(rows[:, sampled_indices(rows.shape[1], SAMPLE)])
    if len(_different(some[0, :: SAMPLE // TRIED_FIRST])) == TRIED_FIRST:
        return None
    if np.any(some & code_of(rows.dtype).flip > _limit(rows.dtype, may_be_infinite)):
        return None
    values = [_different(each) for each in some]
    return values if max(map(len, values)) <= MOST_IN_SAMPLE else None


def _different(bits: Bits) -> Bits:
    """The same in ascending order, each once; as `numpy.unique`, which takes twice as long."""
    ascending = np.sort(bits)
    different: Bits = ascending[np.append(True, ascending[1:] != ascending[:-1])]
    return different


def _limit(dtype: np.dtype[Any], may_be_infinite: bool) -> Unsigned:
    infinity = INFINITY[dtype.itemsize]
    return infinity - infinity.dtype.type(not may_be_infinite)


def _first_known(of_rows: list[Bits]) -> tuple[Known, Bits]:
    """Levels for the values of some rows, and what the bits of each row are multiplied by."""
    dtype = of_rows[0].dtype
    first = dtype.type(MULTIPLIERS[dtype.itemsize])
    multipliers = np.asarray([find_multiplier(values, first) for values in of_rows], dtype)
    known = Known.of_rows(len(of_rows), dtype)
    for r, values in enumerate(of_rows):
        enter_all(values, multipliers[r], known, r)
    return known, multipliers


def _counted(ask: Ask, known: Known, lend: Lend, threads: int) -> list[Counter]:
    """What each of the threads has counted, which begins with the levels that are known; nothing
    where there are too many."""
    counters: list[Counter] = []
    are_many: list[bool] = []

    def own(_: int) -> Counter:
        counters.append(Counter(known.copy(), lend()))
        return counters[-1]

    def work(counter: Counter, begin: int, end: int) -> None:
        if not are_many and not counter.count(ask, begin, end):
            are_many.append(True)

    n_rows, n = ask.bits.shape
    over_rows(work, own, n, n_rows, entries_per_block=ENTRIES_PER_BLOCK, threads=threads)
    # A NaN may have been taken for what lies where there is nothing.
    nothing = any(np.any(counter.known.counts[:, :, 0]) for counter in counters)
    return [] if are_many or nothing else counters


def _numbered_alike(ask: Ask, counters: list[Counter]) -> list[Bits]:
    """For each counter which level of the first one each of its own is, ``(row, level)``, and the
    first one knows all of them; nothing where it has no room."""
    levels = []
    for counter in counters:
        levels.append(np.zeros((len(ask.bits), 2**LEVEL_BITS), dtype=np.int64))
        if counter is counters[0]:
            levels[0][...] = np.arange(2**LEVEL_BITS)
        elif not add_counts(counter.known, counters[0].known, ask.multipliers, levels[-1]):
            return []
    return levels


@njit(nogil=True, cache=True)
def find_multiplier(values: Bits, first: Unsigned) -> Unsigned:
    """Of some multipliers the first that gives each value a slot of its own, or the one that lets
    fewest share one."""
    word, shift = values.dtype.type, bits_to_shift(values, 8 * values.itemsize - SLOT_BITS)
    taken_by = np.zeros(2**SLOT_BITS, dtype=np.uint16)
    best, fewest = first, values.size
    for k in range(1, TRIES + 1):
        multiplier = word(first * word(2 * k - 1))
        n_shared = 0
        for i in range(values.size):
            slot = word(values[i] * multiplier) >> shift
            n_shared += taken_by[slot] == k
            taken_by[slot] = k
        if n_shared < fewest:
            best, fewest = multiplier, n_shared
        if n_shared == 0:
            break
    return best


@njit(nogil=True, cache=True)
def enter_all(values: Bits, multiplier: Unsigned, known: Known, r: int) -> None:
    """Give a level to each of some values of a row."""
    word, shift = values.dtype.type, bits_to_shift(values, 8 * values.itemsize - SLOT_BITS)
    for i in range(values.size):
        enter(values[i], word(values[i] * multiplier) >> shift, known, r)


@uncounted
def enter(bits: Unsigned, slot: Unsigned, known: Known, r: int) -> Unsigned:
    """The level of a value of a row, from that slot on, new or not; 0 where there are too many."""
    level_at, bits_of_level, place = known.level_at[r], known.bits[r], np.int64(slot)
    while level_at[place] > 0:
        if bits_of_level[level_at[place]] == bits:
            return level_at[place]
        place = (place + 1) & (2**SLOT_BITS - 1)
    level = known.sizes[r]
    if level <= MOST_LEVELS:
        level_at[place], bits_of_level[level] = level, bits
        known.sizes[r] += 1
    return level_at[place]


@uncounted
def add_counts(known: Known, to: Known, multipliers: Bits, levels: Bits) -> bool:
    """Add the counts of some levels to those that others have of the same values, and write down
    which these are; False where there are too many."""
    word, shift = to.bits.dtype.type, bits_to_shift(to.bits, 8 * to.bits.itemsize - SLOT_BITS)
    for r in range(levels.shape[0]):
        for level in range(1, known.sizes[r]):
            bits = known.bits[r, level]
            own = enter(bits, np.uint16(word(bits * multipliers[r]) >> shift), to, r)
            if own == 0:
                return False
            levels[r, level] = own
            for copy in range(COPIES):
                to.counts[r, copy, own] += known.counts[r, copy, level]
    return True


@uncounted
def count_columns(columns: Bits, ask: Ask, known: Known, levels: Bits) -> bool:
    """Count the levels of some columns, and write them down if they are to be kept; False where
    there are too many, or a value has a greater magnitude than the limit.

    There is memory for all of them, or else for those of a part.
    """
    n_rows, n = columns.shape
    for begin in range(0, n, PART):
        end = min(begin + PART, n)
        first = begin if ask.keeps_levels else 0
        for r in range(n_rows):
            part, own_levels = columns[r, begin:end], levels[r, first : first + end - begin]
            for start in range(0, part.size, AT_ONCE):
                stop = min(start + AT_ONCE, part.size)
                some, of_some = part[start:stop], own_levels[start:stop]
                are_known = count_known(some, ask, known, r, of_some)
                if not (are_known or count_and_enter(some, ask, known, r, of_some)):
                    return False
    return True


@njit(inline="always")
def count_known(some: Bits, ask: Ask, known: Known, r: int, levels: Bits) -> bool:
    """Count entries of a row; whether all of them are known, without a branch until the end."""
    word, shift = some.dtype.type, bits_to_shift(known.bits, 8 * some.itemsize - SLOT_BITS)
    level_at, bits_of_level = known.level_at[r], known.bits[r]
    counts, multiplier = known.counts[r].reshape(-1), ask.multipliers[r]
    differ = word(0)
    for i in range(some.size):
        own = some[i]
        level = level_at[word(own * multiplier) >> shift]
        differ = word(differ | (bits_of_level[level] ^ own))
        levels[i] = level
        counts[(np.uint64(i & (COPIES - 1)) << np.uint64(LEVEL_BITS)) + level] += np.uint32(1)
    return bool(differ == 0)


@uncounted
def count_and_enter(some: Bits, ask: Ask, known: Known, r: int, levels: Bits) -> bool:
    """The same after that has failed, for entries that may be new; False as above."""
    word, shift = some.dtype.type, bits_to_shift(known.bits, 8 * some.itemsize - SLOT_BITS)
    for i in range(some.size):
        own, counts = some[i], known.counts[r, i & (COPIES - 1)]
        counts[levels[i]] -= np.uint32(1)
        level = enter(own, np.uint16(word(own * ask.multipliers[r]) >> shift), known, r)
        if level == 0 or own & ask.flip > ask.limit:
            return False
        levels[i] = level
        counts[level] += np.uint32(1)
    return True


@uncounted
def take(levels: Bits, values: Bits, out: Bits) -> None:
    """The value of each entry's level."""
    n_rows, n = levels.shape
    for begin in range(0, n, SIDE_BY_SIDE):
        end = min(begin + SIDE_BY_SIDE, n)
        for r in range(n_rows):
            part, own_values, own_out = levels[r, begin:end], values[r], out[r, begin:end]
            for i in range(part.size):
                own_out[i] = own_values[part[i]]
