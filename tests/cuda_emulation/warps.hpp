// The lanes of a warp that wait for one another.
#pragma once

#include "scheduler.hpp"

#pragma GCC visibility push(hidden)
namespace emulation {

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

std::uint64_t wait_for_lanes(
    Operation operation, unsigned mask, std::uint64_t value, unsigned bytes, unsigned source) {
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

unsigned source_of(Operation operation, int offset, int width) {
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

}  // namespace emulation
#pragma GCC visibility pop
