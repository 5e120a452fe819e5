"""The key of one entry (see `groupmap.backends._bits`), inside of compiled code."""

from __future__ import annotations

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.compiled import inlined


@inlined
def key_at(row: Bits, i: int, code: Code) -> Unsigned:
    """The key of the i-th bit pattern of a row, of the same width."""
    bits, word = row[i], row.dtype.type
    if bits == code.negative_zero:
        bits = word(0)
    return word(bits ^ flip_of(bits, code) ^ code.top)


@inlined
def bits_of(key: Unsigned, code: Code) -> Unsigned:
    """The bit pattern that has the key."""
    bits = key ^ code.top
    return bits ^ flip_of(bits, code)


@inlined
def flip_of(bits: Unsigned, code: Code) -> Unsigned:
    """Which bits are flipped in those of a negative float; none of others.

    Compared, and not shifted: compiled code shifts words of 32 bits as if they had 64.
    """
    none = code.flip ^ code.flip  # of the same width
    return code.flip if bits >= code.top else none


@inlined
def magnitude_of(least_key: Unsigned, greatest_key: Unsigned, code: Code) -> Unsigned:
    """The greatest magnitude of floats whose keys lie between these, as a bit pattern.

    It is at one of the ends, since keys are in the order of the numbers; so is every NaN.
    """
    low, high = bits_of(least_key, code), bits_of(greatest_key, code)
    return max(low & code.flip, high & code.flip)
