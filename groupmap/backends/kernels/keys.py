"""The key of one entry (see `groupmap.backends._bits`), inside of compiled code."""

from __future__ import annotations

from numba import njit

from groupmap.backends._bits import Bits, Code, Unsigned


@njit(inline="always")
def key_at(row: Bits, i: int, code: Code) -> Unsigned:
    """The key of the i-th bit pattern of a row, of the same width."""
    bits = row[i]
    if bits == code.negative_zero:
        bits = row.dtype.type(0)
    spread = row.dtype.type(row.dtype.type(0) - (bits >> code.sign_shift))  # 0 or all ones
    return row.dtype.type(bits ^ (spread & code.flip) ^ code.top)


@njit(inline="always")
def bits_of(key: Unsigned, code: Code) -> Unsigned:
    """The bit pattern that has the key."""
    bits = key ^ code.top
    return bits ^ code.flip if bits >> code.sign_shift else bits


@njit(inline="always")
def magnitude_of(least_key: Unsigned, greatest_key: Unsigned, code: Code) -> Unsigned:
    """The greatest magnitude of floats whose keys lie between these, as a bit pattern.

    It is at one of the ends, since keys are in the order of the numbers; so is every NaN.
    """
    low, high = bits_of(least_key, code), bits_of(greatest_key, code)
    return max(low & code.flip, high & code.flip)
