// Crowded buckets, whose slots are put in order by comparing, and searched.

// By keys, and of equals by indices.
template <class Barrier>
__device__ __forceinline__ void sort_slots(
    const Slots& slots, u32 begin, int size, int worker, int workers, Barrier sync) {
    Key* keys = slots.keys + begin;
    u32* indices = slots.indices + begin;
    const auto put_in_order = [&](int a, int b) {
        const Key key = keys[a], other = keys[b];
        const u32 index = indices[a], other_index = indices[b];
        if (key < other || (key == other && index < other_index)) return;
        keys[a] = other;
        keys[b] = key;
        indices[a] = other_index;
        indices[b] = index;
    };
    sort_by(put_in_order, size, worker, workers, sync);
}

// The first slot in begin ... end, in order, whose key is not below `key` (or is above it).
__device__ __forceinline__ u32 search_slots(
    const Slots& slots, u32 begin, u32 end, Key key, bool above) {
    while (begin < end) {
        const u32 middle = (begin + end) / 2;
        if (slots.keys[middle] < key || (above && slots.keys[middle] == key)) begin = middle + 1;
        else end = middle;
    }
    return begin;
}

// A bucket, unless all of it is equal and the order is not wanted.
template <class Any, class Barrier>
__device__ __forceinline__ void sort_bucket(
    const Slots& at, u32 word, int worker, int workers, Any any, Barrier sync) {
    const u32 end = low_half(word), count = high_half(word), begin = end - count;
    bool differs = ORDERED;
    for (u32 i = begin + worker; i < end; i += workers) differs |= at.keys[i] != at.keys[begin];
    if (any(differs)) sort_slots(at, begin, (int)count, worker, workers, sync);
}

// Crowded buckets are put in order: small ones by a warp each, the others by the block.
__device__ __noinline__ void sort_crowded(const HardSegment& own) {
    const int thread = own.thread, lane = thread % 32;
    const Slots& at = own.at;
    if (thread == 0) own.large[0] = 0;
    __syncthreads();
#pragma unroll 1
    for (int bucket = thread; bucket < SEGMENT; bucket += THREADS) {
        const u32 word = at.buckets[bucket], count = high_half(word);
        if (count > LONGEST_OF_WARP) own.large[1 + atomicAdd(own.large, 1u)] = word;
        u32 crowded = __ballot_sync(ALL_LANES, count > CROWDED && count <= LONGEST_OF_WARP);
        for (; crowded; crowded &= crowded - 1) {
            const u32 one = __shfl_sync(ALL_LANES, word, __ffs((int)crowded) - 1);
            sort_bucket(at, one, lane, 32, AnyOfWarp(), WarpBarrier());
        }
    }
    __syncthreads();
    const u32 n_large = own.large[0];
    for (u32 k = 1; k <= n_large; ++k) {
        sort_bucket(at, own.large[k], thread, THREADS, AnyOfTeam(), TeamBarrier());
    }
    __syncthreads();
}
