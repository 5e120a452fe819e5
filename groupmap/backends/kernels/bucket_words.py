"""The words of a bucket (see `buckets`), written by vectors.

Buckets are so short that what loops leave to be done one by one would take as long as the rest;
here the last vector does some entries again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from groupmap.backends._bits import Bits, Unsigned
from groupmap.backends.kernels.compiled import inlined
from groupmap.backends.kernels.vectors import (
    LANES,
    bit_length,
    data_of,
    in_each_lane,
    load,
    store,
    variable,
)
from groupmap.backends.kernels.words import WORD_BITS, index_bits

BEHIND_ALL = np.uint32(2**WORD_BITS - 1)


@inlined
def bits_lost(least: Unsigned, greatest: Unsigned, size: int) -> int:
    """How many of the bits that tell so many keys apart there is no room for above an index."""
    return max(int(bit_length(np.uint64(greatest - least))) + index_bits(size) - WORD_BITS, 0)


@inlined
def least_and_greatest(keys: Bits) -> tuple[Unsigned, Unsigned]:
    """The least and the greatest key of a bucket."""
    least = greatest = keys[0]
    if keys.size >= LANES:
        least, greatest = extent_by_vectors(keys, keys.size)
    else:
        for i in range(keys.size):
            least, greatest = min(least, keys[i]), max(greatest, keys[i])
    return least, greatest


@inlined
def write_words(keys: Bits, least: Unsigned, lost: int, words: Bits) -> None:
    """Words of the keys of a bucket, and of their indices in it; what is behind sorts last."""
    size = keys.size
    down, up = keys.dtype.type(lost), np.uint32(index_bits(size))
    if size >= LANES:
        for first in range(0, size, LANES):
            write_vector(keys, min(first, size - LANES), least, down, up, words)
    else:
        for i in range(size):
            distance = np.uint32((keys[i] - least) >> down)
            words[i] = (distance << up) | np.uint32(i)
    for i in range(size, words.size):
        words[i] = BEHIND_ALL


def _extent_by_vectors(typing_context: Any, keys: Any, size: Any) -> Any:
    """The least and the greatest of so many keys, a vector or more."""
    del typing_context, size
    signature = types.UniTuple(keys.dtype, 2)(keys, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (memory,), size = data_of(context, builder, signature, arguments, (0,)), arguments[1]
        vector = ir.VectorType(ir.IntType(signature.args[0].dtype.bitwidth), LANES)
        lanes, one = (ir.Constant(size.type, number) for number in (LANES, 1))
        last = builder.sub(size, lanes)
        ends = [variable(builder, load(builder, memory, last, vector)) for _ in range(2)]
        with cgutils.for_range(builder, builder.udiv(builder.sub(size, one), lanes)) as loop:
            own = load(builder, memory, builder.mul(loop.index, lanes), vector)
            for end, comparison in zip(ends, "<>", strict=True):
                so_far = builder.load(end)
                is_further = builder.icmp_unsigned(comparison, own, so_far)
                builder.store(builder.select(is_further, own, so_far), end)
        name = f"llvm.vector.reduce.%s.v{LANES}i{vector.element.width}"
        both = [
            builder.call(
                cgutils.get_or_insert_function(
                    builder.module, ir.FunctionType(vector.element, [vector]), name % which
                ),
                [builder.load(end)],
            )
            for end, which in zip(ends, ("umin", "umax"), strict=True)
        ]
        return context.make_tuple(builder, signature.return_type, both)

    return signature, generate


def _write_vector(
    typing_context: Any, keys: Any, begin: Any, least: Any, down: Any, up: Any, words: Any
) -> Any:
    """The words of a vector of keys from `begin` on, whose distance from the least is shifted."""
    del typing_context, begin, least, down, up
    signature = types.void(keys, types.intp, keys.dtype, keys.dtype, types.uint32, words)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_keys, to_words = data_of(context, builder, signature, arguments, (0, 5))
        _, begin, least, down, up, _ = arguments
        word = ir.IntType(WORD_BITS)
        vector, words = ir.VectorType(least.type, LANES), ir.VectorType(word, LANES)
        own = load(builder, from_keys, begin, vector)
        distance = builder.sub(own, in_each_lane(builder, least, LANES))
        distance = builder.lshr(distance, in_each_lane(builder, down, LANES))
        if least.type.width > WORD_BITS:
            distance = builder.trunc(distance, words)
        distance = builder.shl(distance, in_each_lane(builder, up, LANES))
        lanes = ir.Constant(words, list(range(LANES)))
        index = builder.add(in_each_lane(builder, builder.trunc(begin, word), LANES), lanes)
        store(builder, builder.or_(distance, index), to_words, begin)
        return context.get_dummy_value()

    return signature, generate


# No caller has the first argument of these.
extent_by_vectors: Any = intrinsic(_extent_by_vectors)
write_vector: Any = intrinsic(_write_vector)
