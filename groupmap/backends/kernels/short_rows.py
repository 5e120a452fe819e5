"""Short rows of 16 bits, ranked side by side (see `side_by_side`).

A word of 32 bits holds the whole key of an entry, and its index. In lanes of sorted words, whether
an entry is equal to the one before is told of all rows at once, and so is the rank. The words, with
the rank in place of the key, are turned back, and values written where the indices say.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from groupmap.backends._bits import Bits, Code, Unsigned
from groupmap.backends.kernels.compiled import inlined, uncounted_kernel
from groupmap.backends.kernels.keys import key_at, magnitude_of
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.network import sort_lanes
from groupmap.backends.kernels.scaling import Goal, reach
from groupmap.backends.kernels.side_by_side import lanes_for, turn_back, turn_on_side
from groupmap.backends.kernels.values import Tie
from groupmap.backends.kernels.vectors import (
    IS_FAST,
    IS_FAST_ZEN,
    LANES,
    data_of,
    fetch,
    in_each_lane,
    load,
    store,
    variable,
    vector_of,
)

FEWEST_ROWS = LANES // 2  # of fewer too many lanes would be empty
LONGEST = 3072 if IS_FAST_ZEN else 512 if IS_FAST else 31  # of longer ones keys are sooner sorted
BITS_OF_INDEX = 16
HIGH, INDEX = np.uint32(BITS_OF_INDEX), np.uint32(2**BITS_OF_INDEX - 1)


class SideBySide(NamedTuple):
    """Memory for some rows."""

    words: Bits  # of as many rows as a vector has lanes, one after the other
    lanes: Bits  # the same on their side
    last: Bits  # in lanes, for each word: where the last one stands that is equal

    @classmethod
    def for_rows(cls, n: int, memory: Memory) -> SideBySide:
        """For rows of n entries."""
        words = memory.empty(LANES * n, np.uint32)
        return cls(words, *(lanes_for(n, np.uint32, memory) for _ in range(2)))


def may_lie_side_by_side(n: int) -> bool:
    """Whether rows of n entries are ranked fastest so."""
    return LANES <= n <= LONGEST


@uncounted_kernel
def rank_side_by_side(
    rows: Bits,
    which: Bits,
    code: Code,
    table: Bits,
    tie: Tie,
    memory: SideBySide,
    out: Bits,
    goal: Goal | None,
) -> Unsigned:
    """The values of those of the rows.

    The greatest magnitude comes back. If there is a goal, some rows have those of `out` in turn,
    which are its line.
    """
    n = rows.shape[1]
    at_once = 1 if goal is None else out.shape[0]
    words, lanes = memory.words, memory.lanes
    magnitude = rows.dtype.type(0)
    for begin in range(0, which.size, LANES):
        n_rows = min(LANES, which.size - begin)
        for lane in range(LANES):
            # The last one again, rather than none.
            row = rows[which[begin + min(lane, n_rows - 1)]]
            own_words = words[lane * n : (lane + 1) * n]
            for i in range(n):
                own_words[i] = (np.uint32(key_at(row, i, code)) << HIGH) | np.uint32(i)
        turn_on_side(words, 0, n, lanes, LANES)
        for k in range(begin + LANES, min(begin + 2 * LANES, which.size)):
            fetch_row(rows[which[k]])
        if goal is not None:
            for k in range(begin, begin + n_rows):
                fetch_row(goal.result[which[k] * n : (which[k] + 1) * n])
        sort_lanes(lanes, lanes.size // LANES)
        for lane in range(n_rows):
            least, greatest = key_in(lanes[lane]), key_in(lanes[(n - 1) * LANES + lane])
            magnitude = max(magnitude, magnitude_of(least, greatest, code))
        words_to_midranks(lanes, memory.last, n, np.uint32(tie[1]), np.uint32(tie[2]))
        turn_back(lanes, words, 0, n, LANES)
        lane = 0
        while lane < n_rows:
            end, first = min(lane + at_once, n_rows), which[begin + lane]
            if which[begin + end - 1] - first != end - 1 - lane:
                end = lane + 1  # rows that do not follow one another have no goal in common
            for k in range(end - lane):
                own_out = out[first if goal is None else k]
                own_words = words[(lane + k) * n : (lane + k + 1) * n]
                for i in range(n):
                    own_out[own_words[i] & INDEX] = table[own_words[i] >> HIGH]
            if goal is not None:
                reach(goal, first, first + end - lane)
            lane = end
    return magnitude


@inlined
def fetch_row(row: Bits) -> None:
    """Have the processor fetch a row in the meantime."""
    for i in range(0, row.size, 64 // row.itemsize):
        fetch(row, i)


@inlined
def key_in(word: Unsigned) -> Unsigned:
    """The key of a word."""
    return np.uint16(word >> HIGH)


_VECTOR = vector_of(32)


def _words_to_midranks(
    typing_context: Any, lanes: Any, last: Any, n: Any, of_less: Any, of_less_equal: Any
) -> Any:
    """The doubled mid-ranks, weighted as a `TieRule` says, in place of the keys of n vectors.

    There is memory for the `last` entry that is equal to each.
    """
    del typing_context, n, of_less, of_less_equal
    signature = types.void(lanes, last, types.intp, types.uint32, types.uint32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        memory, to_last = data_of(context, builder, signature, arguments, (0, 1))
        _, _, n, *weights = arguments
        of_less, of_less_equal = (in_each_lane(builder, each, LANES) for each in weights)
        one, width = (ir.Constant(n.type, number) for number in (1, LANES))
        high = ir.Constant(_VECTOR, [BITS_OF_INDEX] * LANES)
        low = ir.Constant(_VECTOR, [2**BITS_OF_INDEX - 1] * LANES)

        def step(i: Any, equal: Any, key: Any) -> tuple[Any, Any, Any]:
            """The word of a vector, its place, and the place of its farthest equal."""
            place = builder.mul(i, width)
            word = load(builder, memory, place, _VECTOR)
            own_key = builder.lshr(word, high)
            is_equal = builder.icmp_unsigned("==", own_key, builder.load(key))
            own = in_each_lane(builder, builder.trunc(i, ir.IntType(32)), LANES)
            farthest = builder.select(is_equal, builder.load(equal), own)
            builder.store(own_key, key)
            builder.store(farthest, equal)
            return word, place, farthest

        no_key = ir.Constant(_VECTOR, [2**BITS_OF_INDEX] * LANES)
        equal, key = variable(builder, no_key), variable(builder, no_key)
        with cgutils.for_range(builder, n) as loop:
            i = builder.sub(builder.sub(n, one), loop.index)
            _, place, farthest = step(i, equal, key)
            store(builder, farthest, to_last, place)
        equal, key = variable(builder, no_key), variable(builder, no_key)
        with cgutils.for_range(builder, n) as loop:
            word, place, less = step(loop.index, equal, key)
            rank = builder.add(
                builder.mul(less, of_less),
                builder.mul(load(builder, to_last, place, _VECTOR), of_less_equal),
            )
            word = builder.or_(builder.shl(rank, high), builder.and_(word, low))
            store(builder, word, memory, place)
        return context.get_dummy_value()

    return signature, generate


# No caller has the first argument.
words_to_midranks: Any = intrinsic(_words_to_midranks)
