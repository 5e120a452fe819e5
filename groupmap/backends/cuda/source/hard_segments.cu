// Segments that are not ranked by counting once: they do not fit, as where many entries share a
// value, or are crowded. Blocks take one after the other.
//
// The keys of a segment fall into bins of its own. Neighbouring bins that fit together are ranked as
// segments are, in shared memory; a bin that does not fit is divided by bins of its own again; and
// where each bin is of one key, they are the ranks.
//
// The host defines HARD_LOG_BINS, and LONGEST_OF_WARP, the bucket that one warp sorts.

#define N_HARD_BINS (1 << HARD_LOG_BINS)
#define MOST_LARGE (SEGMENT / LONGEST_OF_WARP)

static_assert(!ORDERED || WARPS * N_HARD_BINS <= CAPACITY, "warps count where slots would be");

struct HardSegment {
    const Stored* keys;
    const u32* indices;
    u32 size;
    u32 start;  // in the row
    u32* starts;  // of bins
    u32* large;   // buckets that the block sorts, after their number
    Slots at;
    int thread;

    // visit(place, key)
    template <class Visit>
    __device__ __forceinline__ void each(Visit visit) const {
#pragma unroll 1
        for (u32 first = thread; first < size; first += BATCH * THREADS) {
            Key read[BATCH];
#pragma unroll
            for (int k = 0; k < BATCH; ++k) {
                const u32 i = first + k * THREADS;
                read[k] = i < size ? (Key)keys[i] : 0;
            }
#pragma unroll
            for (int k = 0; k < BATCH; ++k) {
                if (first + k * THREADS < size) visit(first + k * THREADS, read[k]);
            }
        }
    }

    // What there is from `low` to `high`.
    __device__ __noinline__ Extremes extremes_between(Key low, Key high) const {
        Extremes extremes = NO_EXTREMES;
        each([&](u32, Key key) {
            if ((Key)(key - low) <= (Key)(high - low)) extremes.include(key);
        });
        __syncthreads();
        return extremes.of_block(at.partials, thread);
    }

    // The bins from `low` to `high`, summed up.
    __device__ __noinline__ void fill_bins(const Buckets<HARD_LOG_BINS>& buckets, Key high) const {
        __syncthreads();
        set_to_zero(starts, N_HARD_BINS, thread);
        __syncthreads();
        const Key width = high - buckets.least;
        u32 own = 0;
        each([&](u32, Key key) {
            if ((Key)(key - buckets.least) > width) return;
            atomicAdd(starts + buckets.bin(key), 1u);
            ++own;
        });
        __syncthreads();
        Starts of_bins = {0};
        sum_up(starts, N_HARD_BINS, of_bins, at.partials, thread);
        const u32 total = total_of_block(own, (u32*)at.partials + WARPS, thread);
        if (thread == 0) starts[N_HARD_BINS] = total;
        __syncthreads();
    }

    // The farthest end of bins that fit together, from `bin` on.
    __device__ __forceinline__ u32 end_of_group(u32 bin) const {
        u32 end = bin, behind = N_HARD_BINS;
        while (end < behind) {
            const u32 middle = (end + behind + 1) / 2;
            if (starts[middle] - starts[bin] <= SEGMENT) end = middle;
            else behind = middle - 1;
        }
        return end;
    }
};

// The results of bins that are of one key each; `before` them, there is that much in the row.
__device__ __noinline__ void write_exact(
    const HardSegment& own, const Buckets<HARD_LOG_BINS>& buckets, Key high, u32 before,
    const Results& results) {
    const Key width = high - buckets.least;
    const auto rank_of = [&](u32 bin) {
        const u32 first = own.starts[bin];
        const Rank rank = {(int)(before + first), (int)(own.starts[bin + 1] - first), 0};
        return rank;
    };
#if ORDERED
    // Each warp takes a part, counts its keys, and goes through it in order of appearance.
    u32* counters = (u32*)own.at.keys;
    const u32 lane = own.thread % 32, warp = own.thread / 32;
    u32* of_warp = counters + warp * N_HARD_BINS;
    const u32 each = (own.size + THREADS - 1) / THREADS * 32, begin = warp * each;
    const u32 end = begin + each < own.size ? begin + each : own.size;
    set_to_zero(counters, WARPS * N_HARD_BINS, own.thread);
    __syncthreads();
#pragma unroll 4
    for (u32 i = begin + lane; i < end; i += 32) {
        const Key key = own.keys[i];
        if ((Key)(key - buckets.least) <= width) atomicAdd(of_warp + buckets.bin(key), 1u);
    }
    __syncthreads();
#pragma unroll 1
    for (u32 bin = own.thread; bin < N_HARD_BINS; bin += THREADS) {
        u32 position = before + own.starts[bin];
        for (u32 other = 0; other < WARPS; ++other) {
            u32& counter = counters[other * N_HARD_BINS + bin];
            const u32 count = counter;
            counter = position;
            position += count;
        }
    }
    __syncthreads();
#pragma unroll 1
    for (u32 first = begin; first < end; first += 32) {
        const u32 i = first + lane;
        const Key key = i < end ? (Key)own.keys[i] : 0;
        const bool is_one = i < end && (Key)(key - buckets.least) <= width;
        const u32 bin = is_one ? buckets.bin(key) : 0;
        const u32 peers = __match_any_sync(ALL_LANES, is_one ? bin : ~0u);
        const u32 position = of_warp[bin] + (u32)__popc(peers & ((1u << lane) - 1));
        __syncwarp();
        if (is_one && lane == (u32)__ffs((int)peers) - 1) of_warp[bin] += (u32)__popc(peers);
        __syncwarp();
        if (!is_one) continue;
        Rank rank = rank_of(bin);
        rank.position = (int)position;
        results.write(own.indices[i], rank);
    }
#else
    own.each([&](u32 i, Key key) {
        if ((Key)(key - buckets.least) <= width) results.write(own.indices[i], rank_of(buckets.bin(key)));
    });
#endif
}

// Crowded buckets are put in order: small ones by a warp each, the others by the block.
__device__ __noinline__ void sort_crowded(const HardSegment& own) {
    const int thread = own.thread, lane = thread % 32;
    const Slots& at = own.at;
    const auto sort = [&](u32 word, int worker, int workers, auto any, auto sync) {
        const u32 end = low_half(word), count = high_half(word), begin = end - count;
        bool differs = ORDERED;
        for (u32 i = begin + worker; i < end; i += workers) differs |= at.keys[i] != at.keys[begin];
        if (any(differs)) sort_slots(at, begin, (int)count, worker, workers, sync);
    };
    if (thread == 0) own.large[0] = 0;
    __syncthreads();
#pragma unroll 1
    for (int bucket = thread; bucket < SEGMENT; bucket += THREADS) {
        const u32 word = at.buckets[bucket], count = high_half(word);
        if (count > LONGEST_OF_WARP) own.large[1 + atomicAdd(own.large, 1u)] = word;
        u32 crowded = __ballot_sync(ALL_LANES, count > CROWDED && count <= LONGEST_OF_WARP);
        for (; crowded; crowded &= crowded - 1) {
            sort(__shfl_sync(ALL_LANES, word, __ffs((int)crowded) - 1), lane, 32,
                 [](bool value) { return __any_sync(ALL_LANES, value); }, [] { __syncwarp(); });
        }
    }
    __syncthreads();
    const u32 n_large = own.large[0];
    for (u32 k = 1; k <= n_large; ++k) {
        sort(own.large[k], thread, THREADS, [](bool value) { return __syncthreads_or(value); },
             [] { __syncthreads(); });
    }
    __syncthreads();
}

// The results of the bins from `bin` up to `end`, which fit.
__device__ __noinline__ void rank_group(
    const HardSegment& own, const Buckets<HARD_LOG_BINS>& buckets, Key high, u32 bin, u32 end,
    u32 before, const Results& results) {
    const int thread = own.thread;
    const Slots& at = own.at;
    const u32 start = own.starts[bin], size = own.starts[end] - start;
    const Key width = high - buckets.least;
    const auto each = [&](auto visit) {
        own.each([&](u32 i, Key key) {
            if ((Key)(key - buckets.least) > width) return;
            const u32 own_bin = buckets.bin(key);
            if (own_bin >= bin && own_bin < end) visit(i, key, buckets.of(key) - start);
        });
    };
    __syncthreads();
    set_to_zero(at.buckets, SEGMENT, thread);
    __syncthreads();
    each([&](u32, Key, u32 bucket) { atomicAdd(at.buckets + bucket, 1u); });
    __syncthreads();
    const bool is_crowded = at.sum_up_buckets(thread);
    each([&](u32 i, Key key, u32 bucket) {
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

__device__ __noinline__ void rank_hard_segment(HardSegment own, const Results& results) {
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
