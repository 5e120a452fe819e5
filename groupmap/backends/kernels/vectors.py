"""Vectors, and instructions of processors, that compiled code cannot name otherwise."""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

KNOWN_SINCE = 19  # the version of LLVM that has them all, for every processor
IS_KNOWN = binding.llvm_version_info[0] >= KNOWN_SINCE


def _has(feature: str) -> bool:
    features = getattr(config, "CPU_FEATURES", None)
    if features is not None:  # the processor that is compiled for need not be this one
        return f"+{feature}" in features
    try:
        return bool(binding.get_host_cpu_features().get(feature))
    except RuntimeError:  # where LLVM does not ask the processor
        return False


def _is_zen() -> bool:
    name = getattr(config, "CPU_NAME", None) or binding.get_host_cpu_name()
    return str(name).startswith("znver")


IS_FAST = IS_KNOWN and _has("avx512f")
HAS_AVX2_ALONE = IS_KNOWN and _has("avx2") and not IS_FAST
BITS_OF_VECTOR = 512 if IS_FAST else 256  # of two registers in place of each, too many are spilt
LANES = BITS_OF_VECTOR // 32  # numbers of 32 bits in a vector
ROUNDS_TO_HALF = IS_KNOWN and _has("f16c")
# On AMD's processors minima of vectors take half as long, and stores that miss the nearest cache
# are not waited for as much. What depends on it was measured on Zen 5, and on Emerald Rapids.
IS_FAST_ZEN = IS_FAST and _is_zen()


def _append_equal(
    typing_context: Any, words: Any, begin: Any, first: Any, low: Any, spots: Any, found: Any
) -> Any:
    """Append to `spots`, of which so many are `found`, where words have the prefix of the next.

    Of `LANES` words from `begin` on, and one behind them, all but the `low` bits are the prefix;
    those before the `first` one do not count.
    How many are found then comes back. Both arrays are contiguous; spots are of 32 bits, with room
    for a whole vector: what is found is pressed together, and what lies behind is overwritten by
    the next. That is one instruction where there is AVX-512, and slow elsewhere.
    """
    del typing_context, begin, first, low, found
    signature = types.intp(words, types.intp, types.intp, words.dtype, spots, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, begin, first, low, _, found = arguments
        to_words, to_spots = data_of(context, builder, signature, arguments, (0, 4))
        spot = ir.IntType(32)
        vector = ir.VectorType(ir.IntType(signature.args[0].dtype.bitwidth), LANES)

        def prefixes_from(index: Any) -> Any:
            words = load(builder, to_words, index, vector)
            return builder.lshr(words, in_each_lane(builder, low, LANES))

        behind = builder.add(begin, ir.Constant(begin.type, 1))
        is_equal = builder.icmp_unsigned("==", prefixes_from(begin), prefixes_from(behind))
        lanes = ir.Constant(ir.VectorType(spot, LANES), list(range(LANES)))
        places = builder.add(in_each_lane(builder, builder.trunc(begin, spot), LANES), lanes)
        least = in_each_lane(builder, builder.trunc(first, spot), LANES)
        counts = builder.and_(is_equal, builder.icmp_unsigned(">=", places, least))
        return _append(builder, places, counts, to_spots, found)

    return signature, generate


# No caller has the first argument of these.
append_equal: Any = intrinsic(_append_equal)


def _append_where(
    typing_context: Any, flags: Any, source: Any, begin: Any, target: Any, found: Any
) -> Any:
    """Append those entries of `source` to `target`, of which it has so many, that have a flag.

    As many as are in a vector are looked at, from `begin` on; there is room for all of
    them. How many are found then comes back. All arrays are contiguous; flags are bytes.
    """
    del typing_context, begin, found
    signature = types.intp(flags, source, types.intp, target, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, _, begin, _, found = arguments
        to_flags, to_source, to_target = data_of(context, builder, signature, arguments, (0, 1, 3))
        word = ir.IntType(signature.args[1].dtype.bitwidth)
        lanes = BITS_OF_VECTOR // word.width
        has_flag = _flags_at(builder, to_flags, begin, lanes)
        entries = load(builder, to_source, begin, ir.VectorType(word, lanes))
        return _append(builder, entries, has_flag, to_target, found)

    return signature, generate


append_where: Any = intrinsic(_append_where)


def _take_where(
    typing_context: Any, flags: Any, source: Any, taken: Any, target: Any, begin: Any
) -> Any:
    """Put the next entries of `source`, of which so many are `taken`, where `target` has a flag.

    The reverse of `append_where`.
    """
    del typing_context, begin, taken
    signature = types.intp(flags, source, types.intp, target, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, _, taken, _, begin = arguments
        to_flags, to_source, to_target = data_of(context, builder, signature, arguments, (0, 1, 3))
        word = ir.IntType(signature.args[1].dtype.bitwidth)
        lanes = BITS_OF_VECTOR // word.width
        vector = ir.VectorType(word, lanes)
        has_flag = _flags_at(builder, to_flags, begin, lanes)
        before = load(builder, to_target, begin, vector)
        at = builder.gep(to_source, [taken])
        expand = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [at.type, has_flag.type, vector]),
            f"llvm.masked.expandload.v{lanes}i{word.width}",
        )
        entries = builder.call(expand, [at, has_flag, before])
        at = pointer_to(builder, to_target, begin, vector)
        builder.store(entries, at, align=word.width // 8)
        return _count(builder, has_flag, taken)

    return signature, generate


take_where: Any = intrinsic(_take_where)


def data_of(
    context: Any, builder: Any, signature: Any, arguments: Any, which: tuple[int, ...]
) -> tuple[Any, ...]:
    """Where the memory of these arguments, which are arrays, begins."""
    return tuple(make_array(signature.args[k])(context, builder, arguments[k]).data for k in which)


def store(builder: Any, vector: Any, memory: Any, index: Any) -> None:
    """Write a vector, which begins at that entry."""
    at = pointer_to(builder, memory, index, vector.type)
    builder.store(vector, at, align=vector.type.element.width // 8)


def vector_of(bits: int) -> Any:
    """As many numbers of so many bits as there is room for."""
    return ir.VectorType(ir.IntType(bits), BITS_OF_VECTOR // bits)


def pointer_to(builder: Any, memory: Any, index: Any, vector: Any) -> Any:
    """Where a vector that begins at that entry is."""
    return builder.bitcast(builder.gep(memory, [index]), vector.as_pointer())


def in_each_lane(builder: Any, number: Any, lanes: int) -> Any:
    """A vector that holds the number in each of so many lanes."""
    undefined = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    firsts = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, undefined, firsts)


def variable(builder: Any, value: Any) -> Any:
    """Memory that holds a value, and may be written to, as a loop does with its sum."""
    return cgutils.alloca_once_value(builder, value)


def load(builder: Any, memory: Any, index: Any, vector: Any) -> Any:
    """A vector, which begins at that entry."""
    at = pointer_to(builder, memory, index, vector)
    return builder.load(at, align=vector.element.width // 8)


def _flags_at(builder: Any, memory: Any, index: Any, lanes: int) -> Any:
    """Which of some bytes, from that one on, are not 0."""
    bytes_there = ir.VectorType(ir.IntType(8), lanes)
    own = load(builder, memory, index, bytes_there)
    return builder.icmp_unsigned("!=", own, ir.Constant(bytes_there, [0] * lanes))


def _append(builder: Any, entries: Any, flags: Any, memory: Any, found: Any) -> Any:
    """Press together the entries of a vector that have a flag, behind those that are found; how
    many there are then."""
    vector = entries.type
    width = vector.element.width
    press = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(vector, [vector, flags.type, vector]),
        f"llvm.experimental.vector.compress.v{vector.count}i{width}",
    )
    pressed = builder.call(press, [entries, flags, ir.Constant(vector, ir.Undefined)])
    builder.store(pressed, pointer_to(builder, memory, found, vector), align=width // 8)
    return _count(builder, flags, found)


def _count(builder: Any, flags: Any, before: Any) -> Any:
    """So many more than before as there are flags."""
    count = builder.ctpop(builder.bitcast(flags, ir.IntType(flags.type.count)))
    return builder.add(before, builder.zext(count, before.type))


def _round_to_halves(typing_context: Any, floats: Any, begin: Any, halves: Any) -> Any:
    """Round two vectors of floats, from `begin` on, to one of 16 bits each, to the nearest; for
    processors with an instruction for that.

    Both arrays hold bit patterns, which lie together. Some processors take several times as long to
    write each half of the result by itself.
    """
    del typing_context, begin
    signature = types.void(floats, types.intp, halves)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to_floats, to_halves = data_of(context, builder, signature, arguments, (0, 2))
        begin = arguments[1]
        rounded = []
        for at in (begin, builder.add(begin, ir.Constant(begin.type, LANES))):
            bits = load(builder, to_floats, at, ir.VectorType(ir.IntType(32), LANES))
            own = builder.bitcast(bits, ir.VectorType(ir.FloatType(), LANES))
            half = builder.fptrunc(own, ir.VectorType(ir.HalfType(), LANES))
            rounded.append(builder.bitcast(half, ir.VectorType(ir.IntType(16), LANES)))
        all_lanes = ir.Constant(ir.VectorType(ir.IntType(32), 2 * LANES), list(range(2 * LANES)))
        both = builder.shuffle_vector(*rounded, all_lanes)
        builder.store(both, pointer_to(builder, to_halves, begin, both.type), align=2)
        return context.get_dummy_value()

    return signature, generate


round_to_halves: Any = intrinsic(_round_to_halves)


def _store_word(typing_context: Any, word: Any, memory: Any, index: Any) -> Any:
    """Write 8 bytes to a contiguous array of narrower numbers, from that one on."""
    del typing_context, word, index
    signature = types.void(types.uint64, memory, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (data,) = data_of(context, builder, signature, arguments, (1,))
        place = pointer_to(builder, data, arguments[2], ir.IntType(64))
        builder.store(arguments[0], place, align=signature.args[1].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return signature, generate


store_word: Any = intrinsic(_store_word)


def _bit_length(typing_context: Any, number: Any) -> Any:
    """How many bits a number of 64 bits has; of 0 none."""
    del typing_context, number
    signature = types.int64(types.uint64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))
        return builder.sub(ir.Constant(zeros.type, 64), zeros)

    return signature, generate


bit_length: Any = intrinsic(_bit_length)


def _fetch(typing_context: Any, memory: Any, index: Any) -> Any:
    """Have a processor fetch an entry of a contiguous array, to read or write it, in the meantime.

    Nothing depends on it: the entry need not be there, and an LLVM that is not known fetches none.
    """
    del typing_context, index
    signature = types.void(memory, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not IS_KNOWN:
            return context.get_dummy_value()
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        fetch = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [place.type, number, number, number]),
            "llvm.prefetch.p0",
        )
        to_be_written, for_long, data_cache = (ir.Constant(number, k) for k in (1, 3, 1))
        builder.call(fetch, [place, to_be_written, for_long, data_cache])
        return context.get_dummy_value()

    return signature, generate


fetch: Any = intrinsic(_fetch)
