// Segments that are not ranked by counting once: they do not fit, as where many entries share a
// value, or are crowded. Blocks take one after the other.
//
// The keys of a segment fall into bins of its own. Neighbouring bins that fit together are ranked as
// segments are, in shared memory; a bin that does not fit is divided by bins of its own again; and
// where each bin is of one key, they are the ranks.

// What falls into the bins from `bin` up to `end`, which fit together.
struct Group {
    const HardSegment& own;
    const Buckets<HARD_LOG_BINS>& buckets;
    Key width;  // of all bins
    u32 bin;
    u32 end;

    // visit(place, key, bucket of the group)
    template <class Visit>
    __device__ __forceinline__ void each(Visit visit) const {
        const u32 start = own.starts[bin];
        own.each([&](u32 i, Key key) {
            if ((Key)(key - buckets.least) > width) return;
            const u32 own_bin = buckets.bin(key);
            if (own_bin >= bin && own_bin < end) visit(i, key, buckets.of(key) - start);
        });
    }
};

// The results of a group.
__device__ __forceinline__ void rank_group(
    const HardSegment& own, const Buckets<HARD_LOG_BINS>& buckets, Key high, u32 bin, u32 end,
    u32 before, const Results& results) {
    const int thread = own.thread;
    const Slots& at = own.at;
    const u32 start = own.starts[bin], size = own.starts[end] - start;
    const Group group = {own, buckets, high - buckets.least, bin, end};
    __syncthreads();
    set_to_zero(at.buckets, SEGMENT, thread);
    __syncthreads();
    group.each([&](u32, Key, u32 bucket) { atomicAdd(at.buckets + bucket, 1u); });
    __syncthreads();
    const bool is_crowded = at.sum_up_buckets(thread);
    group.each([&](u32 i, Key key, u32 bucket) {
        const u32 slot = at.next_slot(bucket);
        at.keys[slot] = key;
        at.indices[slot] = own.indices[i];
    });
    __syncthreads();
    if (is_crowded) sort_crowded(own);
#pragma unroll 1
    for (u32 slot = thread; slot < size; slot += THREADS) {
        const Key key = at.keys[slot];
        const u32 word = at.buckets[buckets.of(key) - start], count = high_half(word);
        const u32 behind = low_half(word);
        Rank rank;
        if (count <= CROWDED) {
            rank = at.rank_by_looking(behind, count, key, at.indices[slot]);
        } else {
            rank.less = (int)search_slots(at, behind - count, behind, key, false);
            rank.equal = (int)search_slots(at, behind - count, behind, key, true) - rank.less;
            rank.position = (int)slot;
        }
        rank.less += (int)(before + start);
        rank.position += (int)(before + start);
        results.write(at.indices[slot], rank);
    }
}

__device__ __forceinline__ void rank_hard_segment(HardSegment own, const Results& results) {
    const Extremes all = own.extremes_between(0, ~(Key)0);
    Key low = all.least, high = all.greatest;
    u32 before = own.start;
    while (true) {
        const Buckets<HARD_LOG_BINS> buckets(own.starts, low, high);
        own.fill_bins(buckets, high);
        bool is_divided = false;
        if (buckets.are_exact()) {
            write_exact(own, buckets, high, before, results);
        } else {
            for (u32 bin = 0, end; bin < N_HARD_BINS; bin = end) {
                end = own.end_of_group(bin);
                const u32 start = own.starts[bin];
                if (end == bin) {
                    const Key first = buckets.first_key_of(bin), last = buckets.first_key_of(bin + 1) - 1;
                    const Extremes of_bin = own.extremes_between(first, last - low < high - low ? last : high);
                    low = of_bin.least;
                    high = of_bin.greatest;
                    before += start;
                    is_divided = true;
                    break;
                }
                if (own.starts[end] > start) rank_group(own, buckets, high, bin, end, before, results);
            }
        }
        if (is_divided) continue;
        if (high == all.greatest) break;
        before += own.starts[N_HARD_BINS];
        low = high + 1;
        high = all.greatest;
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS) rank_hard_segments(LONG_ROWS, RESULTS) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const LongRows all = ALL;
    const int thread = threadIdx.x;
    u32* starts = (u32*)dynamic_shared;
    u32* large = starts + N_HARD_BINS + 4;
    const Slots at((unsigned char*)(large + (1 + MOST_LARGE + 3) / 4 * 4));
    const u32 most = *n_hard;
    for (u32 k = blockIdx.x; k < most; k += gridDim.x) {
        const u32 number = hard[k], r = number / all.n_partitions;
        const u32 start = start_of_segment(all, r, number % all.n_partitions, at.partials, thread);
        const i64 begin = (i64)r * all.n + start;
        Results results = ALL_RESULTS;
        results.go_to_row(r, (int)all.n, states[r].present);
        const HardSegment own = {
            all.keys + begin, all.indices + begin, all.totals[number], start, starts, large, at, thread};
        __syncthreads();
        rank_hard_segment(own, results);
    }
}
