"""Mapped values scaled, and rounded to 16 bits, while they are still in the cache."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, as_bits
from groupmap.backends.kernels.compiled import uncounted

Spans = tuple[int, int, int, int]


class Scaling(NamedTuple):
    """A `groupmap.backends.Scale` of NumPy arrays that are both there, and how to round after it.

    Numbers of 16 bits are given as the format that NumPy has; `is_bfloat` says that the other is
    meant.
    """

    weight: np.ndarray[Any, Any]
    bias: np.ndarray[Any, Any]
    spans: Spans
    dtype: np.dtype[Any]
    is_bfloat: bool

    @classmethod
    def of(
        cls,
        weight: np.ndarray[Any, Any] | None,
        bias: np.ndarray[Any, Any] | None,
        spans: Spans,
        dtype: np.dtype[Any],
        is_bfloat: bool = False,
    ) -> Scaling:
        """With what changes no bit in place of what is absent."""
        if weight is None:
            assert bias is not None
            weight = np.ones_like(bias)
        if bias is None:
            bias = np.full_like(weight, -0.0)
        return cls(weight, bias, spans, dtype, is_bfloat)

    def in_place(self, values: np.ndarray[Any, Any], first: int) -> InPlace:
        """For kernels: these rows, the first of which has that number, stay where they are."""
        return InPlace(values, self.weight, self.bias, self.spans, first)

    def __call__(
        self, values: np.ndarray[Any, Any], first: int, out: np.ndarray[Any, Any], *, start: int = 0
    ) -> None:
        """Write the values of some rows, the first of which has that number, scaled to `out`.

        They are those of the entries from `start` on. They are overwritten, and may lie in `out`
        already.
        """
        if self.dtype == values.dtype:
            scale_rows(values, self.weight, self.bias, self.spans, first, start, out)
            return
        scale_rows(values, self.weight, self.bias, self.spans, first, start, None)
        if self.is_bfloat:
            round_to_bfloat(as_bits(values), as_bits(out))
        else:
            round_to_half(as_bits(values), as_bits(out))


class InPlace(NamedTuple):
    """Rows of values that are scaled where they are."""

    values: np.ndarray[Any, Any]
    weight: np.ndarray[Any, Any]
    bias: np.ndarray[Any, Any]
    spans: Spans
    first: int  # the number of the first row


@uncounted
def scale_rows(
    values: Bits, weight: Bits, bias: Bits, spans: Spans, first: int, start: int, out: Bits | None
) -> None:
    """Each entry times its weight plus its bias, in two roundings; without `out`, in its place.

    The first of the rows has that number, and `start` is the index of their first entries.
    """
    for r in range(values.shape[0]):
        own_out = None if out is None else out[r]
        scale_row(values[r], weight, bias, spans, first + r, start, own_out)


@uncounted
def scale_part(rows: InPlace, r: int, begin: int, end: int) -> None:
    """Scale the values of one of the rows, from one entry up to another."""
    row = rows.values[r]  # by itself: compiled code does not know that a part of it lies together
    scale_row(row[begin:end], rows.weight, rows.bias, rows.spans, rows.first + r, begin, None)


@njit(inline="always")
def scale_row(
    row: Bits, weight: Bits, bias: Bits, spans: Spans, number: int, start: int, out: Bits | None
) -> None:
    """The same for entries of the row that has that number, from the entry `start` on.

    Compiled code is slow where it has to ask whether `out` is the row.
    """
    each_rows, own_rows, each_entries, own_entries = spans
    begin = number // each_rows % own_rows * own_entries
    w, b = weight[begin : begin + own_entries], bias[begin : begin + own_entries]
    if each_entries == 1:
        own_out = row if out is None else out
        w, b = w[start : start + row.size], b[start : start + row.size]
        for i in range(row.size):
            own_out[i] = row[i] * w[i] + b[i]
    else:
        entry = 0
        while entry < row.size:
            k = (start + entry) // each_entries
            end = min((k + 1) * each_entries - start, row.size)
            part = row[entry:end]
            scaled = part if out is None else out[entry:end]
            factor, summand = w[k], b[k]
            for i in range(part.size):
                scaled[i] = part[i] * factor + summand
            entry = end


@uncounted
def round_to_bfloat(bits: Bits, out: Bits) -> None:
    """Floats of 32 bits to the nearest with the upper 16, even where two are; NaN stays NaN."""
    for r in range(bits.shape[0]):
        row, rounded = bits[r], out[r]
        for i in range(row.size):
            own = row[i]
            half = np.uint32(0x7FFF) + ((own >> np.uint32(16)) & np.uint32(1))
            is_nan = (own & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
            nearest = (own | np.uint32(0x400000)) if is_nan else np.uint32(own + half)
            rounded[i] = np.uint16(nearest >> np.uint32(16))


@njit(nogil=True, cache=True)
def round_to_half(bits: Bits, out: Bits) -> None:
    """Floats of 32 bits to the nearest of 16, even where two are; NaN stays NaN."""
    smallest_normal, infinity = np.uint32(113 << 23), np.uint32(255 << 23)
    rebiased = np.uint32((112 << 23) - 0xFFF)  # the exponent, and less than half of a last bit
    overflows = np.uint32(0x477FF000)  # 65520, halfway between the greatest number and infinity
    line = np.empty(bits.shape[1], dtype=np.uint32)
    floats = line.view(np.float32)
    for r in range(bits.shape[0]):
        row, rounded = bits[r], out[r]
        for i in range(row.size):
            line[i] = row[i] & np.uint32(0x7FFFFFFF)
        for i in range(row.size):
            # The last bit of numbers around ½ counts what the subnormal ones of 16 bits do.
            floats[i] = floats[i] + np.float32(0.5)
        for i in range(row.size):
            own = row[i]
            magnitude = own & np.uint32(0x7FFFFFFF)
            odd = np.uint32(np.uint32(magnitude >> np.uint32(13)) & np.uint32(1))
            moved = np.uint32(np.uint32(magnitude - rebiased) + odd)
            nearest = np.uint32(moved >> np.uint32(13))
            if magnitude < smallest_normal:
                nearest = np.uint32(line[i] - np.uint32(126 << 23))
            if magnitude >= overflows:
                nearest = np.uint32(0x7C00)
            if magnitude > infinity:
                nearest = np.uint32(0x7E00)
            rounded[i] = np.uint16(nearest | ((own >> np.uint32(16)) & np.uint32(0x8000)))
