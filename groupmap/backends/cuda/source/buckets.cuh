// Two levels of buckets, and what is left to do inside of one.

// Which bin a key falls into, and which of the bin's buckets.
struct Buckets {
    const u32* bins;
    Key least;
    int low_bits;

    __device__ __forceinline__ u32 bin(Key key) const { return (u32)((key - least) >> low_bits); }

    __device__ __forceinline__ u32 of(Key key) const {
        const u32 own_bin = bin(key), first = bins[own_bin];
        if (low_bits == 0) return first;
        const int key_bits = 8 * (int)sizeof(Key);
        const Key fraction = (Key)((key - least) << (key_bits - low_bits));
        return first + __umulhi((u32)(fraction >> (key_bits - 32)), bins[own_bin + 1] - first);
    }
};

// Counts of the bins to where each begins; the greatest count comes back.
__device__ __forceinline__ u32 starts_of_bins(
    u32* bins, int n_bins, u32 total, void* partials, int thread) {
    const Part part = part_of(n_bins, thread);
    u32 own = 0, greatest = 0;
    for (int i = part.begin; i < part.end; ++i) {
        own += bins[i];
        greatest = greatest < bins[i] ? bins[i] : greatest;
    }
    u32 before = sum_before(own, partials, thread);
    for (int i = part.begin; i < part.end; ++i) {
        const u32 count = bins[i];
        bins[i] = before;
        before += count;
    }
    if (thread == 0) bins[n_bins] = total;
    return of_all(greatest, Greatest(), partials, thread);
}

// The rank of a key whose bucket holds the slots begin ... end, sorted where they are crowded.
__device__ __forceinline__ Rank rank_in(Slots slots, int begin, int end, Key key, int index) {
    Rank rank = {begin, 0, 0};
    if (end - begin <= CROWDED) {
        int before = 0;
        for (int i = begin; i < end; ++i) {
            rank.less += slots.keys[i] < key;
            rank.equal += slots.keys[i] == key;
#if ORDERED
            before += slots.keys[i] == key && slots.indices[i] < index;
#endif
        }
        rank.position = rank.less + before;
        return rank;
    }
    int first = begin, behind = end;
    if (slots.keys[begin] != slots.keys[end - 1]) {
        first = slots.search(begin, end, key, false);
        behind = slots.search(first, end, key, true);
    }
    rank.less = first;
    rank.equal = behind - first;
#if ORDERED
    while (first < behind) {
        const int middle = first + ((behind - first) >> 1);
        if ((int)slots.indices[middle] < index) first = middle + 1;
        else behind = middle;
    }
    rank.position = first;
#endif
    return rank;
}
