"""Rows of 16 bits counted: how many entries lie below each level (see `levels`), and where.

The levels of a row are laid out in lines, one below the other, each a vector wide: a lane holds a
stretch of neighbouring levels from top to bottom. So sums over all levels below are sums of whole
vectors, one for each line, where levels side by side would be added up one by one.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.compiled import inlined, uncounted_kernel
from groupmap.backends.kernels.keys import key_at, magnitude_of
from groupmap.backends.kernels.levels import gap_beside_zero, without_gaps
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.scaling import Goal, reach
from groupmap.backends.kernels.values import Tie
from groupmap.backends.kernels.vectors import (
    BITS_OF_VECTOR,
    data_of,
    in_each_lane,
    load,
    store,
    variable,
    vector_of,
)
from groupmap.backends.kernels.words import least_and_greatest_key

WIDTH = BITS_OF_VECTOR // 16
BITS_OF_LANE = WIDTH.bit_length() - 1
LONGEST = 2**15  # whose doubled mid-ranks have 16 bits
SHORTEST = 2**9 + 1  # shorter ones are ranked side by side, or sorted in registers
LEAST_LOG = 2
LEAST_LINES = 2**LEAST_LOG
ENTRIES_PER_LINE = 3  # where there are fewer it is faster to sort


class Lanes(NamedTuple):
    """Memory to count rows of some length."""

    spots: Bits  # of each entry's level in the lines
    lines: Bits  # counts, below a line that the sums begin with

    @classmethod
    def for_rows(cls, n: int, memory: Memory) -> Lanes:
        """For rows of n entries."""
        most = (n // ENTRIES_PER_LINE + 1) * WIDTH
        return cls(memory.empty(n, np.uint16), memory.empty(most, np.uint16))


@uncounted_kernel
def count_in_lanes(
    rows: Bits,
    code: Code,
    table: Bits,
    tie: Tie,
    memory: Lanes,
    out: Bits,
    goal: Goal | None,
    left: Bits,
) -> tuple[int, Unsigned]:
    """The values of those rows whose levels fit in the memory, until most do not.

    Which ones are `left` is noted. How many it is comes back, and the greatest magnitude of the
    others. If there is a goal, all rows have the first one of `out` in turn, which is its line.
    """
    n_rows, n = rows.shape
    word, spots, lines = rows.dtype.type, memory.spots[:n], memory.lines
    magnitude, n_left = word(0), 0
    for r in range(n_rows):
        row, own_out, n_lines = rows[r], out[r if goal is None else 0], 0
        if 2 * n_left <= r:
            least, greatest = least_and_greatest_key(row, code)
            gap = gap_beside_zero(row, code)
            first = word(without_gaps(least, gap, code))
            span = word(word(without_gaps(greatest, gap, code)) - first)
            log = LEAST_LOG
            while (WIDTH << log) <= span:
                log += 1
            n_lines = 1 << log
        if n_lines == 0 or (n_lines + 1) * WIDTH > lines.size:
            left[n_left] = r
            n_left += 1
            continue
        magnitude = max(magnitude, magnitude_of(least, greatest, code))
        find_spots(row, code, gap, first, span, log, spots)
        count_spots(spots, lines[: (n_lines + 1) * WIDTH])
        begin_lanes(lines, n_lines)
        counts_to_midranks(lines, n_lines, np.uint16(tie[1]), np.uint16(tie[2]))
        for i in range(n):
            own_out[i] = table[lines[spots[i]]]
        if goal is not None:
            reach(goal, r, r + 1)
    return n_left, magnitude


@inlined
def find_spots(
    row: Bits, code: Code, gap: Unsigned, first: Unsigned, span: Unsigned, log: int, spots: Bits
) -> None:
    """Where the level of each entry stands, of two to the power `log` lines."""
    lane, line = np.uint16(log & 15), np.uint16((1 << log) - 1)  # so it is seen to be a shift
    for i in range(row.size):
        level = np.uint16(without_gaps(key_at(row, i, code), gap, code) - first)
        level = min(level, span)  # even if somebody else writes to the row in the meantime
        below = np.uint16(np.uint16(level & line) << np.uint16(BITS_OF_LANE))
        spots[i] = np.uint16(below | np.uint16(level >> lane))


@inlined
def count_spots(spots: Bits, lines: Bits) -> None:
    """How many entries have each spot; all of them one line below."""
    for i in range(lines.size):
        lines[i] = 0
    for i in range(spots.size):
        lines[np.uint64(spots[i]) + np.uint64(WIDTH)] += np.uint16(1)


@inlined
def begin_lanes(lines: Bits, n_lines: int) -> None:
    """Write to the first line how many entries lie in the lanes before each."""
    add_up(lines, n_lines)
    before = np.uint16(0)
    for lane in range(WIDTH):
        own = lines[lane]
        lines[lane] = before
        before = np.uint16(before + own)


_VECTOR = vector_of(16)


def _add_up(typing_context: Any, lines: Any, n_lines: Any) -> Any:
    """Write the sum of so many lines, from the second on, to the first; a multiple of the least."""
    del typing_context, n_lines
    signature = types.void(lines, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (memory,), n_lines = data_of(context, builder, signature, arguments, (0,)), arguments[1]
        none = ir.Constant(_VECTOR, [0] * WIDTH)
        # Side by side, since each sum waits for the one before.
        sums = [variable(builder, none) for _ in range(LEAST_LINES)]
        several = ir.Constant(n_lines.type, LEAST_LINES)
        with cgutils.for_range(builder, builder.udiv(n_lines, several)) as loop:
            before = builder.mul(loop.index, several)
            for k, own_sum in enumerate(sums):
                index = builder.add(before, ir.Constant(n_lines.type, k))
                own = load(builder, memory, _line_after(builder, index), _VECTOR)
                builder.store(builder.add(builder.load(own_sum), own), own_sum)
        total = reduce(builder.add, [builder.load(own_sum) for own_sum in sums])
        store(builder, total, memory, ir.Constant(n_lines.type, 0))
        return context.get_dummy_value()

    return signature, generate


def _counts_to_midranks(
    typing_context: Any, lines: Any, n_lines: Any, of_less: Any, of_less_equal: Any
) -> Any:
    """Counts of each spot, one line below it, to the doubled mid-rank, at the spot.

    The sums begin with the first line, and are weighted as a `TieRule` says.
    """
    del typing_context, n_lines, of_less, of_less_equal
    signature = types.void(lines, types.intp, types.uint16, types.uint16)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (memory,) = data_of(context, builder, signature, arguments, (0,))
        _, n_lines, *weights = arguments
        of_less, of_less_equal = (in_each_lane(builder, each, WIDTH) for each in weights)
        one = ir.Constant(_VECTOR, [1] * WIDTH)
        begin = load(builder, memory, ir.Constant(n_lines.type, 0), _VECTOR)
        so_far = variable(builder, begin)
        with cgutils.for_range(builder, n_lines) as loop:
            less = builder.load(so_far)
            count = load(builder, memory, _line_after(builder, loop.index), _VECTOR)
            less_equal = builder.add(less, count)
            builder.store(less_equal, so_far)
            weighted = (
                builder.mul(less, of_less),
                builder.mul(builder.sub(less_equal, one), of_less_equal),
            )
            store(builder, builder.add(*weighted), memory, _line(builder, loop.index))
        return context.get_dummy_value()

    return signature, generate


def _line(builder: Any, index: Any) -> Any:
    """Where a line begins."""
    return builder.mul(index, ir.Constant(index.type, WIDTH))


def _line_after(builder: Any, index: Any) -> Any:
    return _line(builder, builder.add(index, ir.Constant(index.type, 1)))


# No caller has the first argument of these.
add_up: Any = intrinsic(_add_up)
counts_to_midranks: Any = intrinsic(_counts_to_midranks)
