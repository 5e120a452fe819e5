"""Words of the entries of a long row, dealt out to segments that follow one another in order.

The first three bits of an entry's place (see `words`) say which of eight segments its word goes to;
so the word itself has room for three bits more, and each segment is sorted by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.vectors import CHUNK, LANES, NOWHERE, append_to_each
from groupmap.backends.kernels.words import extent

SEGMENT_BITS = 3
SEGMENTS = 1 << SEGMENT_BITS


def length_with_gaps(n: int) -> int:
    """How many words n entries take, and the gaps that vectors leave behind each segment."""
    return n + SEGMENTS * LANES


@njit(nogil=True, cache=True)
def deal_out(
    rows: np.ndarray[Any, Any], bits: Bits, code: Code, low: int, words: Bits, bounds: Bits
) -> Unsigned:
    """The words of each row by segments; the bounds ``(r, segment, 2)`` say where these lie.

    A word has the place's other bits above the index, which takes the `low` bits. Where a row has
    no places, all of it is one segment. The greatest magnitude comes back.
    """
    index_bits = np.uint32(low)
    greatest_place = rows.dtype.type((1 << (32 - index_bits + SEGMENT_BITS)) - 2)  # two roundings
    magnitude = bits.dtype.type(0)
    ends_of_row = np.empty(2, dtype=rows.dtype)
    begins = np.empty(SEGMENTS, dtype=np.int64)
    for r in range(rows.shape[0]):
        least, scale, greatest = extent(bits[r], code, greatest_place, ends_of_row)
        magnitude = max(magnitude, greatest)
        bounds[r] = 0
        if scale == 0:
            for i in range(rows.shape[1]):
                words[r, i] = np.uint32(i)
            bounds[r, 0, 1] = rows.shape[1]
            continue
        count_out(rows[r], least, scale, index_bits, bounds[r])
        end = 0
        for segment in range(SEGMENTS):
            begins[segment] = bounds[r, segment, 0] = end
            bounds[r, segment, 1] += end
            end = bounds[r, segment, 1] + LANES
        deal_out_row(rows[r], least, scale, index_bits, begins, words[r])
    return magnitude


# These are functions of their own so that compiled code keeps the ends of all segments at hand.
@njit(nogil=True, cache=True)
def count_out(
    row: np.ndarray[Any, Any], least: float, scale: float, index_bits: Unsigned, bounds: Bits
) -> None:
    """Add to each segment's end how many words it will get."""
    segment_of = np.empty(CHUNK, dtype=np.uint32)
    shift = np.uint32(32 - index_bits)
    for begin in range(0, row.size, CHUNK):
        part = row[begin : begin + CHUNK]
        for i in range(part.size):
            segment_of[i] = np.uint32(np.int32((part[i] - least) * scale)) >> shift
        for segment in range(SEGMENTS):
            bounds[segment, 1] += count(segment_of[: part.size], segment)


@njit(nogil=True, cache=True)
def deal_out_row(
    row: np.ndarray[Any, Any],
    least: float,
    scale: float,
    index_bits: Unsigned,
    begins: Bits,
    words: Bits,
) -> None:
    """Write the words of a row to segments that begin there."""
    own_words, segment_of = np.empty(CHUNK, dtype=np.uint32), np.empty(CHUNK, dtype=np.uint32)
    shift = np.uint32(32 - index_bits)
    ends: Any = to_fixed_tuple(begins, SEGMENTS)  # type: ignore[call-arg]
    for begin in range(0, row.size, CHUNK):
        part, first = row[begin : begin + CHUNK], np.uint32(begin)
        for i in range(part.size):
            place = np.uint32(np.int32((part[i] - least) * scale))
            segment_of[i] = place >> shift
            own_words[i] = (place << index_bits) | (first + np.uint32(i))
        segment_of[part.size :] = NOWHERE
        for i in range(0, part.size, LANES):
            ends = append_to_each(own_words, segment_of, i, words, ends)


@njit(inline="always")
def count(numbers: Bits, wanted: int) -> int:
    """How many of the numbers are the one that is wanted."""
    found = np.uint32(0)
    for i in range(numbers.size):  # in 32 bits throughout, so that vectors hold as many as they can
        found = np.uint32(found + np.uint32(numbers[i] == np.uint32(wanted)))
    return int(found)
