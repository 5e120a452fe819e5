"""Short rows sorted side by side: as many at once as a vector has lanes.

A sorting network (Batcher, "Sorting networks and their applications", 1968) compares the same
entries whatever they are, so that one step does for the entries of all lanes what it does for those
of one. The rows are turned on their side before, so that a vector holds one entry of each, and back
after.

Blocks are sorted in registers, and then merged two by two, the second one in reverse: the lesser of
each two vectors that face each other belong to the first half, and so on within the halves. What
would lie behind the last block counts as greater than all, and is left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from groupmap.backends._bits import Bits
from groupmap.backends.kernels.compiled import uncounted
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.vectors import BITS_OF_VECTOR, IS_FAST, data_of, load, pointer_to

BLOCK = 16  # vectors, which leave as many registers to work in
SEVERAL = 4  # at once, of each of up to four parts of a row
# Words of so many bytes that fill the registers are sorted as fast by NumPy, row by row, and so are
# rows that, by a vector of them, fill the cache.
LONGEST = {2: 3072, 4: 3072, 8: 1536}
SORTED_IN_REGISTERS = {2: range(0), 4: range(449, 513), 8: range(257)}


class Sorter:
    """Sorts rows of so many words of some unsigned dtype."""

    def __init__(self, n: int, dtype: Any, memory: Memory) -> None:
        size = np.dtype(dtype).itemsize
        width = BITS_OF_VECTOR // (8 * size)
        self.lanes: Bits | None = None
        if IS_FAST and width <= n <= LONGEST[size] and n not in SORTED_IN_REGISTERS[size]:
            self.lanes = lanes_for(n, dtype, memory)

    def __call__(self, rows: Bits) -> None:
        """Sort each row, in place."""
        n_sorted = 0 if self.lanes is None else sort_side_by_side(rows, self.lanes)
        if n_sorted < len(rows):
            rows[n_sorted:].sort(axis=-1)


def lanes_for(n: int, dtype: Any, memory: Memory) -> Bits:
    """Memory for a vector of rows of n words, on their side."""
    width = BITS_OF_VECTOR // (8 * np.dtype(dtype).itemsize)
    return memory.empty(-(-n // BLOCK) * BLOCK * width, dtype)


@uncounted
def sort_side_by_side(rows: Bits, lanes: Bits) -> int:
    """Sort the first rows, as many as fill vectors; how many it is.

    There is memory for the entries of a vector of rows, to a multiple of `BLOCK`.
    """
    n_rows, n = rows.shape
    words = rows.reshape(rows.size)
    width = BITS_OF_VECTOR // (8 * rows.itemsize)
    n_vectors = lanes.size // width
    in_vectors = n_rows - n_rows % width
    for begin in range(0, in_vectors * n, width * n):
        turn_on_side(words, begin, n, lanes, width)
        sort_lanes(lanes, n_vectors)
        turn_back(lanes, words, begin, n, width)
    return int(in_vectors)


@njit(inline="always")
def sort_lanes(lanes: Bits, n: int) -> None:
    """Sort the entries of each lane of n vectors, a multiple of `BLOCK`."""
    for block in range(0, n, BLOCK):
        sort_block(lanes, block, 0)
    half = BLOCK
    while half < n:
        merge(lanes, n, half)
        half *= 2


@njit(inline="always")
def turn_on_side(words: Bits, begin: int, n: int, lanes: Bits, width: int) -> None:
    """Rows of n words, the first of which begins there, to lanes; what is behind sorts last."""
    for i in range(n * width, lanes.size):
        lanes[i] = ~words.dtype.type(0)
    for i in range(0, n, width):
        own = min(i, n - width)  # some of them again, rather than what is not there
        turn(words, begin + own, n, lanes, own * width, width)


@njit(inline="always")
def turn_back(lanes: Bits, words: Bits, begin: int, n: int, width: int) -> None:
    """The reverse."""
    for i in range(0, n, width):
        own = min(i, n - width)
        turn(lanes, own * width, width, words, begin + own, n)


@njit(inline="always")
def merge(lanes: Bits, n: int, half: int) -> None:
    """Sorted stretches of `half` of n vectors, two by two."""
    for begin in range(0, n, 2 * half):
        for i in range(0, half, SEVERAL):
            if begin + 2 * half - 1 - i < n:
                exchange_mirrored(lanes, begin + i, 2 * (half - i) - 1)
    distance = half // 2
    while distance > BLOCK:
        split_twice(lanes, n, distance // 2)
        distance //= 4
    if distance == BLOCK:
        for begin in range(0, n - BLOCK, 2 * BLOCK):
            for i in range(begin, begin + BLOCK, SEVERAL):
                split(lanes, i, BLOCK)
    for block in range(0, n, BLOCK):
        split_block(lanes, block, 0)


@njit(inline="always")
def split_twice(lanes: Bits, n: int, quarter: int) -> None:
    """The lesser half of the vectors of each stretch to its first half; again in the halves."""
    for begin in range(0, n, 4 * quarter):
        for i in range(begin, min(begin + quarter, n), SEVERAL):
            parts = (n - 1 - i) // quarter + 1
            if parts >= 4:
                split_quarters(lanes, i, quarter)
            elif parts == 3:
                split_thirds(lanes, i, quarter)
            elif parts == 2:
                split(lanes, i, quarter)


def _network(places: list[tuple[int, int]], pairs: list[tuple[int, int]]) -> Any:
    """A function of lanes, a vector to `begin` with, and a distance: compare and exchange in turn
    these pairs of the vectors ``begin + times · distance + offset`` for these (times, offset)."""

    def exchange(typing_context: Any, lanes: Any, begin: Any, distance: Any) -> Any:
        del typing_context, begin, distance
        signature = types.void(lanes, types.intp, types.intp)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            (memory,) = data_of(context, builder, signature, arguments, (0,))
            _, begin, distance = arguments
            vector = _vector_of(signature.args[0].dtype.bitwidth)

            def constant(number: int) -> Any:
                return ir.Constant(begin.type, number)

            at = []
            for times, offset in places:
                place = builder.add(begin, builder.mul(distance, constant(times)))
                place = builder.add(place, constant(offset))
                at.append(builder.mul(place, constant(vector.count)))
            vectors = [load(builder, memory, each, vector) for each in at]
            for i, j in pairs:
                is_less = builder.icmp_unsigned("<", vectors[i], vectors[j])
                vectors[i], vectors[j] = (
                    builder.select(is_less, vectors[i], vectors[j]),
                    builder.select(is_less, vectors[j], vectors[i]),
                )
            for place, own in zip(at, vectors, strict=True):
                _store(builder, own, memory, place)
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(exchange)


def _pairs_of_sort(n: int) -> list[tuple[int, int]]:
    """What Batcher's merges by odd and even places compare."""
    pairs, size = [], 1
    while size < n:
        distance = size
        while distance >= 1:
            for begin in range(distance % size, n - distance, 2 * distance):
                for i in range(begin, min(begin + distance, n - distance)):
                    if i // (2 * size) == (i + distance) // (2 * size):
                        pairs.append((i, i + distance))
            distance //= 2
        size *= 2
    return pairs


def _pairs_of_split(n: int) -> list[tuple[int, int]]:
    """Each of the first half with the one as far behind, and so on within the halves."""
    if n == 1:
        return []
    half = n // 2
    within = _pairs_of_split(half)
    behind = [(i + half, j + half) for i, j in within]
    return [(i, i + half) for i in range(half)] + within + behind


def _places(parts: int) -> list[tuple[int, int]]:
    return [(part, k) for part in range(parts) for k in range(SEVERAL)]


def _pairs_of_parts(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(i * SEVERAL + k, j * SEVERAL + k) for i, j in pairs for k in range(SEVERAL)]


_BLOCK = [(0, k) for k in range(BLOCK)]
sort_block = _network(_BLOCK, _pairs_of_sort(BLOCK))
split_block = _network(_BLOCK, _pairs_of_split(BLOCK))
split = _network(_places(2), _pairs_of_parts([(0, 1)]))
split_thirds = _network(_places(3), _pairs_of_parts([(0, 2), (0, 1)]))
split_quarters = _network(_places(4), _pairs_of_parts([(0, 2), (1, 3), (0, 1), (2, 3)]))
exchange_mirrored = _network(
    [(0, k) for k in range(SEVERAL)] + [(1, -k) for k in range(SEVERAL)], _pairs_of_parts([(0, 1)])
)


def _turn(
    typing_context: Any, source: Any, begin: Any, step: Any, target: Any, at: Any, own_step: Any
) -> Any:
    """Write the vectors that begin so far apart in the source as columns of those in the target."""
    del typing_context, begin, step, at, own_step
    signature = types.void(source, types.intp, types.intp, target, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_source, to_target = data_of(context, builder, signature, arguments, (0, 3))
        _, begin, step, _, at, own_step = arguments
        vector = _vector_of(signature.args[0].dtype.bitwidth)
        vectors = []
        for _ in range(vector.count):
            vectors.append(load(builder, from_source, begin, vector))
            begin = builder.add(begin, step)
        for own in _columns(builder, vectors):
            _store(builder, own, to_target, at)
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


def _vector_of(bits: int) -> Any:
    return ir.VectorType(ir.IntType(bits), BITS_OF_VECTOR // bits)


def _store(builder: Any, vector: Any, memory: Any, at: Any) -> None:
    place = pointer_to(builder, memory, at, vector.type)
    builder.store(vector, place, align=vector.type.element.width // 8)
