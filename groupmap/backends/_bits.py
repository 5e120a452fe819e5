"""Bit patterns as unsigned integers in the order of the numbers that they stand for.

One formula serves floats, signed and unsigned integers: with the sign bit spread over a word,

    key = b ^ (spread & flip) ^ top,

where a float's negative zero is replaced by zero first. What differs is a row of constants.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

Rows = np.ndarray[Any, Any]  # of numbers
Bits = np.ndarray[Any, Any]
Unsigned = Any  # an unsigned integer of the width at hand; compiled code has no name for it


class Code(NamedTuple):
    """The constants of one kind of numbers, of the width of its bit patterns."""

    flip: Unsigned
    top: Unsigned
    negative_zero: Unsigned


@lru_cache(maxsize=64)
def code_of(dtype: np.dtype[Any]) -> Code:
    """The constants of a dtype of real numbers."""
    unsigned = np.dtype(f"u{dtype.itemsize}").type
    top = 1 << (8 * dtype.itemsize - 1)
    flip, top, negative_zero = {"f": (top - 1, top, top), "i": (0, top, 0), "u": (0, 0, 0)}[
        dtype.kind
    ]
    return Code(*(unsigned(each) for each in (flip, top, negative_zero)))


def as_bits(values: np.ndarray[Any, Any]) -> Bits:
    """The same memory as unsigned integers."""
    return values.view(np.dtype(f"u{values.dtype.itemsize}"))


def for_reading(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same memory as an array that may not be written, as some of our callers' may not.

    Compiled code takes these for another kind of array, and would be compiled for both.
    """
    view = values.view()
    view.flags.writeable = False
    return view


def keys_of(values: np.ndarray[Any, Any]) -> Bits:
    """The keys of all values."""
    code = code_of(values.dtype)
    # A sum with zero is a copy, and makes negative zeros positive.
    bits = as_bits(values + values.dtype.type(0))
    spread = as_bits(bits.view(f"i{bits.itemsize}") >> (8 * bits.itemsize - 1))  # 0 or all ones
    spread &= code.flip
    bits ^= spread
    bits ^= code.top
    return bits


# Of floats, by their size in bytes: the bits of infinity, above which only NaN is.
INFINITY = {
    size: np.dtype(f"u{size}").type(as_bits(np.asarray(np.inf, dtype=f"f{size}")))
    for size in (2, 4, 8)
}
BFLOAT16_INFINITY = np.uint16(0x7F80)  # NumPy has no such dtype


def limit_of(infinity: Unsigned, *, only_finite: bool) -> Unsigned:
    """The greatest magnitude that rows to map may have, as a bit pattern."""
    return infinity - infinity.dtype.type(1) if only_finite else infinity
