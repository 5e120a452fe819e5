"""Short rows sorted side by side: as many at once as a vector has lanes.

The rows are turned on their side, so that a vector holds one entry of each; the lanes are sorted
(see `network`), and turned back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from groupmap.backends._bits import Bits
from groupmap.backends.kernels.compiled import inlined, uncounted_kernel
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.network import BLOCK, sort_lanes
from groupmap.backends.kernels.vectors import (
    BITS_OF_VECTOR,
    HAS_AVX2_ALONE,
    IS_FAST,
    IS_FAST_ZEN,
    data_of,
    load,
    store,
    vector_of,
)

# Words of so many bytes that fill the registers are sorted as fast by NumPy, row by row, and so are
# rows that, by a vector of them, fill the cache; or, where minima take longer, shorter ones. Where
# vectors are shorter, NumPy has no instructions for words of 16 bits, those for words of 32 take
# twice as long, and for words of 64 there are no minima.
LONGEST = {2: 3072, 4: 3072, 8: 1536} if IS_FAST_ZEN else {2: 3072, 4: 1024, 8: 1536}
SORTED_IN_REGISTERS = {2: range(0), 4: range(449, 513), 8: range(257)}
if not IS_FAST:
    LONGEST = {2: 2**15, 4: 2**13 if HAS_AVX2_ALONE else 0, 8: 0}
    SORTED_IN_REGISTERS = dict.fromkeys(LONGEST, range(0))


class Sorter:
    """Sorts rows of so many words of some unsigned dtype."""

    def __init__(self, n: int, dtype: Any, memory: Memory) -> None:
        size = np.dtype(dtype).itemsize
        self.width = BITS_OF_VECTOR // (8 * size)
        self.lanes: Bits | None = None
        if self.width <= n <= LONGEST[size] and n not in SORTED_IN_REGISTERS[size]:
            self.lanes = lanes_for(n, dtype, memory)

    def __call__(self, rows: Bits) -> None:
        """Sort each row, in place."""
        if self.lanes is not None and len(rows) >= self.width:
            sort_side_by_side(rows, self.lanes)
        else:
            rows.sort(axis=-1)


def lanes_for(n: int, dtype: Any, memory: Memory) -> Bits:
    """Memory for a vector of rows of n words, on their side."""
    width = BITS_OF_VECTOR // (8 * np.dtype(dtype).itemsize)
    return memory.empty(-(-n // BLOCK) * BLOCK * width, dtype)


@uncounted_kernel
def sort_side_by_side(rows: Bits, lanes: Bits) -> None:
    """Sort each of at least as many rows as a vector has lanes, which lie together.

    There is memory for the entries of a vector of rows, to a multiple of `BLOCK`.
    """
    n_rows, n = rows.shape
    words = rows.reshape(rows.size)
    width = BITS_OF_VECTOR // (8 * rows.itemsize)
    for first in range(0, n_rows, width):
        begin = min(first, n_rows - width) * n  # some again, so that all lanes have a row
        turn_on_side(words, begin, n, lanes, width)
        sort_lanes(lanes, lanes.size // width)
        turn_back(lanes, words, begin, n, width)


@inlined
def turn_on_side(words: Bits, begin: int, n: int, lanes: Bits, width: int) -> None:
    """Rows of n words, the first of which begins there, to lanes; what is behind sorts last."""
    for i in range(n * width, lanes.size):
        lanes[i] = ~words.dtype.type(0)
    for i in range(0, n, width):
        own = min(i, n - width)  # some of them again, rather than what is not there
        turn(words, begin + own, n, lanes, own * width, width)


@inlined
def turn_back(lanes: Bits, words: Bits, begin: int, n: int, width: int) -> None:
    """The reverse."""
    for i in range(0, n, width):
        own = min(i, n - width)
        turn(lanes, own * width, width, words, begin + own, n)


def _turn(
    typing_context: Any, source: Any, begin: Any, step: Any, target: Any, at: Any, own_step: Any
) -> Any:
    """Write the vectors that begin so far apart in the source as columns of those in the target."""
    del typing_context, begin, step, at, own_step
    signature = types.void(source, types.intp, types.intp, target, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_source, to_target = data_of(context, builder, signature, arguments, (0, 3))
        _, begin, step, _, at, own_step = arguments
        vector = vector_of(signature.args[0].dtype.bitwidth)
        vectors = []
        for _ in range(vector.count):
            vectors.append(load(builder, from_source, begin, vector))
            begin = builder.add(begin, step)
        for own in _columns(builder, vectors):
            store(builder, own, to_target, at)
            at = builder.add(at, own_step)
        return context.get_dummy_value()

    return signature, generate


turn: Any = intrinsic(_turn)


def _columns(builder: Any, vectors: list[Any]) -> list[Any]:
    """As many vectors as each has lanes, on their side: to shuffle two halves like cards moves the
    highest bit of each number's place to its end, and the places are the rows' and lanes' bits."""
    n = len(vectors)
    for _ in range(n.bit_length() - 1):
        shuffled = []
        for one, other in zip(vectors[: n // 2], vectors[n // 2 :], strict=True):
            for lanes in (range(n // 2), range(n // 2, n)):
                order = [place for k in lanes for place in (k, n + k)]
                mask = ir.Constant(ir.VectorType(ir.IntType(32), n), order)
                shuffled.append(builder.shuffle_vector(one, other, mask))
        vectors = shuffled
    return vectors
