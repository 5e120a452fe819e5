// The map of rows that fit into shared memory, in one launch: rank by counting, gather, scale.
//
// 1. The keys of a row, less the least of them, fall into 2^log_bins bins by their highest bits;
//    the counts of the bins, summed up, are a coarse cdf.
// 2. A bin of c keys is divided evenly into c buckets by the bits that follow. Counted and summed
//    up, the buckets are slots for all keys of the row, and most of them hold one key or two.
// 3. What a key exceeds within its bucket is counted by looking. Buckets of more than CROWDED keys
//    are sorted first, unless all are equal and the order is not wanted, and searched.
//
// Ranks are counts, so they do not depend on the order in which atomic operations come about.
//
// The host defines THREADS of a team, TEAMS in a block, BATCH (see rows.cuh), CROWDED,
// LONGEST_OF_WARP, ORDERED, whether the order of the row is wanted, and SCALED, whether there is
// a weight or a bias.

struct Layout {
    Slots slots;
    u32* bins;      // where the buckets of each bin begin
    u32* cursors;   // 16 bits a bucket: how many, then where the next one goes, then where it ends
    u16* crowded;   // buckets of more than CROWDED keys
    u32* n_crowded;
    void* partials;

    __device__ Layout(unsigned char* memory, int n, int n_bins) {
        partials = memory;
        memory += 8 * (WARPS + 1);
        n_crowded = (u32*)(memory - 8);
        slots.keys = (Key*)memory;
        memory += (i64)n * sizeof(Key);
        bins = (u32*)memory;
        memory += (n_bins + 1) * sizeof(u32);
        cursors = (u32*)memory;
        memory += (n / 2 + 1) * sizeof(u32);
        crowded = (u16*)memory;
        memory += (n / CROWDED + 1) * sizeof(u16);
#if ORDERED
        slots.indices = (Index*)memory;
#endif
    }
};

// Counts of the buckets to where each begins; those that hold too many are noted.
__device__ __forceinline__ void sum_up_buckets(const Layout& at, int n, int thread) {
    const Part part = part_of(n / 2 + 1, thread);
    u32 own = 0;
    for (int i = part.begin; i < part.end; ++i) own += (at.cursors[i] & 0xFFFFu) + (at.cursors[i] >> 16);
    u32 before = sum_before(own, at.partials, thread);
    for (int i = part.begin; i < part.end; ++i) {
        const u32 even = at.cursors[i] & 0xFFFFu, odd = at.cursors[i] >> 16;
        at.cursors[i] = before | ((before + even) << 16);
        before += even + odd;
        if (even > CROWDED) at.crowded[atomicAdd(at.n_crowded, 1u)] = (u16)(2 * i);
        if (odd > CROWDED) at.crowded[atomicAdd(at.n_crowded, 1u)] = (u16)(2 * i + 1);
    }
}

__device__ __forceinline__ int begin_of(const u32* cursors, u32 bucket) {
    return bucket == 0 ? 0 : (int)counter(cursors, bucket - 1);
}

// Crowded buckets are sorted: small ones by a warp each, the others by the team.
__device__ void sort_crowded(const Layout& at, int thread) {
    const int lane = thread % 32, n_crowded = (int)*at.n_crowded;
    for (int k = thread / 32; k < n_crowded; k += WARPS) {
        const u32 bucket = at.crowded[k];
        const int begin = begin_of(at.cursors, bucket);
        const int size = (int)counter(at.cursors, bucket) - begin;
        const bool is_done = (WARPS > 1 && size > LONGEST_OF_WARP) ||
                             (!ORDERED && is_constant(at.slots, begin, size, lane));
        if (!is_done) sort_segment(at.slots, begin, size, lane, 32, WarpBarrier());
    }
#if THREADS > 32
    for (int k = 0; k < n_crowded; ++k) {
        const u32 bucket = at.crowded[k];
        const int begin = begin_of(at.cursors, bucket);
        const int size = (int)counter(at.cursors, bucket) - begin;
        if (size <= LONGEST_OF_WARP) continue;
        if (!ORDERED) {
            bool differs = false;
            for (int i = thread; i < size; i += THREADS) {
                differs |= at.slots.keys[begin + i] != at.slots.keys[begin];
            }
            if (!__syncthreads_or(differs)) continue;
        }
        sort_segment(at.slots, begin, size, thread, THREADS, TeamBarrier());
    }
#endif
}

// The results of rows (n_rows, n).
extern "C" __global__ void __launch_bounds__(THREADS * TEAMS) map_rows(
    const Value* rows, const bool* where, i64 n_rows, i64 n_entries, RESULTS, i64 log_bins,
    i64 bytes_per_team) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const int n = (int)n_entries, team = threadIdx.x / THREADS, thread = threadIdx.x % THREADS;
    const int n_bins = 1 << log_bins;
    const i64 r = (i64)blockIdx.x * TEAMS + team;
    if (r >= n_rows) return;  // of several teams in a block only, which are warps
    const Layout at(dynamic_shared + team * bytes_per_team, n, n_bins);
    const Entries entries = {rows + r * n, where == nullptr ? nullptr : where + r * n, n, thread};

    for (int i = thread; i < n_bins; i += THREADS) at.bins[i] = 0;
    for (int i = thread; i < n / 2 + 1; i += THREADS) at.cursors[i] = 0;
    if (thread == 0) *at.n_crowded = 0;
    Key least = ~(Key)0, greatest = 0;
    u32 present = 0;
    entries.each([&](int, Key key, bool counts) {
        if (!counts) return;
        least = key < least ? key : least;
        greatest = key > greatest ? key : greatest;
        ++present;
    });
    least = of_all(least, Least(), at.partials, thread);
    greatest = of_all(greatest, Greatest(), at.partials, thread);
    present = of_all(present, Add(), at.partials, thread);
    const int spread = present ? bit_length((Key)(greatest - least)) : 0;
    const Buckets buckets = {at.bins, least, spread > log_bins ? spread - (int)log_bins : 0};
    team_sync();

    entries.each([&](int, Key key, bool counts) {
        if (counts) atomicAdd(&at.bins[buckets.bin(key)], 1u);
    });
    team_sync();
    // Where a third shares a bin, many may share a bucket.
    const bool may_meet = 3 * starts_of_bins(at.bins, n_bins, present, at.partials, thread) > present;
    team_sync();
    const int lane = thread % 32;
    if (may_meet) {
        entries.each([&](int, Key key, bool counts) {
            add_to_counter_together(at.cursors, counts ? buckets.of(key) : 0, counts, lane);
        });
    } else {
        entries.each([&](int, Key key, bool counts) {
            if (counts) add_to_counter(at.cursors, buckets.of(key), 1);
        });
    }
    team_sync();
    sum_up_buckets(at, n, thread);
    team_sync();
    entries.each([&](int i, Key key, bool counts) {
        u32 slot = 0;
        if (may_meet) {
            slot = add_to_counter_together(at.cursors, counts ? buckets.of(key) : 0, counts, lane);
        } else if (counts) {
            slot = add_to_counter(at.cursors, buckets.of(key), 1);
        }
        if (!counts) return;
        at.slots.keys[slot] = key;
#if ORDERED
        at.slots.indices[slot] = (Index)i;
#endif
    });
    team_sync();
    if (*at.n_crowded) {
        sort_crowded(at, thread);
        team_sync();
    }

    const Results results = ALL_RESULTS;
    const Results::OfRow of_row = results.of_row(r, n, present);
    entries.each([&](int i, Key key, bool counts) {
        if (i >= n) return;
        if (!counts) {
            of_row.write_missing(i);
            return;
        }
        const u32 bucket = buckets.of(key);
        const int begin = begin_of(at.cursors, bucket), end = (int)counter(at.cursors, bucket);
        of_row.write(i, rank_in(at.slots, begin, end, key, i));
    });
    if (order) {
        for (int i = (int)present + thread; i < n; i += THREADS) order[of_row.row_begin + i] = -1;
    }
}
