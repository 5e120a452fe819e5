// y·weight + bias where something learns, and what passes back through it. Each NaN stays one, and
// out of all gradients.
//
// Of y in order of memory, entry k has the (k / inner) mod size-th weight and bias. The host defines
// THREADS, and PASSES, whether y wants a gradient.

// A block takes `length` entries. A thread has four under way.
extern "C" __global__ void __launch_bounds__(THREADS) scale_learning(
    const Table* y, const Weight* weight, const Weight* bias, Out* result, i64 total, i64 inner,
    i64 size, i64 length) {
    const i64 begin = blockIdx.x * length;
    const u32 end = (u32)(total - begin < length ? total - begin : length);
    const u32 first = (u32)(begin / inner % size), rest = (u32)(begin % inner);
    y += begin;
    result += begin;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < end; i += 4 * THREADS) {
        Out scaled[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const u32 j = i + k * THREADS < end ? i + k * THREADS : end - 1;
            const u32 own = (first + (rest + j) / (u32)inner) % (u32)size;
            scaled[k] = scaled_value(y[j], weight, bias, own);
        }
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            if (i + k * THREADS < end) result[i + k * THREADS] = scaled[k];
        }
    }
}

// What passes back from one entry, and the sums over those that share a weight.
struct Sums {
    Wide of_weight;
    Wide of_bias;

    __device__ __forceinline__ Wide add(Table y_bits, Out grad_bits, Wide weight) {
        const Wide y = wide_number(y_bits);
        if (y != y) return 0;
        const Wide grad = (Wide)number_of<OUT_MANTISSA>(grad_bits);
        of_weight += grad * y;
        of_bias += grad;
        return grad * weight;
    }

    // To the arrays that are there.
    __device__ __forceinline__ void write(i64 at, Wide* of_weights, Wide* of_biases) const {
        if (of_weights != nullptr) of_weights[at] = of_weight;
        if (of_biases != nullptr) of_biases[at] = of_bias;
    }
};

__device__ __forceinline__ Wide weight_at(const Weight* weight, u32 own) {
#if WEIGHTED
    return wide_weight(__ldg(weight + own));
#else
    return 1;
#endif
}

#define BACKWARD                                                                                 \
    const Table *y, const Out *grad, const Weight *weight, Table *passed, Wide *of_weights,      \
        Wide *of_biases

// Each entry of a row has its own weight: a thread takes a column of `length` rows, of n_rows; the
// sums are (chunks, size).
extern "C" __global__ void __launch_bounds__(THREADS) unscale_columns(
    BACKWARD, i64 n_rows, i64 size, i64 length) {
    const u32 across = (u32)((size + THREADS - 1) / THREADS);
    const u32 column = blockIdx.x % across * THREADS + threadIdx.x, chunk = blockIdx.x / across;
    if (column >= size) return;
    const i64 begin = chunk * length, end = begin + length < n_rows ? begin + length : n_rows;
    const Wide own = weight_at(weight, column);
    Sums sums = {0, 0};
#pragma unroll 4
    for (i64 r = begin; r < end; ++r) {
        const i64 at = r * size + column;
        const Wide to_y = sums.add(y[at], grad[at], own);
#if PASSES
        passed[at] = table_value(to_y);
#endif
    }
    sums.write(chunk * size + column, of_weights, of_biases);
}

// `inner` entries in a row share a weight: a warp takes up to `length` of them; the sums are
// (n_spans, chunks), where spans follow one another in memory.
extern "C" __global__ void __launch_bounds__(THREADS) unscale_spans(
    BACKWARD, i64 n_spans, i64 size, i64 inner, i64 length) {
    const i64 chunks = (inner + length - 1) / length;
    const i64 part = (i64)blockIdx.x * WARPS + threadIdx.x / 32;
    if (part >= n_spans * chunks) return;
    const i64 span = part / chunks, first = part % chunks * length, begin = span * inner + first;
    const int count = (int)(inner - first < length ? inner - first : length);
    const Wide own = weight_at(weight, (u32)(span % size));
    Sums sums = {0, 0};
#pragma unroll 4
    for (int i = threadIdx.x % 32; i < count; i += 32) {
        const Wide to_y = sums.add(y[begin + i], grad[begin + i], own);
#if PASSES
        passed[begin + i] = table_value(to_y);
#endif
    }
#pragma unroll
    for (int gap = 16; gap > 0; gap /= 2) {
        sums.of_weight += __shfl_xor_sync(ALL_LANES, sums.of_weight, gap);
        sums.of_bias += __shfl_xor_sync(ALL_LANES, sums.of_bias, gap);
    }
    if (threadIdx.x % 32 == 0) sums.write(part, of_weights, of_biases);
}
