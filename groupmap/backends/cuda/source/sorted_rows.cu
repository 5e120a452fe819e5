// The map of rows of a few keys a lane, in one launch: a warp sorts them in its registers, and each
// entry searches for its own.
//
// The host defines TEAMS in a block, MOST_THREADS and LEAST_BLOCKS as for map.cu. Keys are kept (see
// entries.cuh), and the order of the row is not known.

#define N_SORTED (32 * HELD)
#define FEW_EQUALS 3  // which are looked for one by one: most numbers of 16 bits have no more

__device__ __forceinline__ void put_in_order(Key& a, Key& b) {
    const Key lesser = a < b ? a : b;
    b = a < b ? b : a;
    a = lesser;
}

// The keys of lanes that differ in `lanes` are compared, the other's in reverse where a run begins to
// be merged; the lane that comes first keeps the lesser ones.
__device__ __forceinline__ void compare_lanes(Key* keys, int lanes, bool is_first, bool in_reverse) {
    Key others[HELD];
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        others[k] = __shfl_xor_sync(ALL_LANES, keys[in_reverse ? HELD - 1 - k : k], lanes);
    }
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        const Key lesser = others[k] < keys[k] ? others[k] : keys[k];
        const Key greater = others[k] < keys[k] ? keys[k] : others[k];
        keys[k] = is_first ? lesser : greater;
    }
}

// A bitonic sort, after which a lane has HELD in a row. All comparisons point upward: runs twice as
// long begin with one that compares the first with the last, the second with the last but one.
__device__ __forceinline__ void sort_in_registers(Key* keys, int lane) {
#pragma unroll
    for (int run = 2; run <= N_SORTED; run *= 2) {
#pragma unroll
        for (int gap = run / 2; gap > 0; gap /= 2) {
            const bool begins = gap == run / 2;
            if (gap >= HELD) {
                const int lanes = gap / HELD;
                compare_lanes(keys, begins ? 2 * lanes - 1 : lanes, !(lane & lanes), begins);
            } else {
#pragma unroll
                for (int k = 0; k < HELD; ++k) {
                    const int other = begins ? k ^ (run - 1) : k ^ gap;
                    if (other > k) put_in_order(keys[k], keys[other]);
                }
            }
        }
    }
}

// N_SORTED keys in order; what is not there has the greatest one.
struct SortedKeys {
    Key* keys;

    __device__ __forceinline__ int count_less(Key key) const {
        int found = 0;
#pragma unroll
        for (int step = N_SORTED / 2; step > 0; step /= 2) {
            if (keys[found + step - 1] < key) found += step;
        }
        return found;
    }

    // Of a key that is there, `less` others below it: most have few equals.
    __device__ __forceinline__ int count_at_most(Key key, int less, int present) const {
        int behind = less + 1;
#pragma unroll
        for (int k = 0; k < FEW_EQUALS; ++k) behind += behind < present && keys[behind] == key;
        if (behind <= less + FEW_EQUALS) return behind;
        int found = 0;
#pragma unroll
        for (int step = N_SORTED / 2; step > 0; step /= 2) {
            if (keys[found + step - 1] <= key) found += step;
        }
        found += keys[found] <= key;
        return found < present ? found : present;  // what is not there may be equal to the greatest
    }
};

// The results of rows (n_rows, n), but for the order.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, LEAST_BLOCKS) map_rows_sorted(
    const Value* rows, const bool* where, i64 n_rows, i64 n_entries, RESULTS, i64, i64 bytes_per_team) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const int team = threadIdx.x / 32, lane = threadIdx.x % 32, n = (int)n_entries;
    const u32 r = blockIdx.x * TEAMS + team;
    if (r >= n_rows) return;
    const SortedKeys sorted = {(Key*)(dynamic_shared + team * (int)bytes_per_team)};
    Entries entries(rows, where, r, n, lane);
    const int present = (int)__reduce_add_sync(ALL_LANES, entries.n_counting());

    Key keys[HELD];
#pragma unroll
    for (int k = 0; k < HELD; ++k) keys[k] = entries.counts(k) ? entries.keys.get(k) : ~(Key)0;
    sort_in_registers(keys, lane);
#pragma unroll
    for (int k = 0; k < HELD; ++k) sorted.keys[lane * HELD + k] = keys[k];
    team_sync();

    Results results = ALL_RESULTS;
    results.go_to_row(r, n, (u32)present);
    int below[HELD];
    bool has_equal = false;
    entries.each([&](int k, int, Key key, bool counts) {
        below[k] = sorted.count_less(key);
        const int next = below[k] + 1;
        has_equal |= counts && next < present && sorted.keys[next] == key;
    });
    const bool are_equal = team_any(has_equal);
    const auto rank_of = [&](int first, Key key) {
        const int behind = are_equal ? sorted.count_at_most(key, first, present) : first + 1;
        const Rank rank = {first, behind - first, 0};
        return rank;
    };
#if COUNTED
    entries.each([&](int k, int i, Key key, bool counts) {
        if (counts) results.write_rank(i, rank_of(below[k], key));
    });
#else
    if (results.evaluates) {
        write_evaluated(
            results, entries, [&](int, Key key) { return rank_of(sorted.count_less(key), key); });
        return;
    }
    u32 places[HELD];
    entries.each([&](int k, int, Key key, bool counts) {
        places[k] = counts ? (u32)results.place_of(rank_of(below[k], key)) : MISSING;
    });
    write_values(
        results, entries, [&](int k) { return places[k]; },
        [&](u32 place) { return __ldg(results.table + place); });
#endif
}
