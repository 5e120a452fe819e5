"""The entries of each lane of some vectors sorted, by a network.

A sorting network (Batcher, "Sorting networks and their applications", 1968) compares the same
entries whatever they are, so that one step does for all lanes what it does for one.

Blocks are sorted in registers, and then merged two by two, the second one in reverse: the lesser of
each two vectors that face each other belong to the first half, and so on within the halves. What
would lie behind the last block counts as greater than all, and is left out.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from groupmap.backends._bits import Bits
from groupmap.backends.kernels.compiled import inlined
from groupmap.backends.kernels.vectors import data_of, load, store, vector_of

BLOCK = 16  # vectors, which leave as many registers to work in
SEVERAL = 4  # at once, of each of up to four parts of a row


@inlined
def sort_lanes(lanes: Bits, n: int) -> None:
    """Sort the entries of each lane of n vectors, a multiple of `BLOCK`."""
    for block in range(0, n, BLOCK):
        sort_block(lanes, block, 0)
    half = BLOCK
    while half < n:
        merge(lanes, n, half)
        half *= 2


@inlined
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


@inlined
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
            vector = vector_of(signature.args[0].dtype.bitwidth)

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
                store(builder, own, memory, place)
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
