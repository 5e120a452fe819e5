// The ranks of segments, a block each. The bins of the row give each entry its bucket, and most hold
// one entry or two. What takes more than that is left to hard_segments.cu.
//
// The host defines LOG_SEGMENT, of SEGMENT.

#define HELD (CAPACITY / THREADS)

// Whether buckets hold more than is looked at one by one; but not where all of it is equal, and its
// order is not asked for.
__device__ __noinline__ bool is_hard(const Slots& at, int thread) {
    if (ORDERED) return true;
    bool differs = false;
#pragma unroll 1
    for (int bucket = thread; bucket < SEGMENT; bucket += THREADS) {
        const u32 own = at.buckets[bucket];
        u32 crowded = __ballot_sync(ALL_LANES, high_half(own) > CROWDED);
        for (; crowded; crowded &= crowded - 1) {
            const u32 word = __shfl_sync(ALL_LANES, own, __ffs((int)crowded) - 1);
            const u32 end = low_half(word), begin = end - high_half(word);
            for (u32 i = begin + thread % 32; i < end; i += 32) {
                differs |= at.keys[i] != at.keys[begin];
            }
        }
    }
    return __syncthreads_or(differs);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) rank_segments(LONG_ROWS, RESULTS) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const LongRows all = ALL;
    const Slots at(dynamic_shared);
    const int thread = threadIdx.x, lane = thread % 32;
    const u32 r = blockIdx.x / all.n_partitions, partition = blockIdx.x % all.n_partitions;
    const u32 size = all.totals[blockIdx.x];
    if (size == 0) return;
    if (size > CAPACITY) {
        if (thread == 0) hard[atomicAdd(n_hard, 1u)] = blockIdx.x;
        return;
    }
    set_to_zero(at.buckets, SEGMENT, thread);
    const u32 start = start_of_segment(all, r, partition, at.partials, thread);
    const i64 begin = (i64)r * all.n + start;
    const Buckets<LOG_BINS> buckets = all.buckets(r);
    const u32 first_bucket = partition << all.log_partition;
    const int log_shared = all.log_partition - LOG_SEGMENT;  // buckets of the row by one here
    const auto bucket_of = [&](Key key) { return (buckets.of(key) - first_bucket) >> log_shared; };

    Key held[HELD];
    u32 places[HELD];  // buckets, and then slots
    const int rest = (int)size - thread;
    const Stored* keys_of_segment = kept(all.keys + begin + thread);
    const u32* indices_of_segment = kept(all.indices + begin + thread);
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        held[k] = rest > k * THREADS ? (Key)keys_of_segment[k * THREADS] : 0;
    }
#pragma unroll
    for (int k = 0; k < HELD; ++k) places[k] = bucket_of(held[k]);
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        if (rest > k * THREADS) atomicAdd(at.buckets + places[k], 1u);
    }
    __syncthreads();
    const bool is_crowded = at.sum_up_buckets(thread);
    if (is_crowded) {
#pragma unroll
        for (int k = 0; k < HELD; ++k) {
            places[k] = at.next_slot_together(places[k], rest > k * THREADS, lane);
        }
    } else {
#pragma unroll
        for (int k = 0; k < HELD; ++k) {
            if (rest > k * THREADS) places[k] = at.next_slot(places[k]);
        }
    }
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        if (rest > k * THREADS) at.keys[places[k]] = held[k];
    }
    u32 indices_held[HELD];
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        indices_held[k] = rest > k * THREADS ? indices_of_segment[k * THREADS] : 0;
    }
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        if (rest > k * THREADS) at.indices[places[k]] = indices_held[k];
    }
    __syncthreads();
    if (is_crowded && is_hard(at, thread)) {
        if (thread == 0) hard[atomicAdd(n_hard, 1u)] = blockIdx.x;
        return;
    }

    Results results = ALL_RESULTS;
    results.go_to_row(r, (int)all.n, states[r].present);
#pragma unroll 1
    for (int first = thread; first < (int)size; first += BATCH * THREADS) {
        const int there = ((int)size - first + THREADS - 1) / THREADS;
        Key own_keys[BATCH];
        u32 own_indices[BATCH], words[BATCH];
        Rank ranks[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            const int slot = k < there ? first + k * THREADS : first;
            own_keys[k] = at.keys[slot];
            own_indices[k] = at.indices[slot];
        }
#pragma unroll
        for (int k = 0; k < BATCH; ++k) words[k] = at.buckets[bucket_of(own_keys[k])];
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            const u32 end = low_half(words[k]), count = high_half(words[k]);
            ranks[k] = {(int)(end - count), (int)count, 0};
            if (count <= CROWDED) ranks[k] = at.rank_by_looking(end, count, own_keys[k], own_indices[k]);
            ranks[k].less += (int)start;
            ranks[k].position += (int)start;
        }
        results.write_together<BATCH>(own_indices, ranks, there);
    }
}
