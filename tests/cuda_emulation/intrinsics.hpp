// What a single thread calls: atomics, bits, minima and maxima, vector types.
#pragma once

#include <cfloat>
#include <climits>
#include <cstring>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "threads.hpp"

#pragma GCC visibility push(hidden)

#define EMULATE_ATOMIC(name, T, changed)                                                     \
    inline T name(T* address, T value) {                                                     \
        emulation::before_atomic();                                                          \
        const T old = *address;                                                              \
        *address = (changed);                                                                \
        return old;                                                                          \
    }
#define EMULATE_ATOMIC_OF_INTEGERS(name, changed)                                            \
    EMULATE_ATOMIC(name, int, changed)                                                       \
    EMULATE_ATOMIC(name, unsigned, changed)                                                  \
    EMULATE_ATOMIC(name, unsigned long long, changed)
EMULATE_ATOMIC(atomicAdd, int, int(unsigned(old) + unsigned(value)))
EMULATE_ATOMIC(atomicAdd, unsigned, old + value)
EMULATE_ATOMIC(atomicAdd, unsigned long long, old + value)
EMULATE_ATOMIC(atomicAdd, float, old + value)
EMULATE_ATOMIC(atomicAdd, double, old + value)
EMULATE_ATOMIC_OF_INTEGERS(atomicMin, value < old ? value : old)
EMULATE_ATOMIC(atomicMin, long long, value < old ? value : old)
EMULATE_ATOMIC_OF_INTEGERS(atomicMax, value > old ? value : old)
EMULATE_ATOMIC(atomicMax, long long, value > old ? value : old)
EMULATE_ATOMIC_OF_INTEGERS(atomicOr, old | value)
EMULATE_ATOMIC_OF_INTEGERS(atomicAnd, old & value)
EMULATE_ATOMIC_OF_INTEGERS(atomicExch, value)
EMULATE_ATOMIC(atomicExch, float, value)
#undef EMULATE_ATOMIC_OF_INTEGERS
#undef EMULATE_ATOMIC

#define EMULATE_CAS(T)                                                                       \
    inline T atomicCAS(T* address, T expected, T value) {                                    \
        emulation::before_atomic();                                                          \
        const T old = *address;                                                              \
        if (old == expected) *address = value;                                               \
        return old;                                                                          \
    }
EMULATE_CAS(int)
EMULATE_CAS(unsigned)
EMULATE_CAS(unsigned long long)
#undef EMULATE_CAS

inline void __threadfence() { asm volatile("" ::: "memory"); }
inline void __threadfence_block() { asm volatile("" ::: "memory"); }
template <class T>
inline T __ldg(const T* address) { return *address; }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
    unsigned reversed = 0;
    for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1) << (31 - bit);
    return reversed;
}
inline unsigned long long __brevll(unsigned long long x) {
    return (unsigned long long)__brev(unsigned(x)) << 32 | __brev(unsigned(x >> 32));
}
inline unsigned __umulhi(unsigned a, unsigned b) {
    return unsigned((unsigned long long)a * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

#define EMULATE_REINTERPRETATION(name, From, To)                                             \
    inline To name(From value) {                                                             \
        To bits;                                                                             \
        std::memcpy(&bits, &value, sizeof bits);                                             \
        return bits;                                                                         \
    }
EMULATE_REINTERPRETATION(__float_as_uint, float, unsigned)
EMULATE_REINTERPRETATION(__float_as_int, float, int)
EMULATE_REINTERPRETATION(__uint_as_float, unsigned, float)
EMULATE_REINTERPRETATION(__int_as_float, int, float)
EMULATE_REINTERPRETATION(__double_as_longlong, double, long long)
EMULATE_REINTERPRETATION(__longlong_as_double, long long, double)
#undef EMULATE_REINTERPRETATION

#define EMULATE_ARITHMETIC(prefix, T, fused, root)                                           \
    inline T __##prefix##add_rn(T a, T b) { return a + b; }                                  \
    inline T __##prefix##sub_rn(T a, T b) { return a - b; }                                  \
    inline T __##prefix##mul_rn(T a, T b) { return a * b; }                                  \
    inline T __##prefix##div_rn(T a, T b) { return a / b; }                                  \
    inline T __##prefix##sqrt_rn(T a) { return root(a); }                                    \
    inline T fused(T a, T b, T c) { return fma(a, b, c); }
EMULATE_ARITHMETIC(f, float, __fmaf_rn, sqrtf)
EMULATE_ARITHMETIC(d, double, __fma_rn, sqrt)
#undef EMULATE_ARITHMETIC

#define EMULATE_EXTREMA(A, B, Result)                                                        \
    inline Result min(A a, B b) {                                                            \
        const Result left = a, right = b;                                                    \
        return left < right ? left : right;                                                  \
    }                                                                                        \
    inline Result max(A a, B b) {                                                            \
        const Result left = a, right = b;                                                    \
        return left > right ? left : right;                                                  \
    }
#define EMULATE_EXTREMA_OF_INTEGERS(Signed)                                                  \
    EMULATE_EXTREMA(Signed, Signed, Signed)                                                  \
    EMULATE_EXTREMA(unsigned Signed, unsigned Signed, unsigned Signed)                       \
    EMULATE_EXTREMA(Signed, unsigned Signed, unsigned Signed)                                \
    EMULATE_EXTREMA(unsigned Signed, Signed, unsigned Signed)
EMULATE_EXTREMA_OF_INTEGERS(int)
EMULATE_EXTREMA_OF_INTEGERS(long)
EMULATE_EXTREMA_OF_INTEGERS(long long)
#undef EMULATE_EXTREMA_OF_INTEGERS
#undef EMULATE_EXTREMA

// A number rather than a NaN, and -0 below +0.
#define EMULATE_FLOATING_EXTREMA(A, B, Result)                                               \
    inline Result min(A a, B b) {                                                            \
        if (a != a || b != b) return a != a ? Result(b) : Result(a);                         \
        return a < b || (a == b && signbit(a)) ? Result(a) : Result(b);                      \
    }                                                                                        \
    inline Result max(A a, B b) {                                                            \
        if (a != a || b != b) return a != a ? Result(b) : Result(a);                         \
        return a > b || (a == b && !signbit(a)) ? Result(a) : Result(b);                     \
    }
EMULATE_FLOATING_EXTREMA(float, float, float)
EMULATE_FLOATING_EXTREMA(double, double, double)
EMULATE_FLOATING_EXTREMA(float, double, double)
EMULATE_FLOATING_EXTREMA(double, float, double)
#undef EMULATE_FLOATING_EXTREMA

#define EMULATE_VECTORS(T, name)                                                             \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                       \
    struct alignas(4 * sizeof(T)) name##4 { T x, y, z, w; };                                 \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                               \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMULATE_VECTORS(unsigned, uint)
EMULATE_VECTORS(int, int)
EMULATE_VECTORS(float, float)
#undef EMULATE_VECTORS

#pragma GCC visibility pop
