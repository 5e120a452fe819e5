// The numbers of one program: what is read, the keys that it is ranked by, and what is written.
//
// The host defines, for the values that are read,
//   VALUE_BITS 8, 16, 32 or 64; FLIP, TOP, NEGATIVE_ZERO (see groupmap.backends._bits);
//   INFINITY_BITS, the bits of infinity, or 0 for integers; VALUE_MANTISSA, 10 or 7, which tells
//   the two kinds of 16 bits apart;
// and OUT_BITS and OUT_MANTISSA for those that are written, TABLE_ likewise for those of tables, and
// WEIGHT_ for weight and bias, which are no wider than tables, if they are others.

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#if VALUE_BITS == 8
typedef unsigned char Value;
typedef u32 Key;
#elif VALUE_BITS == 16
typedef u16 Value;
typedef u32 Key;
#elif VALUE_BITS == 32
typedef u32 Value;
typedef u32 Key;
#else
typedef u64 Value;
typedef u64 Key;
#endif

#ifndef TABLE_BITS
#define TABLE_BITS OUT_BITS
#define TABLE_MANTISSA OUT_MANTISSA
#endif
#ifndef WEIGHT_BITS
#define WEIGHT_BITS TABLE_BITS
#define WEIGHT_MANTISSA TABLE_MANTISSA
#endif

template <int BITS>
struct Pattern {
    typedef u32 Bits;
};
template <>
struct Pattern<16> {
    typedef u16 Bits;
};
template <>
struct Pattern<64> {
    typedef u64 Bits;
};
typedef Pattern<TABLE_BITS>::Bits Table;
typedef Pattern<WEIGHT_BITS>::Bits Weight;
typedef Pattern<OUT_BITS>::Bits Out;

// Whether a bit pattern is that of a NaN.
__device__ __forceinline__ bool is_nan(Value bits) {
    const Value magnitude = (Value)((Value)~(Value)0 >> 1);
    return (Value)INFINITY_BITS != 0 && (Value)(bits & magnitude) > (Value)INFINITY_BITS;
}

// The unsigned integer that is in the order of the numbers.
__device__ __forceinline__ Key key_of(Value bits) {
    if ((Value)NEGATIVE_ZERO != 0 && bits == (Value)NEGATIVE_ZERO) bits = 0;
    const Value spread = (Value)(0 - (Value)(bits >> (VALUE_BITS - 1)));
    return (Key)(Value)(bits ^ (spread & (Value)FLIP) ^ (Value)TOP);
}

// How many bits a number has.
__device__ __forceinline__ int bit_length(u32 number) { return 32 - __clz((int)number); }
__device__ __forceinline__ int bit_length(u64 number) { return 64 - __clzll((i64)number); }

// Where 2^log_bins bins of keys begin that reach from the least key to the greatest. They are of the
// least power of two that suffices, and begin at a multiple of it: then none reaches from one
// exponent into the next, where floats that are as close lie half as far apart.
__device__ __forceinline__ Key start_of_bins(Key least, Key greatest, int log_bins) {
    const int bits = bit_length((Key)((greatest - least) | 1));
    const int excess = bits > log_bins ? bits - log_bins : 0;
    const Key start = least >> excess << excess;
    if (excess == 0 || bit_length((Key)(greatest - start)) == bits) return start;
    return least >> (excess + 1) << (excess + 1);
}

// The number that floating-point bits stand for.
template <int MANTISSA, class Bits>
__device__ __forceinline__ double number_of(Bits bits) {
    if (sizeof(Bits) == 8) return __longlong_as_double((i64)bits);
    if (sizeof(Bits) == 4) return __uint_as_float((u32)bits);
    if (MANTISSA == 7) return __uint_as_float((u32)bits << 16);
#ifdef __CUDA_ARCH__
    float number;
    asm("cvt.f32.f16 %0, %1;" : "=f"(number) : "h"((u16)bits));
    return number;
#endif
    // The same exponent and mantissa as a float is 2^-112 times too small; infinity and NaN apart.
    const u32 magnitude = (u32)bits & 0x7FFFu, sign = ((u32)bits & 0x8000u) << 16;
    if (magnitude >= 0x7C00u) return __uint_as_float(sign | 0x7F800000u | (magnitude << 13));
    const float scaled = __uint_as_float(magnitude << 13) * 5192296858534827628530496329220096.0f;
    return sign ? -scaled : scaled;
}

// A float, rounded once: to the nearest, ties to even.
template <int BITS, int MANTISSA>
__device__ __forceinline__ typename Pattern<BITS>::Bits rounded(float number);

// A double, likewise.
template <int BITS, int MANTISSA>
__device__ __forceinline__ typename Pattern<BITS>::Bits rounded(double number) {
    typedef typename Pattern<BITS>::Bits Bits;
    if (BITS == 64) return (Bits)__double_as_longlong(number);
    if (BITS == 32) return (Bits)__float_as_uint((float)number);
    // Through a float that is rounded to odd, which forgets nothing that the last rounding asks.
    const float nearest = (float)number;
    u32 bits = __float_as_uint(nearest);
    if ((double)nearest != number && number == number) {
        if (fabs((double)nearest) > fabs(number)) bits -= 1;
        bits |= 1;
    }
    const u32 sign = bits >> 31 << 15;
    u32 magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return (Bits)0x7FFFu;
    int dropped = 23 - MANTISSA;
    if (MANTISSA == 10) {
        if (magnitude >= 0x47800000u) return (Bits)(sign | 0x7C00u);  // 2^16 and more
        const int exponent = (int)(magnitude >> 23);
        if (exponent < 102) return (Bits)sign;
        if (exponent < 113) {  // below the least normal number: a fixed point at 2^-24
            magnitude = (magnitude & 0x7FFFFFu) | 0x800000u;
            dropped = 126 - exponent;
        } else {
            magnitude -= 112u << 23;
        }
    }
    const u32 half = (1u << (dropped - 1)) - 1 + ((magnitude >> dropped) & 1);
    return (Bits)(sign | ((magnitude + half) >> dropped));
}

template <int BITS, int MANTISSA>
__device__ __forceinline__ typename Pattern<BITS>::Bits rounded(float number) {
    typedef typename Pattern<BITS>::Bits Bits;
    if (BITS == 32) return (Bits)__float_as_uint(number);
#ifdef __CUDA_ARCH__
    if (BITS == 16) {
        u16 bits;
        if (MANTISSA == 10) asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(number));
        else asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(number));
        return (Bits)bits;
    }
#endif
    return rounded<BITS, MANTISSA>((double)number);
}

__device__ __forceinline__ Table table_value(double number) {
    return rounded<TABLE_BITS, TABLE_MANTISSA>(number);
}

template <class Number>
__device__ __forceinline__ Out out_value(Number number) {
    return rounded<OUT_BITS, OUT_MANTISSA>(number);
}

// What tables' numbers are multiplied and added in: as wide as they are, and at least a float.
template <int BITS>
struct Widened {
    typedef float Number;
};
template <>
struct Widened<64> {
    typedef double Number;
};
typedef Widened<TABLE_BITS>::Number Wide;

__device__ __forceinline__ Wide wide_number(Table bits) {
    return (Wide)number_of<TABLE_MANTISSA>(bits);
}
__device__ __forceinline__ Wide wide_weight(Weight bits) {
    return (Wide)number_of<WEIGHT_MANTISSA>(bits);
}
