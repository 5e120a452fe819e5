// A stack for every thread of a block, and the switch from one stack to another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <sys/mman.h>

#if defined(__x86_64__) && defined(__linux__) && !defined(EMULATE_WITH_UCONTEXT)
#define EMULATION_SWITCHES_STACKS_ITSELF 1
#else
#include <ucontext.h>
#endif

#pragma GCC visibility push(hidden)
namespace emulation {

constexpr std::size_t STACK_BYTES = 64 * 1024;
// The odd number of cache lines keeps the tops of all stacks out of one and the same cache set.
constexpr std::size_t STACK_STRIDE = STACK_BYTES + 9 * 64;
constexpr std::uint64_t STACK_END = 0x5eadbeefcafef00d;

#ifdef EMULATION_SWITCHES_STACKS_ITSELF

struct Context {
    void* stack_pointer;
};

// swapcontext would make two system calls, to save and restore the signals.
extern "C" void emulation_switch_stacks(void** from, void* to);
asm(R"(
    .pushsection .text
    .globl emulation_switch_stacks
    .hidden emulation_switch_stacks
    .type emulation_switch_stacks, @function
emulation_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulation_switch_stacks, . - emulation_switch_stacks
    .popsection
)");

inline void switch_context(Context& from, Context& to) {
    emulation_switch_stacks(&from.stack_pointer, to.stack_pointer);
}

inline void prepare_context(Context& context, char* stack, void (*entry)()) {
    auto* top = reinterpret_cast<std::uintptr_t*>(
        (reinterpret_cast<std::uintptr_t>(stack) + STACK_BYTES) & ~std::uintptr_t(15));
    top[-1] = 0;  // where a caller of entry would have left its return address
    top[-2] = reinterpret_cast<std::uintptr_t>(entry);
    for (int saved = 3; saved <= 8; ++saved) top[-saved] = 0;
    context.stack_pointer = top - 8;
}

#else

struct Context {
    ucontext_t registers;
};

inline void switch_context(Context& from, Context& to) {
    swapcontext(&from.registers, &to.registers);
}

inline void prepare_context(Context& context, char* stack, void (*entry)()) {
    getcontext(&context.registers);
    context.registers.uc_stack.ss_sp = stack;
    context.registers.uc_stack.ss_size = STACK_BYTES;
    context.registers.uc_link = nullptr;
    makecontext(&context.registers, entry, 0);
}

#endif

char* stacks = nullptr;

inline bool reserve_stacks(unsigned count) {
    if (stacks) return true;
    // One more than threads, below the first: what outgrows a stack is reported, not a crash.
    const std::size_t bytes = (count + 1) * STACK_STRIDE;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
#ifdef MADV_NOHUGEPAGE
    // Most threads touch but the two ends of their stacks.
    madvise(memory, bytes, MADV_NOHUGEPAGE);
#endif
    stacks = static_cast<char*>(memory) + STACK_STRIDE;
    return true;
}

inline char* stack_of(unsigned thread) { return stacks + thread * STACK_STRIDE; }

inline std::uint64_t& end_of_stack(unsigned thread) {
    return *reinterpret_cast<std::uint64_t*>(stack_of(thread));
}

}  // namespace emulation
#pragma GCC visibility pop
