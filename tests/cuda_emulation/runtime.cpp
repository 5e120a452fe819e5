// What every kernel needs to run, compiled once: a grid of blocks, one block after another.
#include <cinttypes>
#include <cstring>
#include <mutex>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

#include <sys/mman.h>

#include "launch.hpp"
#include "warps.hpp"

#pragma GCC visibility push(hidden)
namespace emulation {

constexpr unsigned PAGE = 4096, MOST_SHARED_BYTES = 256 * 1024, GUARD_BYTES = PAGE;
constexpr unsigned FORBIDDEN_BYTES = 1024 * 1024;
constexpr unsigned ALL_SHARED_BYTES = MOST_SHARED_BYTES + GUARD_BYTES + FORBIDDEN_BYTES;

}  // namespace emulation

extern "C" {
alignas(emulation::PAGE) unsigned char dynamic_shared[emulation::ALL_SHARED_BYTES];
}

namespace emulation {

std::mutex one_launch;

inline unsigned char guard_byte(unsigned position) { return (position * 167u + 41u) >> 3 & 255; }

// Behind the shared memory of a block: bytes that must stay as they are, up to the end of a page,
// and then memory that ends the process when it is read or written.
inline unsigned end_of_guard(unsigned start) { return (start + GUARD_BYTES + PAGE - 1) / PAGE * PAGE; }

inline void protect_behind(unsigned start, int how) {
    const unsigned end = end_of_guard(start);
    if (mprotect(dynamic_shared + end, ALL_SHARED_BYTES - end, how)) report("mprotect failed");
}

inline void set_guard(unsigned start) {
    for (unsigned at = start; at < end_of_guard(start); ++at) dynamic_shared[at] = guard_byte(at);
    protect_behind(start, PROT_NONE);
}

inline void check_guard(unsigned start, unsigned stop) {
    unsigned char difference = 0;
    for (unsigned at = start; at < stop; ++at) difference |= dynamic_shared[at] ^ guard_byte(at);
    if (!difference) return;
    while (dynamic_shared[start] == guard_byte(start)) ++start;
    report("block (%u, %u, %u) or one before it wrote past its shared memory, at byte %u",
           blockIdx.x, blockIdx.y, blockIdx.z, start);
}

// What a kernel reads before it wrote it should differ from launch to launch.
inline void fill_with_garbage(unsigned bytes) {
    for (unsigned at = 0; at < bytes; at += 8) {
        const std::uint64_t garbage = chance.next();
        std::memcpy(dynamic_shared + at, &garbage, bytes - at < 8 ? bytes - at : 8);
    }
}

inline void report_deadlock() {
    int written = std::snprintf(failure, sizeof failure,
        "deadlock in block (%u, %u, %u) of %u threads: %u wait at %s, %u have returned",
        blockIdx.x, blockIdx.y, blockIdx.z, thread_count, barrier.arrived,
        barrier.arrived ? barrier.name : SYNCTHREADS, returned_count);
    for (unsigned warp = 0; warp * 32 < thread_count; ++warp) {
        if (!warps[warp].group_count) continue;
        const Group& group = warps[warp].groups[0];
        std::snprintf(failure + written, sizeof failure - written,
            "; lanes 0x%08x of warp %u wait at %s for lanes 0x%08x", group.arrived, warp,
            name_of(group.operation), group.mask & ~group.arrived);
        return;
    }
}

inline void run_block(unsigned shared_bytes) {
    fill_with_garbage(shared_bytes);
    barrier = {};
    returned_count = ready_warps = 0;
    for (unsigned warp = 0; warp < MOST_WARPS; ++warp)
        warps[warp].group_count = ready_lanes[warp] = returned_lanes[warp] = 0;
    for (unsigned thread = 0; thread < thread_count; ++thread) {
        prepare_context(fibers[thread].context, stack_of(thread), run_kernel_as_fiber);
        end_of_stack(thread) = STACK_END;
    }
    mark_all_ready();
    run_thread(scheduler, take_ready_thread());
    if (!*failure && returned_count < thread_count) report_deadlock();
    if (!*failure) check_guard(shared_bytes, end_of_guard(shared_bytes));
}

inline bool is_possible(const unsigned* grid, const unsigned* block, unsigned shared_bytes) {
    const std::uint64_t threads = std::uint64_t(block[0]) * block[1] * block[2];
    return threads && threads <= MOST_THREADS && block[2] <= 64 && grid[0] && grid[1] && grid[2] &&
           grid[0] <= INT32_MAX && grid[1] <= 65535 && grid[2] <= 65535 &&
           shared_bytes <= MOST_SHARED_BYTES;
}

inline std::vector<std::uint64_t> order_of_blocks(std::uint64_t count, unsigned seed) {
    std::vector<std::uint64_t> blocks(count);
    std::iota(blocks.begin(), blocks.end(), std::uint64_t(0));
    if (seed == 1) return {blocks.rbegin(), blocks.rend()};
    if (seed > 1)
        for (std::uint64_t left = count; left > 1; --left)
            std::swap(blocks[left - 1], blocks[chance.next() % left]);
    return blocks;
}

int launch(void (*kernel)(void**), const unsigned* grid, const unsigned* block,
                  unsigned shared_bytes, void** arguments, unsigned seed, int switching,
                  char* message, unsigned message_size) {
    std::lock_guard<std::mutex> lock(one_launch);
    *failure = 0;
    if (!is_possible(grid, block, shared_bytes))
        report("no launch of %u x %u x %u blocks of %u x %u x %u threads with %u shared bytes",
               grid[0], grid[1], grid[2], block[0], block[1], block[2], shared_bytes);
    else if (!reserve_stacks(MOST_THREADS))
        report("no memory for the stacks of the threads");
    if (!*failure) {
        kernel_to_run = kernel;
        kernel_arguments = arguments;
        switch_at_atomics = switching != 0;
        order = switching || seed > 1 ? Order::RANDOM : seed ? Order::DESCENDING : Order::ASCENDING;
        chance = Random(seed);
        gridDim = dim3(grid[0], grid[1], grid[2]);
        blockDim = dim3(block[0], block[1], block[2]);
        thread_count = block[0] * block[1] * block[2];
        for (unsigned thread = 0; thread < thread_count; ++thread)
            fibers[thread].index = {thread % block[0], thread / block[0] % block[1],
                                    thread / block[0] / block[1]};
        set_guard(shared_bytes);
        for (std::uint64_t at : order_of_blocks(std::uint64_t(grid[0]) * grid[1] * grid[2], seed)) {
            blockIdx = {unsigned(at % grid[0]), unsigned(at / grid[0] % grid[1]),
                        unsigned(at / grid[0] / grid[1])};
            run_block(shared_bytes);
            if (*failure) break;
        }
        protect_behind(shared_bytes, PROT_READ | PROT_WRITE);
    }
    if (message_size) std::snprintf(message, message_size, "%s", failure);
    return *failure != 0;
}

}  // namespace emulation
#pragma GCC visibility pop
