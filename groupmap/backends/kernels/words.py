"""Words of key and index, packed from a row's entries.

A word holds the entry's index in its lowest bits. Above it is either the distance of the entry's
key (see `groupmap.backends._bits`) from the least of its row, as many of the highest bits as there
is room for, or the place of the entry between the least and the greatest of its row. Both are in
the order of the entries; what they cannot tell apart, the keys tell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.compiled import inlined, uncounted_kernel
from groupmap.backends.kernels.keys import key_at, magnitude_of
from groupmap.backends.kernels.vectors import bit_length

LONGEST_IN_PLACES = 2**14  # in longer rows too many entries would share one
WORD_BITS = 32  # of the shorter words
LEAST_INDEX_BITS = 9  # a float32 counts no further than the remaining 23 bits without error


@inlined
def least_and_greatest_key(row: Bits, code: Code) -> tuple[Unsigned, Unsigned]:
    """The least and the greatest key of a row."""
    least = greatest = key_at(row, 0, code)
    for i in range(row.size):
        key = key_at(row, i, code)
        least, greatest = min(least, key), max(greatest, key)
    return row.dtype.type(least), row.dtype.type(greatest)


@inlined
def index_bits(n: int) -> int:
    """How many bits of a word the index takes."""
    return int(max(bit_length(np.uint64(n - 1)), LEAST_INDEX_BITS))


@inlined
def bits_to_shift(words: Bits, count: int) -> Unsigned:
    """The count itself, which is less than a word has bits, such that compiled code can see it.

    Else it would shift words of 32 bits as if they had 64, and half as many at once.
    """
    word = words.dtype.type
    last_bit = 63 if word(~word(0)) > np.uint64(2**32 - 1) else 31  # its size is read in memory
    return word(count & last_bit)


@uncounted_kernel
def pack(rows: Bits, code: Code, words: Bits) -> Unsigned:
    """Words of the highest bits of the keys' distances from the row's least, and the index.

    The greatest magnitude comes back.
    """
    n_rows, n = rows.shape
    word = words.dtype.type
    low = index_bits(n)
    high = word(~word((1 << low) - 1))
    magnitude = rows.dtype.type(0)
    for r in range(n_rows):
        row = rows[r]
        least, greatest = least_and_greatest_key(row, code)
        magnitude = max(magnitude, magnitude_of(least, greatest, code))
        width = bit_length(np.uint64(greatest - least))
        up = bits_to_shift(words, 8 * words.itemsize - max(width, 1))
        for i in range(n):
            distance = word(key_at(row, i, code) - least)
            words[r, i] = (word(distance << up) & high) | word(i)
    return magnitude


@uncounted_kernel
def place(
    rows: np.ndarray[Any, Any], bits: Bits, code: Code, words: Bits, ends: np.ndarray[Any, Any]
) -> Unsigned:
    """Words of 32 bits of the entries' places between the row's least and greatest, and the index.

    A difference and a product are rounded in order, so places are in the order of the entries. The
    least and the greatest have the first and the last place to themselves, since many an entry may
    be equal to one of them. The greatest magnitude comes back. `ends` is memory for two floats.
    """
    n_rows, n = rows.shape
    low = np.uint32(index_bits(n))
    one, last = np.uint32(1), np.uint32(last_place(low))
    greatest_between = rows.dtype.type(last - np.uint32(3))  # with room for two roundings
    magnitude = bits.dtype.type(0)
    for r in range(n_rows):
        row, own_words = rows[r], words[r]
        least, scale, own_magnitude = extent(bits[r], code, greatest_between, ends)
        greatest = ends[1]
        magnitude = max(magnitude, own_magnitude)
        if scale == 0:
            for i in range(n):
                own_words[i] = (one << low) | np.uint32(i)
            continue
        for i in range(n):
            between = one + np.uint32(np.int32((row[i] - least) * scale))
            between = np.uint32(0) if row[i] == least else between
            between = last if row[i] == greatest else between
            own_words[i] = (between << low) | np.uint32(i)
    return magnitude


@inlined
def last_place(low: Unsigned) -> int:
    """The last above an index of so many bits."""
    return int((1 << (WORD_BITS - low)) - 1)


@inlined
def extent(
    bits: Bits, code: Code, greatest_place: float, ends: np.ndarray[Any, Any]
) -> tuple[float, float, Unsigned]:
    """The least entry of a row, how many places a unit has, and the greatest magnitude.

    A row that has infinite entries or NaN, or is too wide or narrow to divide by, has 0 places.
    `ends` is memory for two floats, the least and the greatest.
    """
    bits_of_ends = ends.view(bits.dtype)
    bits_of_ends[0], bits_of_ends[1] = least_and_greatest_bits(bits, code)
    width = ends[1] - ends[0]
    scale = greatest_place / width if width > 0 else width
    if not (0 < scale < np.inf):
        scale = ends.dtype.type(0)
    magnitude = max(bits_of_ends[0] & code.flip, bits_of_ends[1] & code.flip)
    return ends[0], scale, magnitude


@inlined
def least_and_greatest_bits(bits: Bits, code: Code) -> tuple[Unsigned, Unsigned]:
    """The least and the greatest float of a row, with the NaN at its ends, as bit patterns.

    Floats have their sign first: as unsigned integers those without one come first and in order,
    those with one last and in the order of their magnitudes; with the sign flipped, these first.
    """
    word = bits.dtype.type
    first = last = bits[0]
    last_flipped = word(bits[0] ^ code.top)
    for i in range(bits.size):
        first, last = min(first, bits[i]), max(last, bits[i])
        last_flipped = max(last_flipped, word(bits[i] ^ code.top))
    greatest = word(last_flipped ^ code.top) if last_flipped & code.top else first
    least = last if last & code.top else first
    return word(least), word(greatest)
