// Mapped rows, multiplied with the weight and added to the bias where they lie.
//
// The host defines THREADS, and BATCH, how many entries a thread reads at a time.

// A block takes `length` entries of a row of n.
extern "C" __global__ void __launch_bounds__(THREADS) scale_rows(i64 n, i64 length, RESULTS) {
    const u32 per_row = ((u32)n + (u32)length - 1) / (u32)length;
    const u32 begin = blockIdx.x % per_row * (u32)length;
    const u32 end = (u32)n - begin < (u32)length ? (u32)n : begin + (u32)length;
    Results results = ALL_RESULTS;
    results.go_to_row(blockIdx.x / per_row, (int)n, (u32)n);
#pragma unroll 1
    for (u32 first = begin + threadIdx.x; first < end; first += BATCH * THREADS) {
        Out scaled[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            const u32 i = first + k * THREADS, within = i < end ? i : end - 1;
            scaled[k] = results.scaled((Table)results.y[within], within);
        }
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            if (first + k * THREADS < end) results.y[first + k * THREADS] = scaled[k];
        }
    }
}
