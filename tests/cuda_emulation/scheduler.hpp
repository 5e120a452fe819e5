// Which thread of the block runs next, and the barriers at which it waits for the others.
#pragma once

#include <cstdarg>
#include <cstdio>

#include "fibers.hpp"
#include "threads.hpp"

#pragma GCC visibility push(hidden)

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulation {

// With `extern`, or constants would be known in this file alone.
extern const char SYNCTHREADS[] = "__syncthreads", SYNCTHREADS_OR[] = "__syncthreads_or",
                  SYNCTHREADS_AND[] = "__syncthreads_and",
                  SYNCTHREADS_COUNT[] = "__syncthreads_count";

constexpr unsigned MOST_THREADS = 1024;
constexpr unsigned MOST_WARPS = MOST_THREADS / 32;
// More atomics than this while no thread waits or returns: they wait for a thread that cannot run.
constexpr unsigned MOST_ATOMICS_WITHOUT_PROGRESS = 100'000'000;

struct Fiber {
    Context context;
    uint3 index;
};

enum class Order { ASCENDING, DESCENDING, RANDOM };

struct Random {
    std::uint64_t state;
    explicit Random(std::uint64_t seed = 0) : state((seed + 1) * 0x9e3779b97f4a7c15) {
        for (int warming = 0; warming < 4; ++warming) next();
    }
    std::uint64_t next() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return state * 0x2545f4914f6cdd1d;
    }
    unsigned bits() { return unsigned(next() >> 32); }
};

Fiber fibers[MOST_THREADS];
Context scheduler;
unsigned thread_count;
unsigned running, returned_count, atomics_without_progress;
unsigned ready_warps, ready_lanes[MOST_WARPS], returned_lanes[MOST_WARPS];

Random chance;
Order order;
bool switch_at_atomics;
// At random, either all warps advance together, or one goes as far as it can before the next does.
bool warps_interleave;
unsigned first_warp;

char failure[768];
void (*kernel_to_run)(void**);
void** kernel_arguments;

inline unsigned first_from(unsigned start, unsigned bits) {
    start &= 31;
    return (start + __builtin_ctz(bits >> start | bits << (-start & 31))) & 31;
}

inline void draw_order_of_warps() {
    if (order != Order::RANDOM) return;
    const unsigned drawn = chance.bits();
    first_warp = drawn >> 1 & 31;
    warps_interleave = switch_at_atomics || drawn & 1;
}

inline void mark_ready(unsigned warp, unsigned lanes) {
    ready_lanes[warp] |= lanes;
    ready_warps |= 1u << warp;
}

inline unsigned take_ready_thread() {
    unsigned warp, lane;
    if (order == Order::ASCENDING) {
        warp = __builtin_ctz(ready_warps);
        lane = __builtin_ctz(ready_lanes[warp]);
    } else if (order == Order::DESCENDING) {
        warp = 31 - __builtin_clz(ready_warps);
        lane = 31 - __builtin_clz(ready_lanes[warp]);
    } else {
        const unsigned drawn = chance.bits();
        warp = first_from(warps_interleave ? drawn : first_warp, ready_warps);
        lane = first_from(drawn >> 5, ready_lanes[warp]);
    }
    ready_lanes[warp] &= ~(1u << lane);
    if (!ready_lanes[warp]) ready_warps &= ~(1u << warp);
    return warp * 32 + lane;
}

inline void run_thread(Context& from, unsigned thread) {
    running = thread;
    threadIdx = fibers[thread].index;
    switch_context(from, fibers[thread].context);
}

inline void report(const char* format, ...) {
    std::va_list values;
    va_start(values, format);
    std::vsnprintf(failure, sizeof failure, format, values);
    va_end(values);
}

// No exception: it could not leave the stack of the thread.
[[noreturn]] void fail(const char* format, ...) {
    char what[512];
    std::va_list values;
    va_start(values, format);
    std::vsnprintf(what, sizeof what, format, values);
    va_end(values);
    report("block (%u, %u, %u), thread (%u, %u, %u): %s", blockIdx.x, blockIdx.y, blockIdx.z,
           threadIdx.x, threadIdx.y, threadIdx.z, what);
    switch_context(fibers[running].context, scheduler);
    __builtin_unreachable();
}

// Comes back once this thread is ready and chosen; with no thread ready, leaves the block.
inline void run_another() {
    if (end_of_stack(running) != STACK_END) fail("more than %zu bytes of stack", STACK_BYTES);
    Context& from = fibers[running].context;
    if (!ready_warps) {
        switch_context(from, scheduler);
        return;
    }
    const unsigned next = take_ready_thread();
    if (next != running) run_thread(from, next);
}

void before_atomic() {
    if (++atomics_without_progress > MOST_ATOMICS_WITHOUT_PROGRESS)
        fail("%u atomics while no thread waited or returned: it spins", atomics_without_progress);
    if (!switch_at_atomics) return;
    mark_ready(running / 32, 1u << running % 32);
    run_another();
}

inline void run_kernel_as_fiber() {
    kernel_to_run(kernel_arguments);
    atomics_without_progress = 0;
    returned_lanes[running / 32] |= 1u << running % 32;
    ++returned_count;
    run_another();
    __builtin_unreachable();
}

inline unsigned lanes_of_warp(unsigned warp) {
    const unsigned count = thread_count - warp * 32;
    return count >= 32 ? ~0u : (1u << count) - 1;
}

inline void mark_all_ready() {
    for (unsigned warp = 0; warp * 32 < thread_count; ++warp) mark_ready(warp, lanes_of_warp(warp));
    draw_order_of_warps();
    atomics_without_progress = 0;
}

struct Barrier {
    const char* name;
    unsigned arrived, true_predicates, result;
};
Barrier barrier;

unsigned wait_for_block(const char* name, bool predicate) {
    if (barrier.arrived && barrier.name != name)
        fail("%s while other threads wait at %s", name, barrier.name);
    barrier.name = name;
    barrier.true_predicates += predicate;
    if (++barrier.arrived == thread_count) {
        barrier = {name, 0, 0, barrier.true_predicates};
        mark_all_ready();
    }
    run_another();
    return barrier.result;
}

}  // namespace emulation

#pragma GCC visibility pop
