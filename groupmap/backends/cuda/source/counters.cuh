// Counters of 16 bits, two in a word, since shared memory is what limits how long a row may be.

__device__ __forceinline__ u32 counter(const u32* words, u32 at) {
    return (words[at >> 1] >> (16 * (at & 1))) & 0xFFFFu;
}

// Add, and return what was there.
__device__ __forceinline__ u32 add_to_counter(u32* words, u32 at, u32 amount) {
    const u32 shift = 16 * (at & 1);
    return (atomicAdd(words + (at >> 1), amount << shift) >> shift) & 0xFFFFu;
}

// add(at, amount) by all lanes of a warp at once, each for itself by one; those that meet add
// together, as they would else wait for one another. Each gets what was there before its own one;
// lanes for which nothing counts get some number.
template <class AddAt>
__device__ __forceinline__ u32 add_together(AddAt add, u32 at, bool counts, int lane) {
    const u32 peers = __match_any_sync(ALL_LANES, counts ? at : ~0u);
    const int leader = __ffs((int)peers) - 1;
    u32 before = 0;
    if (lane == leader && counts) before = add(at, (u32)__popc(peers));
    before = __shfl_sync(ALL_LANES, before, leader);
    return before + (u32)__popc(peers & ((1u << lane) - 1));
}

struct AddToCounter {
    u32* words;

    __device__ __forceinline__ u32 operator()(u32 at, u32 amount) const {
        return add_to_counter(words, at, amount);
    }
};

__device__ __forceinline__ u32 add_to_counter_together(u32* words, u32 at, bool counts, int lane) {
    return add_together(AddToCounter{words}, at, counts, lane);
}
