// The rank of a key by two levels of buckets, and what is left to do inside of one.

// Which bin a key falls into, and which of the bin's buckets.
struct Buckets {
    const u32* bins;  // where the buckets of each begin, and how many there are
    Key least;
    int shift;  // brings the highest bit by which keys differ to the top
    int log_bins;

    __device__ __forceinline__ Key distance(Key key) const { return (key - least) << shift; }

    __device__ __forceinline__ u32 bin(Key key) const {
        return (u32)(distance(key) >> (8 * (int)sizeof(Key) - log_bins));
    }

    __device__ __forceinline__ u32 of(Key key) const {
        const u32 own = bins[bin(key)];
        const u32 fraction = (u32)((distance(key) << log_bins) >> (8 * (int)sizeof(Key) - 32));
        return low_half(own) + __umulhi(fraction, high_half(own));
    }
};

__device__ __forceinline__ Buckets buckets_between(const u32* bins, Extremes of_row, int log_bins) {
    const Key greatest = of_row.present ? of_row.greatest : 0;
    const Key start = start_of_bins(of_row.present ? of_row.least : 0, greatest, log_bins);
    const int unused = 8 * (int)sizeof(Key) - bit_length((Key)((greatest - start) | 1));
    return {bins, start, unused, log_bins};
}

// The rank of a key in its bucket, by looking at each other one. Keys of one bucket are so close
// that the highest bit of their difference is its sign.
__device__ __forceinline__ Rank rank_by_looking(const Slots& slots, Span span, Key key, int index) {
    const int sign = 8 * (int)sizeof(Key) - 1;
    int less = 0, at_most_equal = 0, before = 0, i = span.begin;
#pragma unroll 1
    do {
        const Key difference = slots.keys[i] - key;
        less += (int)(difference >> sign);
        at_most_equal += (int)((Key)(difference - 1) >> sign);
#if ORDERED
        if (difference == 0) before += slots.indices[i] < index;
#endif
    } while (++i < span.end);
    return {span.begin + less, at_most_equal - less, span.begin + less + before};
}

// The same where the bucket is sorted, or all of it is equal and the order is not wanted.
__device__ __forceinline__ Rank rank_by_searching(const Slots& slots, Span span, Key key, int index) {
    int first = span.begin, behind = span.end;
    if (slots.keys[span.begin] != slots.keys[span.end - 1]) {
        first = slots.search(span.begin, span.end, key, false);
        behind = slots.search(first, span.end, key, true);
    }
    Rank rank = {first, behind - first, 0};
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

__device__ __forceinline__ Rank rank_in(const Slots& slots, Span span, Key key, int index) {
    if (span.end - span.begin > CROWDED) return rank_by_searching(slots, span, key, index);
    return rank_by_looking(slots, span, key, index);
}
