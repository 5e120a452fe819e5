// What the lanes of a warp do together.
#pragma once

#include <cstring>
#include <type_traits>

#include "threads.hpp"

#pragma GCC visibility push(hidden)
namespace emulation {

template <class T>
inline std::uint64_t bits_of(T value) {
    static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return bits;
}

template <class T>
inline T shuffled(Operation operation, unsigned mask, T value, int offset, int width) {
    const unsigned source = source_of(operation, offset, width);
    const std::uint64_t bits =
        wait_for_lanes(operation, mask, bits_of(value), sizeof(T), source);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

}  // namespace emulation

// The unary plus promotes what is smaller than an int, as a call of CUDA's overloads does.
#define EMULATE_SHUFFLE(name, operation, Offset)                                             \
    template <class T>                                                                       \
    inline auto name(unsigned mask, T value, Offset offset, int width = 32) {                \
        return emulation::shuffled(emulation::Operation::operation, mask, +value,            \
                                   int(offset), width);                                      \
    }
EMULATE_SHUFFLE(__shfl_sync, SHUFFLE, int)
EMULATE_SHUFFLE(__shfl_up_sync, SHUFFLE_UP, unsigned)
EMULATE_SHUFFLE(__shfl_down_sync, SHUFFLE_DOWN, unsigned)
EMULATE_SHUFFLE(__shfl_xor_sync, SHUFFLE_XOR, int)
#undef EMULATE_SHUFFLE

inline void __syncwarp(unsigned mask = ~0u) {
    emulation::wait_for_lanes(emulation::Operation::SYNC, mask, 0, 0);
}

#define EMULATE_VOTE(name, Result, operation)                                                \
    inline Result name(unsigned mask, int predicate) {                                       \
        return Result(emulation::wait_for_lanes(emulation::Operation::operation, mask,       \
                                                predicate != 0, sizeof(int)));               \
    }
EMULATE_VOTE(__ballot_sync, unsigned, BALLOT)
EMULATE_VOTE(__any_sync, int, ANY)
EMULATE_VOTE(__all_sync, int, ALL)
#undef EMULATE_VOTE

template <class T>
inline unsigned __match_any_sync(unsigned mask, T value) {
    return unsigned(emulation::wait_for_lanes(emulation::Operation::MATCH_ANY, mask,
                                              emulation::bits_of(+value), sizeof(+value)));
}

#define EMULATE_REDUCTION(name, Value, operation)                                            \
    inline Value name(unsigned mask, Value value) {                                          \
        return Value(emulation::wait_for_lanes(emulation::Operation::operation, mask,        \
                                               unsigned(value), sizeof(Value)));             \
    }
EMULATE_REDUCTION(__reduce_add_sync, unsigned, ADD)
EMULATE_REDUCTION(__reduce_add_sync, int, ADD)
EMULATE_REDUCTION(__reduce_min_sync, unsigned, MIN_UNSIGNED)
EMULATE_REDUCTION(__reduce_min_sync, int, MIN_SIGNED)
EMULATE_REDUCTION(__reduce_max_sync, unsigned, MAX_UNSIGNED)
EMULATE_REDUCTION(__reduce_max_sync, int, MAX_SIGNED)
#undef EMULATE_REDUCTION

#pragma GCC visibility pop
