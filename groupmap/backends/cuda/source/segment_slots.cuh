// What a segment comes to in shared memory: a counter for each bucket, and slots for its entries in
// the order of the buckets; and the rank of an entry within its bucket.
//
// The host defines SEGMENT, how many buckets there are, CAPACITY, how many entries, and CROWDED.

struct Slots {
    u32* buckets;  // counts; then, of each, two halves that say where it lies
    Key* keys;
    u32* indices;
    void* partials;

    __device__ __forceinline__ Slots(unsigned char* memory) {
        buckets = (u32*)memory;
        keys = (Key*)(buckets + SEGMENT);
        indices = (u32*)(keys + CAPACITY);
        partials = indices + CAPACITY;
    }

    // Counts come to where each bucket begins, with the count in the upper half; whether any is
    // crowded comes back.
    __device__ __forceinline__ bool sum_up_buckets(int thread) const {
        StartsAndCounts of_buckets;
        sum_up(buckets, SEGMENT, of_buckets, partials, thread);
        return __syncthreads_or(of_buckets.greatest > CROWDED);
    }

    // The next slot of a bucket; so that in the end the lower half says where the bucket ends.
    __device__ __forceinline__ u32 next_slot(u32 bucket) const {
        return low_half(atomicAdd(buckets + bucket, 1u));
    }

    // The same by all lanes of a warp at once, where they may meet; some number for those that do
    // not count.
    __device__ __forceinline__ u32 next_slot_together(u32 bucket, bool counts, int lane) const {
        const u32 peers = __match_any_sync(ALL_LANES, counts ? bucket : ~0u);
        const int leader = __ffs((int)peers) - 1;
        u32 word = 0;
        if (lane == leader && counts) word = atomicAdd(buckets + bucket, (u32)__popc(peers));
        word = __shfl_sync(ALL_LANES, word, leader);
        return low_half(word) + (u32)__popc(peers & ((1u << lane) - 1));
    }

    // The rank of a key among the `count` slots that end before `end`, by looking at each.
    __device__ __forceinline__ Rank rank_by_looking(u32 end, u32 count, Key key, u32 index) const {
        u32 counted = 0;  // what is less, and in the upper half what is equal
        int before = 0;
        u32 i = end - count;
#pragma unroll 1
        do {
            const Key other = keys[i];
            counted += other < key ? 1u : other == key ? 1u << 16 : 0;
#if ORDERED
            if (other == key) before += indices[i] < index;
#endif
        } while (++i < end);
        const int less = (int)(end - count + low_half(counted));
        return {less, (int)high_half(counted), less + before};
    }
};

// What there is before a partition of row r.
__device__ __forceinline__ u32 start_of_segment(
    const LongRows& all, u32 r, u32 partition, void* partials, int thread) {
    const u32* of_row = all.totals + r * all.n_partitions;
    u32 before = 0;
#pragma unroll 1
    for (u32 i = thread; i < partition; i += THREADS) before += of_row[i];
    return total_of_team(before, partials, thread);
}
