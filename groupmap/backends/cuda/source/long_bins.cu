// The bins of long rows: what is least and greatest, how many keys there are of each of the highest
// bits, and, summed up, how many below. A block takes `length` entries.

extern "C" __global__ void __launch_bounds__(THREADS) find_extremes(LONG_ROWS, i64 length) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const BlockOfRow own(rows, where, (u32)n, (u32)length);
    Extremes extremes = NO_EXTREMES;
    own.stretch.each(threadIdx.x, [&](int, Key key, bool counts) {
        if (counts) extremes.include(key);
    });
    extremes = extremes.of_team(dynamic_shared, threadIdx.x);
    if (threadIdx.x == 0 && extremes.present) {
        State& state = states[own.row];
        atomicMax(&state.greatest, (u64)extremes.greatest);
        atomicMax(&state.greatest_complement, ~(u64)extremes.least);
        atomicAdd(&state.present, extremes.present);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) fill_bins(LONG_ROWS, i64 length) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const BlockOfRow own(rows, where, (u32)n, (u32)length);
    u32* counters = (u32*)dynamic_shared;
    u32* of_row = bins + (i64)own.row * STRIDE_OF_BINS;
    const Buckets<LOG_BINS> buckets = states[own.row].buckets(of_row);
    set_to_zero(counters, N_BINS, threadIdx.x);
    __syncthreads();
    own.stretch.each(threadIdx.x, [&](int, Key key, bool counts) {
        const u32 bin = buckets.bin(key);
        if (counts) atomicAdd(counters + bin, 1u);
    });
    __syncthreads();
#pragma unroll 1
    for (int i = threadIdx.x; i < N_BINS; i += THREADS) {
        const u32 count = counters[i];
        if (count) atomicAdd(of_row + i, count);
    }
}

// A block a row.
extern "C" __global__ void __launch_bounds__(THREADS) sum_up_bins(LONG_ROWS) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    u32* of_row = bins + (i64)blockIdx.x * STRIDE_OF_BINS;
    State& state = states[blockIdx.x];
    Starts starts;
    sum_up(of_row, N_BINS, starts, dynamic_shared, threadIdx.x);
    if (threadIdx.x == 0) of_row[N_BINS] = state.present;
    // Where a third shares a bin, many may share a bucket.
    const bool may_meet = __syncthreads_or(3 * (u64)starts.greatest > state.present);
    if (threadIdx.x == 0) state.may_meet = may_meet;
}
