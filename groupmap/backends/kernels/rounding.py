"""Floats of 32 bits rounded to 16: to the nearest, even where two are; NaN stays NaN."""

from __future__ import annotations

import numpy as np

from groupmap.backends._bits import Bits
from groupmap.backends.kernels.compiled import inlined, kernel, uncounted_kernel
from groupmap.backends.kernels.vectors import LANES, ROUNDS_TO_HALF, round_to_halves

AT_ONCE = 2 * LANES
SMALLEST_NORMAL, INFINITY = np.uint32(113 << 23), np.uint32(255 << 23)
REBIASED = np.uint32((112 << 23) - 0xFFF)  # the exponent, and less than half of a last bit
OVERFLOWS = np.uint32(0x477FF000)  # 65520, halfway between the greatest number and infinity


@uncounted_kernel
def round_to_bfloat(bits: Bits, out: Bits) -> None:
    """Rows of floats to those with the upper 16 bits."""
    for r in range(bits.shape[0]):
        round_row_to_bfloat(bits[r], out[r])


@inlined
def round_row_to_bfloat(row: Bits, rounded: Bits) -> None:
    """The same for one row."""
    for i in range(row.size):
        own = row[i]
        half = np.uint32(0x7FFF) + ((own >> np.uint32(16)) & np.uint32(1))
        is_nan = (own & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        nearest = (own | np.uint32(0x400000)) if is_nan else np.uint32(own + half)
        rounded[i] = np.uint16(nearest >> np.uint32(16))


@kernel
def round_to_half(bits: Bits, out: Bits) -> None:
    """Rows of floats to those of IEEE 754 with 16 bits."""
    spare = np.empty(bits.shape[1], dtype=np.uint32)
    for r in range(bits.shape[0]):
        round_row_to_half(bits[r], out[r], spare)


@inlined
def round_row_to_half(row: Bits, rounded: Bits, spare: Bits) -> None:
    """The same for one row, with memory for as many numbers of 32 bits."""
    lie_together = row.strides[0] == row.itemsize and rounded.strides[0] == rounded.itemsize
    if ROUNDS_TO_HALF and row.size >= AT_ONCE and lie_together:
        for begin in range(0, row.size, AT_ONCE):
            # Some again, rather than what is not there.
            round_to_halves(row, min(begin, row.size - AT_ONCE), rounded)
    else:
        round_words_to_half(row, rounded, spare)


@inlined
def round_words_to_half(row: Bits, rounded: Bits, spare: Bits) -> None:
    """The same without the instruction, for what it does not reach."""
    floats = spare.view(np.float32)
    for i in range(row.size):
        spare[i] = row[i] & np.uint32(0x7FFFFFFF)
    for i in range(row.size):
        # The last bit of numbers around ½ counts what the subnormal ones of 16 bits do.
        floats[i] = floats[i] + np.float32(0.5)
    for i in range(row.size):
        own = row[i]
        magnitude = own & np.uint32(0x7FFFFFFF)
        odd = np.uint32(np.uint32(magnitude >> np.uint32(13)) & np.uint32(1))
        moved = np.uint32(np.uint32(magnitude - REBIASED) + odd)
        nearest = np.uint32(moved >> np.uint32(13))
        if magnitude < SMALLEST_NORMAL:
            nearest = np.uint32(spare[i] - np.uint32(126 << 23))
        if magnitude >= OVERFLOWS:
            nearest = np.uint32(0x7C00)
        if magnitude > INFINITY:
            nearest = np.uint32(0x7E00)
        rounded[i] = np.uint16(nearest | ((own >> np.uint32(16)) & np.uint32(0x8000)))
