// How many keys bins and buckets hold, and where each begins.

// Words that count, and after `StartsAndCounts` say where each begins: in the lower 16 bits, with
// the count in the upper ones.
__device__ __forceinline__ u32 start_of(u32 word) { return word & 0xFFFFu; }
__device__ __forceinline__ u32 count_of(u32 word) { return word >> 16; }

struct StartsAndCounts {
    u32 greatest;  // of the counts that a thread has met

    __device__ __forceinline__ u32 of(u32 word) const { return word; }

    __device__ __forceinline__ u32 with_start(u32 count, u32& before) {
        const u32 word = before | (count << 16);
        greatest = count > greatest ? count : greatest;
        before += count;
        return word;
    }

    __device__ __forceinline__ void sum_up(u32* words, int i, uint4 four, u32 before) {
        four.x = with_start(four.x, before);
        four.y = with_start(four.y, before);
        four.z = with_start(four.z, before);
        four.w = with_start(four.w, before);
        *(uint4*)(words + i) = four;
    }
};

// Two counts of 16 bits in a word, which come to where each begins.
struct PairsOfStarts {
    u32 greatest;

    __device__ __forceinline__ u32 of(u32 word) const { return (word * 0x10001u) >> 16; }

    __device__ __forceinline__ u32 with_start(u32 word, u32& before) {
        const u32 even = word & 0xFFFFu, odd = word >> 16;
        greatest = even > greatest ? even : greatest;
        greatest = odd > greatest ? odd : greatest;
        const u32 starts = before * 0x10001u + (even << 16);
        before += even + odd;
        return starts;
    }

    __device__ __forceinline__ void sum_up(u32* words, int i, uint4 four, u32 before) {
        four.x = with_start(four.x, before);
        four.y = with_start(four.y, before);
        four.z = with_start(four.z, before);
        four.w = with_start(four.w, before);
        *(uint4*)(words + i) = four;
    }
};

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
    __device__ __forceinline__ int begin(u32 bucket) const { return (int)start_of(words[bucket]); }
    __device__ __forceinline__ Span span(u32 bucket) const {
        const u32 word = words[bucket], begin = start_of(word);
        return {(int)begin, (int)(begin + count_of(word))};
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
