"""Values that many entries of a long row share: set aside, so that only the rest has to be ranked.

Activations behind a ReLU, counts, rain and clipped signals have one or two such values. The rest is
a shorter row, whose ranks have gaps where the common values are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from groupmap.backends._bits import Bits, Code, Unsigned, as_bits
from groupmap.backends.kernels.compiled import counted_part, inlined, kernel, part
from groupmap.backends.kernels.keys import bits_of, key_at
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.sampling import sampled_indices
from groupmap.backends.kernels.task import Task
from groupmap.backends.kernels.values import Tie, value_of_ties
from groupmap.backends.kernels.vectors import BITS_OF_VECTOR, IS_FAST, append_where, take_where

LEAST_FIRST, LEAST_SECOND = 12, 6  # equal ones among them that make a value common, and another

CHUNK = 1024  # entries that are gone through more than once while they are near
BYTES = BITS_OF_VECTOR // 8
WHOLE = -1
MOST_LEFT = 7 / 8  # of a row; where it is more, a sample has erred

Two = tuple[int, int]
# Behind so many entries of the rest so many ranks are left out; twice.
Gaps = tuple[int, int, int, int]
NO_GAPS: Gaps = (0, 0, 0, 0)


class Rest(NamedTuple):
    """What some rows are without their common values, and memory for it."""

    bits: Bits  # (r, n), of which there are fewer
    values: Bits  # of these, perhaps in their place
    sampled: Bits  # indices of the entries that are looked at
    sizes: Bits  # how many entries are left in each row; or that it is `WHOLE`
    # (r, 4): those of a common value and of a greater one, two each since zero has two. Where there
    # is no other, they are those of the first again.
    patterns: Bits
    gaps: Bits  # (r, 4): the `Gaps` between the ranks of what is left; none in rows that are whole
    two: Bits  # values (r, 2) of the entries that were set aside

    @classmethod
    def for_rows_of(cls, task: Task, bits: Bits, memory: Memory) -> Rest:
        """For as many rows, which may be divided, as there is memory for bits of."""
        assert task.table is not None
        n_rows, n = bits.shape
        dtype, kind = bits.dtype, task.table.dtype
        values = bits
        if kind != bits.dtype:
            values = memory.empty((n_rows, n), kind)
        return cls(
            bits,
            values,
            sampled=sampled_indices(n),
            sizes=np.full(n_rows, WHOLE),
            patterns=np.empty((n_rows, 4), dtype=dtype),
            gaps=np.zeros((n_rows, 4), dtype=np.int64),
            two=np.empty((n_rows, 2), dtype=kind),
        )

    @classmethod
    def of_whole_rows(cls, task: Task, n_rows: int) -> Rest:
        """For rows of which nothing is set aside."""
        dtype, kind = task.code.top.dtype, f"u{task.dtype.itemsize}"
        return cls(
            bits=np.empty((0, 0), dtype=dtype),
            values=np.empty((0, 0), dtype=kind),
            sampled=sampled_indices(task.rows.shape[1]),
            sizes=np.full(n_rows, WHOLE),
            patterns=np.empty((0, 4), dtype=dtype),
            gaps=np.zeros((n_rows, 4), dtype=np.int64),
            two=np.empty((0, 2), dtype=kind),
        )


def _left_out(gaps: Gaps, rank: Any) -> Any:
    """How many ranks of the row are left out before that one of its rest."""
    less, n_first, less_than_second, n_second = gaps
    return n_first * (rank >= less) + n_second * (rank >= less_than_second)


left_out = inlined(_left_out)


def table_at(table: Bits, gaps: Gaps, ranks: slice | Bits) -> Bits:
    """The table for those ranks of a rest. Between two that do not adjoin in the whole row stands
    anything: only entries whose ranks adjoin can be equal."""
    if isinstance(ranks, slice):
        before = _left_out(gaps, ranks.start)
        if before == _left_out(gaps, ranks.stop - 1):
            return table[2 * (ranks.start + before) : 2 * (ranks.stop + before) - 1]
        ranks = np.arange(ranks.start, ranks.stop)
    in_row: Bits = ranks + _left_out(gaps, ranks)
    own = np.empty(2 * in_row.size - 1, dtype=table.dtype)
    own[::2], own[1::2] = table[2 * in_row], table[2 * in_row[:-1] + 1]
    return own


@counted_part
def table_across(table: Bits, gaps: Gaps, begin: int, end: int) -> Bits:
    """The same for ranks from one up to another, in compiled code."""
    own = np.empty(2 * (end - begin) - 1, dtype=table.dtype)
    for i in range(own.size):
        own[i] = table[2 * begin + i + 2 * left_out(gaps, begin + i // 2)]
    return own


@kernel
def set_aside_in_rows(rows: Bits, code: Code, table: Bits, tie: Tie, rest: Rest) -> Unsigned:
    """Divide the rows that have common values; the greatest magnitude of these comes back."""
    magnitude = rows.dtype.type(0)
    for r in range(rows.shape[0]):
        magnitude = max(magnitude, set_aside(rows[r], code, table, tie, rest, r))
    return magnitude


@part
def set_aside(row: Bits, code: Code, table: Bits, tie: Tie, rest: Rest, r: int) -> Unsigned:
    """Divide a row, the r-th, if it has common values; their greatest magnitude comes back."""
    patterns = rest.patterns[r]
    rest.sizes[r], rest.gaps[r] = WHOLE, 0
    if not find_common(row[rest.sampled], code, patterns):
        return row.dtype.type(0)
    size, n_first, n_second = squeeze(row, patterns, rest.bits[r])
    if size > MOST_LEFT * row.size:
        return row.dtype.type(0)
    less = count_less(rest.bits[r, :size], patterns, code)
    rest.sizes[r] = size
    set_gaps(table, tie, (n_first, n_second), less, rest.gaps[r], rest.two[r])
    return max(patterns[0] & code.flip, patterns[2] & code.flip)


def has_common_between(row: np.ndarray[Any, Any], code: Code) -> bool:
    """Whether many entries seem to share a value between the least of the row and the greatest."""
    some = as_bits(row)[sampled_indices(row.size)]
    patterns = np.empty(4, dtype=some.dtype)
    if not find_common(some, code, patterns):
        return False
    values = patterns.view(row.dtype)
    return bool(np.any((np.min(row) < values) & (values < np.max(row))))


@kernel
def are_to_be_divided(rows: Bits, code: Code, sampled: Bits) -> bool:
    """Whether any row seems to have common values: where none has, which is often so, nothing else
    of this file needs to be compiled."""
    patterns = np.empty(4, dtype=rows.dtype)
    are = False
    for r in range(rows.shape[0]):
        are |= find_common(rows[r][sampled], code, patterns)
    return are


@kernel
def find_common(some: Bits, code: Code, patterns: Bits) -> bool:
    """Whether some entries of a row have common values, and the four `patterns`."""
    size = some.size
    sample, counts = np.empty(size, dtype=some.dtype), np.empty(size, dtype=np.int32)
    for i in range(size):
        sample[i] = key_at(some, i, code)
    for i in range(size):
        counts[i] = 0
        for j in range(size):
            counts[i] += sample[j] == sample[i]
    first = np.argmax(counts)
    if counts[first] < LEAST_FIRST:
        return False
    for i in range(size):
        counts[i] = 0 if sample[i] == sample[first] else counts[i]
    second = np.argmax(counts)
    second = second if counts[second] >= LEAST_SECOND else first
    lesser = first if sample[first] <= sample[second] else second
    for k, which in enumerate((lesser, first + second - lesser)):
        bits = bits_of(sample[which], code)
        patterns[2 * k] = bits
        patterns[2 * k + 1] = code.negative_zero if bits == 0 else bits
    return True


@inlined
def find_others(some: Bits, patterns: Bits, flags: Bits) -> None:
    """Flag the entries that are neither of the two."""
    first, first_too, second, second_too = patterns[0], patterns[1], patterns[2], patterns[3]
    for i in range(some.size):
        bits = some[i]
        is_first = (bits == first) | (bits == first_too)
        flags[i] = not (is_first | (bits == second) | (bits == second_too))


@kernel
def squeeze(row: Bits, patterns: Bits, rest: Bits) -> tuple[int, int, int]:
    """Write the other entries to `rest`, one behind the other.

    How many these are comes back, and how many have each of the two values. There is memory for
    the whole row.
    """
    n_rest, n_first = 0, 0
    first, first_too = patterns[0], patterns[1]
    near, flags = np.empty(CHUNK, dtype=row.dtype), np.empty(CHUNK, dtype=np.uint8)
    for begin in range(0, row.size, CHUNK):
        some = near[: min(row.size - begin, CHUNK)]
        theirs = row[begin : begin + CHUNK]
        for i in range(some.size):
            some[i] = theirs[i]  # which somebody else may write to in the meantime
        find_others(some, patterns, flags)
        for i in range(some.size):
            n_first += (some[i] == first) | (some[i] == first_too)
        in_vectors = 0
        if IS_FAST:
            lanes = BYTES // row.itemsize
            in_vectors = some.size - some.size % lanes
            for i in range(0, in_vectors, lanes):
                n_rest = append_where(flags, some, i, rest, n_rest)
        for i in range(in_vectors, some.size):
            rest[np.uint64(n_rest)] = some[i]
            n_rest += flags[i]
    return n_rest, n_first, row.size - n_rest - n_first


@kernel
def count_less(rest: Bits, patterns: Bits, code: Code) -> Two:
    """How many entries are less than each of the two values."""
    ends = np.empty(2, dtype=rest.dtype)
    ends[0], ends[1] = patterns[0], patterns[2]
    first, second = key_at(ends, 0, code), key_at(ends, 1, code)
    less_than_first = less_than_second = 0
    for i in range(rest.size):
        key = key_at(rest, i, code)
        less_than_first += key < first
        less_than_second += key < second
    return less_than_first, less_than_second


@kernel
def set_gaps(table: Bits, tie: Tie, counts: Two, less: Two, gaps: Bits, two: Bits) -> None:
    """Write the gaps that the two values leave, and what becomes of these."""
    n_first, n_second = counts
    gaps[0], gaps[1], gaps[2], gaps[3] = less[0], n_first, less[1], n_second
    behind_first, behind_second = less[0] + n_first, less[1] + n_first + n_second
    two[:] = table[0]
    if n_first > 0:
        two[:] = value_of_ties(less[0], behind_first, table, tie)
    if n_second > 0:
        two[1] = value_of_ties(behind_second - n_second, behind_second, table, tie)


@kernel
def spread(row: Bits, patterns: Bits, two: Bits, of_rest: Bits, out: Bits) -> int:
    """The value of each entry of a row: one of the two, or the next `of_rest`.

    How many of these were taken comes back. There is memory for as many as the row is long, since
    somebody else may write to it in the meantime.
    """
    n_rest = 0
    first, first_too = patterns[0], patterns[1]
    value_of_first, value_of_second = two[0], two[1]
    flags = np.empty(CHUNK, dtype=np.uint8)
    for begin in range(0, row.size, CHUNK):
        some, own_out = row[begin : begin + CHUNK], out[begin : begin + CHUNK]
        find_others(some, patterns, flags)
        for i in range(some.size):
            is_first = (some[i] == first) | (some[i] == first_too)
            own_out[i] = value_of_first if is_first else value_of_second
        in_vectors = 0
        if IS_FAST:
            lanes = BYTES // out.itemsize
            in_vectors = some.size - some.size % lanes
            for i in range(0, in_vectors, lanes):
                n_rest = take_where(flags, of_rest, n_rest, own_out, i)
        for i in range(in_vectors, some.size):
            value = of_rest[np.uint64(n_rest)]
            own_out[i] = value if flags[i] else own_out[i]
            n_rest += flags[i]
    return n_rest
