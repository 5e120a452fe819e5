// What a kernel knows of its threads, and how these wait for one another; the runtime has the rest.
#pragma once

#include <cstdint>

#pragma GCC visibility push(hidden)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulation {

enum class Operation {
    SYNC, SHUFFLE, SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_XOR, BALLOT, ANY, ALL, MATCH_ANY,
    ADD, MIN_UNSIGNED, MAX_UNSIGNED, MIN_SIGNED, MAX_SIGNED,
};

// One address for each name, so that comparing pointers compares names.
extern const char SYNCTHREADS[], SYNCTHREADS_OR[], SYNCTHREADS_AND[], SYNCTHREADS_COUNT[];

extern unsigned thread_count;

[[noreturn]] void fail(const char* format, ...);
void before_atomic();
// How many threads of the block had a true predicate.
unsigned wait_for_block(const char* name, bool predicate);
std::uint64_t wait_for_lanes(Operation operation, unsigned mask, std::uint64_t value,
                             unsigned bytes, unsigned source = 0);
// A lane which would read from beyond its part of the warp reads itself.
unsigned source_of(Operation operation, int offset, int width);

}  // namespace emulation

inline void __syncthreads() { emulation::wait_for_block(emulation::SYNCTHREADS, false); }
inline int __syncthreads_or(int predicate) {
    return emulation::wait_for_block(emulation::SYNCTHREADS_OR, predicate) != 0;
}
inline int __syncthreads_and(int predicate) {
    using namespace emulation;
    return wait_for_block(SYNCTHREADS_AND, predicate) == thread_count;
}
inline int __syncthreads_count(int predicate) {
    return int(emulation::wait_for_block(emulation::SYNCTHREADS_COUNT, predicate));
}
[[noreturn]] inline void __trap() { emulation::fail("the kernel called __trap"); }

#pragma GCC visibility pop
