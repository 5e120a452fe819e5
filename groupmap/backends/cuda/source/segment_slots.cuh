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

    // Among `count` slots from `begin`, by looking at each.
    __device__ __forceinline__ Rank rank_by_looking(u32 begin, u32 count, Key key, u32 index) const {
        Rank rank = {(int)begin, 0, 0};
        int before = 0;
        u32 i = begin;
        const u32 end = begin + count;
#pragma unroll 1
        do {
            const Key other = keys[i];
            rank.less += other < key;
            rank.equal += other == key;
#if ORDERED
            if (other == key) before += indices[i] < index;
#endif
        } while (++i < end);
        rank.position = rank.less + before;
        return rank;
    }
};

// What there is before a partition of row r.
__device__ __forceinline__ u32 start_of_segment(
    const LongRows& all, u32 r, u32 partition, void* partials, int thread) {
    const u32* of_row = all.totals + r * all.n_partitions;
    u32 before = 0;
#pragma unroll 1
    for (u32 i = thread; i < partition; i += THREADS) before += of_row[i];
    return total_of_block(before, partials, thread);
}
