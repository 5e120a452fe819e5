// How many keys bins and buckets hold, and where each begins.

// The slots that a bucket has.
struct Span {
    int begin;
    int end;
};

// add(at, 1) by all lanes of a warp at once, each for itself; those that meet add together, as
// they would else wait for one another. Each gets what was there before its own one; lanes for
// which nothing counts get some number.
template <class Cursors>
__device__ __forceinline__ u32 add_one_together(const Cursors& cursors, u32 at, bool counts, int lane) {
    const u32 peers = __match_any_sync(ALL_LANES, counts ? at : ~0u);
    const int leader = __ffs((int)peers) - 1;
    u32 before = 0;
    if (lane == leader && counts) before = cursors.add(at, (u32)__popc(peers));
    before = __shfl_sync(ALL_LANES, before, leader);
    return before + (u32)__popc(peers & ((1u << lane) - 1));
}

// Threads remember what they have found in a cursor when they counted, so that where a bucket
// begins is all that they need to know later.
#if KEEPS_KEYS
// A word for each bucket.
struct Cursors {
    typedef StartsAndCounts Summed;
    u32* words;

    __device__ __forceinline__ static int n_words(int n) { return n; }
    __device__ __forceinline__ u32 add(u32 bucket, u32 amount) const {
        return atomicAdd(words + bucket, amount);
    }
    __device__ __forceinline__ int begin(u32 bucket) const { return (int)low_half(words[bucket]); }
    __device__ __forceinline__ Span span(u32 bucket) const {
        const u32 word = words[bucket], begin = low_half(word);
        return {(int)begin, (int)(begin + high_half(word))};
    }
};
#else
// Half a word for each, since shared memory is what limits how long a row may be.
struct Cursors {
    typedef PairsOfStarts Summed;
    u32* words;

    __device__ __forceinline__ static int n_words(int n) { return n / 2 + 1; }
    __device__ __forceinline__ u32 add(u32 bucket, u32 amount) const {
        const u32 shift = 16 * (bucket & 1);
        return (atomicAdd(words + (bucket >> 1), amount << shift) >> shift) & 0xFFFFu;
    }
    __device__ __forceinline__ int begin(u32 bucket) const { return ((const u16*)words)[bucket]; }
    __device__ __forceinline__ Span span(u32 bucket) const { return {begin(bucket), begin(bucket + 1)}; }
};
#endif
