// A segment that is looked at again and again, and its own bins.
//
// The host defines HARD_LOG_BINS, and LONGEST_OF_WARP, the bucket that one warp sorts.

#define N_HARD_BINS (1 << HARD_LOG_BINS)
#define MOST_LARGE (SEGMENT / LONGEST_OF_WARP)

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
        return extremes.of_team(at.partials, thread);
    }

    // The bins from `low` to `high`, summed up.
    __device__ __forceinline__ void fill_bins(const Buckets<HARD_LOG_BINS>& buckets, Key high) const {
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
        Starts of_bins;
        sum_up(starts, N_HARD_BINS, of_bins, at.partials, thread);
        const u32 total = total_of_team(own, (u32*)at.partials + WARPS, thread);
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
