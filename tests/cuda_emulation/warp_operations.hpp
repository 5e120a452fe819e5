// What the lanes of a warp do together.
#pragma once

#include <cstring>
#include <type_traits>

#include "scheduler.hpp"

#pragma GCC visibility push(hidden)
namespace emulation {

enum class Operation {
    SYNC, SHUFFLE, SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_XOR, BALLOT, ANY, ALL, MATCH_ANY,
    ADD, MIN_UNSIGNED, MAX_UNSIGNED, MIN_SIGNED, MAX_SIGNED,
};

constexpr const char* OPERATION_NAMES[] = {
    "__syncwarp", "__shfl_sync", "__shfl_up_sync", "__shfl_down_sync", "__shfl_xor_sync",
    "__ballot_sync", "__any_sync", "__all_sync", "__match_any_sync",
    "__reduce_add_sync", "__reduce_min_sync", "__reduce_max_sync",
    "__reduce_min_sync of int", "__reduce_max_sync of int",
};

inline const char* name_of(Operation operation) { return OPERATION_NAMES[int(operation)]; }

// The lanes of one mask, some of which wait for the rest of them.
struct Group {
    unsigned mask, arrived, bytes;
    Operation operation;
};

struct Warp {
    unsigned group_count;
    Group groups[32];
    std::uint64_t values[32], results[32];
    unsigned char sources[32];
};
Warp warps[MOST_WARPS];

template <class Visit>
inline void for_each_lane(unsigned mask, Visit visit) {
    for (; mask; mask &= mask - 1) visit(unsigned(__builtin_ctz(mask)));
}

inline std::uint64_t reduced(const Warp& warp, const Group& group) {
    unsigned result = unsigned(warp.values[__builtin_ctz(group.mask)]);
    for_each_lane(group.mask & (group.mask - 1), [&](unsigned lane) {
        const unsigned value = unsigned(warp.values[lane]);
        switch (group.operation) {
            case Operation::ADD: result += value; break;
            case Operation::MIN_UNSIGNED: result = value < result ? value : result; break;
            case Operation::MAX_UNSIGNED: result = value > result ? value : result; break;
            case Operation::MIN_SIGNED: result = int(value) < int(result) ? value : result; break;
            default: result = int(value) > int(result) ? value : result;
        }
    });
    return result;
}

// The last lane to arrive computes the results of all: a lane has read its own before it can take
// part in another operation, so that none is overwritten too early.
inline void compute_results(Warp& warp, const Group& group) {
    std::uint64_t common = 0;
    switch (group.operation) {
        case Operation::SHUFFLE:
        case Operation::SHUFFLE_UP:
        case Operation::SHUFFLE_DOWN:
        case Operation::SHUFFLE_XOR:
            for_each_lane(group.mask, [&](unsigned lane) {
                const unsigned source = warp.sources[lane];
                const bool defined = group.mask >> source & 1;
                warp.results[lane] = defined ? warp.values[source] : chance.next();
            });
            return;
        case Operation::MATCH_ANY:
            for_each_lane(group.mask, [&](unsigned lane) {
                std::uint64_t equal = 0;
                for_each_lane(group.mask, [&](unsigned other) {
                    equal |= std::uint64_t(warp.values[lane] == warp.values[other]) << other;
                });
                warp.results[lane] = equal;
            });
            return;
        case Operation::SYNC:
            return;
        case Operation::BALLOT:
        case Operation::ANY:
        case Operation::ALL:
            for_each_lane(group.mask, [&](unsigned lane) { common |= warp.values[lane] << lane; });
            if (group.operation == Operation::ANY) common = common != 0;
            if (group.operation == Operation::ALL) common = common == group.mask;
            break;
        default:
            common = reduced(warp, group);
    }
    for_each_lane(group.mask, [&](unsigned lane) { warp.results[lane] = common; });
}

inline Group& group_of(Warp& warp, Operation operation, unsigned mask, unsigned bytes) {
    for (unsigned known = 0; known < warp.group_count; ++known) {
        Group& group = warp.groups[known];
        if (group.mask != mask) continue;
        if (group.operation != operation || group.bytes != bytes)
            fail("%s of %u bytes while other lanes of the mask 0x%08x wait at %s of %u bytes",
                 name_of(operation), bytes, mask, name_of(group.operation), group.bytes);
        return group;
    }
    return warp.groups[warp.group_count++] = {mask, 0, bytes, operation};
}

inline void check_mask(Operation operation, unsigned mask, unsigned warp, unsigned lane) {
    if (!(mask >> lane & 1))
        fail("%s with the mask 0x%08x, which lacks its own lane %u", name_of(operation), mask,
             lane);
    if (mask & ~lanes_of_warp(warp))
        fail("%s with the mask 0x%08x names lanes which the block does not have",
             name_of(operation), mask);
    if (mask & returned_lanes[warp])
        fail("%s with the mask 0x%08x names lanes which have returned: 0x%08x", name_of(operation),
             mask, mask & returned_lanes[warp]);
}

__attribute__((noinline)) inline std::uint64_t wait_for_lanes(
    Operation operation, unsigned mask, std::uint64_t value, unsigned bytes, unsigned source = 0) {
    const unsigned lane = running % 32, warp_index = running / 32;
    check_mask(operation, mask, warp_index, lane);
    Warp& warp = warps[warp_index];
    Group& group = group_of(warp, operation, mask, bytes);
    warp.values[lane] = value;
    warp.sources[lane] = static_cast<unsigned char>(source);
    group.arrived |= 1u << lane;
    if (group.arrived == mask) {
        compute_results(warp, group);
        group = warp.groups[--warp.group_count];
        mark_ready(warp_index, mask);
        atomics_without_progress = 0;
    }
    run_another();
    return warp.results[lane];
}

template <class T>
inline std::uint64_t bits_of(T value) {
    static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return bits;
}

// A lane which would read from beyond its part of the warp reads itself.
inline unsigned source_of(Operation operation, int offset, int width) {
    if (width < 1 || width > 32 || width & (width - 1))
        fail("%s with a width of %d", name_of(operation), width);
    const int lane = int(running % 32), start = lane & -width, stop = start + width;
    int source;
    switch (operation) {
        case Operation::SHUFFLE_UP: source = lane - offset; break;
        case Operation::SHUFFLE_DOWN: source = lane + offset; break;
        case Operation::SHUFFLE_XOR:
            source = lane ^ offset;
            return source >= 0 && source < stop ? source : lane;
        default: source = start + (offset & (width - 1));
    }
    return source >= start && source < stop ? source : lane;
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
