"""Mapped values scaled, and rounded (see `rounding`), while they are still in the cache."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from groupmap.backends._bits import Bits, as_bits, for_reading
from groupmap.backends._layout import are_columns
from groupmap.backends.kernels.columns import copy_rows
from groupmap.backends.kernels.compiled import inlined, uncounted_kernel, uncounted_part
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.rounding import (
    round_row_to_bfloat,
    round_row_to_half,
    round_to_bfloat,
    round_to_half,
)

Spans = tuple[int, int, int, int]

AS_THEY_ARE, TO_BFLOAT, TO_HALF = range(3)  # how values are rounded
# Rows that are rounded at once: what is left over behind the last whole vector takes its time.
MOST_ROWS, ENTRIES_OF_SHORT_ROWS = 16, 2**10


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
        return cls(for_reading(weight), for_reading(bias), spans, dtype, is_bfloat)

    def rounding_of(self, dtype: np.dtype[Any]) -> int:
        """How values of a dtype are rounded."""
        if self.dtype == dtype:
            return AS_THEY_ARE
        return TO_BFLOAT if self.is_bfloat else TO_HALF

    def by_line(self, n: int, dtype: np.dtype[Any], memory: Memory) -> Line:
        """For kernels that write the values of one row of n entries after the other, or of some
        short ones."""
        n_rows = max(1, min(MOST_ROWS, ENTRIES_OF_SHORT_ROWS // n))
        rounding = self.rounding_of(dtype)
        values = memory.empty(n_rows * n, dtype)
        spare = memory.empty(n_rows * n if rounding == TO_HALF else 0, np.uint32)
        return Line(values, as_bits(values), spare, self.weight, self.bias, self.spans, rounding, n)

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
        rounding = self.rounding_of(values.dtype)
        if rounding == AS_THEY_ARE and not are_columns(out):
            scale_rows(values, self.weight, self.bias, self.spans, first, start, out)
            return
        scale_rows(values, self.weight, self.bias, self.spans, first, start, None)
        if rounding == AS_THEY_ARE:
            copy_rows(values, out)
        else:
            rounded = round_to_bfloat if rounding == TO_BFLOAT else round_to_half
            rounded(as_bits(values), as_bits(out))


class InPlace(NamedTuple):
    """Rows of values that are scaled where they are; or none, of the same type, so that to compile
    once serves both."""

    values: np.ndarray[Any, Any]
    weight: np.ndarray[Any, Any]
    bias: np.ndarray[Any, Any]
    spans: Spans
    first: int  # the number of the first row

    @classmethod
    def none(cls, width: int) -> InPlace:
        """No rows, of values of so many bytes."""
        dtype = np.float64 if width == np.dtype(np.float64).itemsize else np.float32
        nothing = for_reading(np.empty(0, dtype=dtype))
        return cls(np.empty((0, 0), dtype=dtype), nothing, nothing, (1, 1, 1, 1), 0)


class Line(NamedTuple):
    """The values of one row after the other, or of some short ones that follow one another, in the
    nearest cache until they are scaled."""

    values: np.ndarray[Any, Any]  # all of them end to end
    bits: Bits  # the same memory
    spare: Bits  # to round in
    weight: np.ndarray[Any, Any]
    bias: np.ndarray[Any, Any]
    spans: Spans
    rounding: int
    n: int  # the length of a row

    @property
    def by_rows(self) -> Bits:
        """What kernels write the values to."""
        return self.bits.reshape(-1, self.n)


class Goal(NamedTuple):
    """A line, and the rows that its values become, end to end; the first one has that number."""

    line: Line
    result: Bits
    first: int


@inlined
def reach(goal: Goal, begin: int, end: int) -> None:
    """Scale the values in the line, and write them to the rows from one up to another."""
    line = goal.line
    for r in range(begin, end):
        row = line.values[(r - begin) * line.n : (r - begin + 1) * line.n]
        scale_row(row, line.weight, line.bias, line.spans, goal.first + r, 0, None)
    out = goal.result[begin * line.n : end * line.n]
    bits = line.bits[: out.size]
    if line.rounding == TO_BFLOAT:
        round_row_to_bfloat(bits, out)
    elif line.rounding == TO_HALF:
        round_row_to_half(bits, out, line.spare)
    else:
        for i in range(out.size):
            out[i] = bits[i]


@uncounted_kernel
def scale_rows(
    values: Bits, weight: Bits, bias: Bits, spans: Spans, first: int, start: int, out: Bits | None
) -> None:
    """Each entry times its weight plus its bias, in two roundings; without `out`, in its place.

    The first of the rows has that number, and `start` is the index of their first entries.
    """
    for r in range(values.shape[0]):
        own_out = None if out is None else out[r]
        scale_row(values[r], weight, bias, spans, first + r, start, own_out)


@inlined
def no_rows(rows: InPlace) -> InPlace:
    """None of them."""
    return InPlace(rows.values[:0], rows.weight, rows.bias, rows.spans, rows.first)


@uncounted_part
def scale_part(rows: InPlace, r: int, begin: int, end: int) -> None:
    """Scale the values of one of the rows, if there are any, from one entry up to another."""
    if rows.values.size == 0:
        return
    row = rows.values[r]  # by itself: compiled code does not know that a part of it lies together
    scale_row(row[begin:end], rows.weight, rows.bias, rows.spans, rows.first + r, begin, None)


@inlined
def scale_row(
    row: Bits, weight: Bits, bias: Bits, spans: Spans, number: int, start: int, out: Bits | None
) -> None:
    """The same for entries of the row that has that number, from the entry `start` on.

    Compiled code is slow where it has to ask whether `out` is the row.
    """
    each_rows, own_rows, each_entries, own_entries = spans
    # To divide takes as long as to scale some ten entries, and longer where signs are to be kept.
    own = np.uint64(number)
    own = own if each_rows == 1 else own // np.uint64(each_rows)
    own = np.uint64(0) if own_rows == 1 else own % np.uint64(own_rows)
    begin = np.int64(own) * own_entries
    w, b = weight[begin : begin + own_entries], bias[begin : begin + own_entries]
    if each_entries == 1:
        own_out = row if out is None else out
        w, b = w[start : start + row.size], b[start : start + row.size]
        for i in range(row.size):
            own_out[i] = row[i] * w[i] + b[i]
    else:
        entry = 0
        k = 0 if start < each_entries else start // each_entries
        while entry < row.size:
            end = min((k + 1) * each_entries - start, row.size)
            part = row[entry:end]
            scaled = part if out is None else out[entry:end]
            factor, summand = w[k], b[k]
            for i in range(part.size):
                scaled[i] = part[i] * factor + summand
            entry, k = end, k + 1
