// Long rows of numbers of 8 or 16 bits, each of which has a counter: what becomes of a number is
// looked up for all of its entries. The order of the row is not known here.
//
// The host defines THREADS and BATCH. Counters have 16 bits, so a block counts no more than 2^16 − 1.

#define N_KEYS (1 << VALUE_BITS)
#define STRIDE_OF_COUNTERS (N_KEYS + 4)  // one more, and aligned

#define COUNTED_ROWS                                                                             \
    const Value *rows, const bool *where, u32 *presents, u32 *counters, Table *values, i64 n,    \
        i64 length

// Counts a key for each lane of a warp; of a common one, which the first entries tell, in a
// register, as lanes that add to one counter wait for one another.
struct WarpOfCounters {
    u32* words;  // two counters in each
    Key common;
    u32 n_common;

    __device__ __forceinline__ void add(Key key, u32 amount) const {
        atomicAdd(words + (key >> 1), amount << (16 * (key & 1)));
    }

    __device__ __forceinline__ void choose_common(Key key, bool counts) {
        const u32 peers = __match_any_sync(ALL_LANES, counts ? key : ~0u);
        const u32 best = __reduce_max_sync(ALL_LANES, counts ? (u32)__popc(peers) << 16 | key : 0);
        common = best >> 16 > 2 ? best & 0xFFFFu : ~0u;
        n_common = 0;
    }

    __device__ __forceinline__ void add_one(Key key, bool counts) {
        const bool is_common = counts && key == common;
        n_common += is_common;
        if (counts && !is_common) add(key, 1);
    }

    __device__ __forceinline__ void add_common(int lane) const {
        const u32 total = __reduce_add_sync(ALL_LANES, n_common);
        if (lane == 0 && total) add(common, total);
    }
};

// A block counts a stretch of a row.
extern "C" __global__ void __launch_bounds__(THREADS) count_keys(COUNTED_ROWS) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const int thread = threadIdx.x;
    const BlockOfRow own(rows, where, (u32)n, (u32)length);
    WarpOfCounters of_warp = {(u32*)dynamic_shared, 0, 0};
    set_to_zero(of_warp.words, N_KEYS / 2, thread);
    const Value bits = thread < own.stretch.size ? own.stretch.values[thread] : (Value)0;
    of_warp.choose_common(key_of(bits), own.stretch.is_there(thread) && !is_nan(bits));
    __syncthreads();
    u32 present = 0;
    own.stretch.each(thread, [&](int, Key key, bool counts) {
        of_warp.add_one(key, counts);
        present += counts;
    });
    of_warp.add_common(thread % 32);
    present = total_of_team(present, of_warp.words + N_KEYS / 2, thread);  // a barrier, too
    if (thread == 0) atomicAdd(presents + own.row, present);
    u32* of_row = counters + (i64)own.row * STRIDE_OF_COUNTERS;
#pragma unroll 4
    for (int i = thread; i < N_KEYS / 2; i += THREADS) {
        const u32 word = of_warp.words[i];
        if (low_half(word)) atomicAdd(of_row + 2 * i, low_half(word));
        if (high_half(word)) atomicAdd(of_row + 2 * i + 1, high_half(word));
    }
}

// Where the entries of each number begin, and what becomes of them.
struct ValuesOfKeys : EachOfFour<ValuesOfKeys> {
    const Results& results;
    Table* values;

    __device__ __forceinline__ ValuesOfKeys(const Results& results, Table* values)
        : results(results), values(values) {}

    __device__ __forceinline__ u32 of(u32 count) const { return count; }

    __device__ __forceinline__ u32 with_sum(int key, u32 count, u32 before) {
#if !COUNTED
        if (count) values[key] = results.value_of({(int)before, (int)count, 0});
#endif
        return before;
    }
};

// A block a row.
extern "C" __global__ void __launch_bounds__(THREADS) sum_up_keys(COUNTED_ROWS, RESULTS) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const u32 r = blockIdx.x, present = presents[r];
    u32* of_row = counters + (i64)r * STRIDE_OF_COUNTERS;
    Results results = ALL_RESULTS;
    results.go_to_row(r, (int)n, present);
    ValuesOfKeys values_of_keys(results, values + (i64)r * N_KEYS);
    sum_up(of_row, N_KEYS, values_of_keys, dynamic_shared, threadIdx.x);
    if (threadIdx.x == 0) of_row[N_KEYS] = present;
}

// The results of a stretch of a row.
extern "C" __global__ void __launch_bounds__(THREADS) write_by_keys(COUNTED_ROWS, RESULTS) {
    const BlockOfRow own(rows, where, (u32)n, (u32)length);
    Results results = ALL_RESULTS;
    results.go_to_row(own.row, (int)n, presents[own.row]);
#if COUNTED
    const u32* starts = counters + (i64)own.row * STRIDE_OF_COUNTERS;
#else
    const Table* of_row = values + (i64)own.row * N_KEYS;
#endif
    own.stretch.each(threadIdx.x, [&](int i, Key key, bool counts) {
        const u32 at = own.first + (u32)i;
        if (counts) {
#if COUNTED
            results.less[at] = starts[key];
            results.less_equal[at] = starts[key + 1];
#else
            results.y[at] = results.scaled(__ldg(of_row + key), at);
#endif
        } else if (i < own.stretch.size) {
            results.write_missing(at);
        }
    });
}
