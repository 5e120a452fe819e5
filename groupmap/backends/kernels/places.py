"""Floats by their places on a line, one row of few different values after the other.

Floats that were whole numbers once are as far apart as these, so that each has a place of its own;
and what stands at a place says whether an entry is equal to it. Where two different ones share a
place, or an entry has none, all of it is given up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from groupmap.backends._bits import INFINITY, Bits, Code, Rows, Unsigned, code_of
from groupmap.backends.kernels.compiled import inlined, uncounted_kernel, uncounted_part
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.sampling import sampled_indices

TRIED_FIRST = 2**7  # entries of one row, which are all different where no two are equal
SAMPLE = 2**10  # entries of each
PLACE_BITS = 11  # so that what is known of a row of 32 bits, and its counts, stay in the cache
PLACES = 2**PLACE_BITS
APART = 1.5  # places from one value to the next: at least one, however it is rounded
COPIES = 4  # of each count: the same one would often be awaited
AT_ONCE = 2**9  # entries that are looked at again where one of them is new
PART = 2**12  # entries of a row at a time, which stay in the cache for the next row


class Lines(NamedTuple):
    """Where the values of each row have their places: from `first` on, `scale` for each unit."""

    first: Rows  # (row)
    scale: Rows  # (row)


def may_be_few(row: Rows) -> bool:
    """Whether the values of a row may be few, as far as some of its entries tell."""
    return len(_different(row[sampled_indices(row.size, TRIED_FIRST)])) < TRIED_FIRST


@np.errstate(all="ignore")  # what does not fit is given up
def lines_of(rows: Rows) -> Lines | None:
    """The places of values that are as far apart as those of some entries; None where that would be
    too many."""
    some = rows[:, sampled_indices(rows.shape[1], SAMPLE)]
    lines = Lines(*np.empty((2, len(rows)), dtype=rows.dtype))
    for r, each in enumerate(some):
        values = _different(each).astype(np.float64)
        if not np.isfinite(values[-1] - values[0]):
            return None
        # A single value has as much room as any.
        gap = np.min(np.diff(values)) if len(values) > 1 else max(abs(values[0]), 1.0)
        scale = APART / gap
        span = (values[-1] - values[0]) * scale
        if span >= PLACES:
            return None
        lines.scale[r], lines.first[r] = scale, values[0] - (PLACES - span) / (2.0 * scale)
    are_finite = np.isfinite(lines.first) & np.isfinite(lines.scale)
    return lines if np.all(are_finite) else None


def _different(values: Rows) -> Rows:
    """The same in ascending order, each once; as `numpy.unique`, which takes twice as long."""
    ascending = np.sort(values)
    different: Rows = ascending[np.append(True, ascending[1:] != ascending[:-1])]
    return different


class Tally(NamedTuple):
    """What one thread has counted."""

    bits: Bits  # (row, place): of what stands there, all ones where nothing does
    counts: Bits  # (row, copy, place)

    @classmethod
    def of_rows(cls, n_rows: int, dtype: np.dtype[Any], memory: Memory) -> Tally:
        """A tally of rows of bit patterns of that dtype, of which nothing is counted yet."""
        bits = memory.empty((n_rows, PLACES), dtype)
        counts = memory.empty((n_rows, COPIES, PLACES), np.uint32)
        bits.fill(np.iinfo(dtype).max)
        counts.fill(0)
        return cls(bits, counts)


def added_up(tallies: list[Tally], dtype: np.dtype[Any]) -> tuple[Rows, Bits] | None:
    """What stands at each place, and how often; None where not all have found the same there."""
    code, infinity = code_of(dtype), INFINITY[dtype.itemsize]
    at_place = np.empty_like(tallies[0].bits)
    total = np.zeros(at_place.shape, dtype=np.int64)
    are_alike = [add_up(tally, code, infinity, at_place, total) for tally in tallies]
    return (at_place.view(dtype), total) if all(are_alike) else None


@uncounted_kernel
def add_up(tally: Tally, code: Code, infinity: Unsigned, at_place: Bits, total: Bits) -> bool:
    """Add one tally to what others have found; False where something else stands at a place."""
    n_rows, n_copies, n_places = tally.counts.shape
    for r in range(n_rows):
        for place in range(n_places):
            count = np.int64(0)
            for copy in range(n_copies):
                count += np.int64(tally.counts[r, copy, place])
            bits = tally.bits[r, place]
            if count > 0:
                if bits == code.negative_zero:
                    bits = bits ^ bits
                # A NaN that is all ones looks like what stands where nothing does.
                is_nan = bits & code.flip > infinity
                if is_nan or (total[r, place] > 0 and at_place[r, place] != bits):
                    return False
                at_place[r, place] = bits
                total[r, place] += count
    return True


@uncounted_kernel
def count_columns(columns: Rows, lines: Lines, tally: Tally, near: Rows, places: Bits) -> bool:
    """Count the values of some columns, and write down the places; False where an entry has none of
    its own.

    There is memory for all of the places, or else for those of a part; and for entries `near`.
    """
    n_rows, n = columns.shape
    keeps_places = places.shape[1] >= n
    for begin in range(0, n, PART):
        end = min(begin + PART, n)
        first = begin if keeps_places else 0
        for r in range(n_rows):
            part, of_part = columns[r, begin:end], places[r, first : first + end - begin]
            for start in range(0, part.size, AT_ONCE):
                stop = min(start + AT_ONCE, part.size)
                some, of_some = near[: stop - start], of_part[start:stop]
                for i in range(some.size):
                    some[i] = part[start + i]  # which is slow to take where they lie apart
                are_known = count_known(some, lines, tally, r, of_some)
                if not (are_known or count_new(some, lines, tally, r, of_some)):
                    return False
    return True


@inlined
def count_known(some: Rows, lines: Lines, tally: Tally, r: int, places: Bits) -> bool:
    """Count entries of a row; whether all of them stand where they are known, without a branch
    until the end."""
    first, scale = lines.first[r], lines.scale[r]
    bits_at, counts = tally.bits[r], tally.counts[r].reshape(-1)
    bits, word = some.view(bits_at.dtype), bits_at.dtype.type
    for i in range(some.size):
        # Of what lies beyond the line, any of its places: what stands there is another value.
        places[i] = np.uint16(np.int32((some[i] - first) * scale) & np.int32(PLACES - 1))
    differ = word(0)
    for i in range(some.size):
        place = places[i]
        differ = word(differ | (bits_at[place] ^ bits[i]))
        counts[(np.uint64(i & (COPIES - 1)) << np.uint64(PLACE_BITS)) + place] += np.uint32(1)
    return bool(differ == 0)


@uncounted_part
def count_new(some: Rows, lines: Lines, tally: Tally, r: int, places: Bits) -> bool:
    """The same after that has failed, for entries that may be new; False as above."""
    first, scale, bits_at = lines.first[r], lines.scale[r], tally.bits[r]
    bits, word = some.view(bits_at.dtype), bits_at.dtype.type
    nothing = word(~word(0))
    for i in range(some.size):
        own, counts = bits[i], tally.counts[r, i & (COPIES - 1)]
        counts[places[i]] -= np.uint32(1)
        distance = (some[i] - first) * scale
        if not 0 <= distance < PLACES:  # nor NaN
            return False
        place = np.uint16(distance)
        if bits_at[place] == nothing:
            bits_at[place] = own
        # By bits: compiled code may be told to take subnormals for zero.
        are_zeros = word((bits_at[place] | own) << word(1)) == 0
        if bits_at[place] != own and not are_zeros:
            return False
        places[i] = place
        counts[place] += np.uint32(1)
    return True
