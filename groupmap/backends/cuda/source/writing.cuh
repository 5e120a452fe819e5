// The results of all entries that a thread has.

#define MISSING 0xFFFFFFFFu

// The order of a row whose keys are kept comes to shared memory first, from where neighbours are
// written together: its entries' positions are no neighbours.
#define STAGES_ORDER (LISTED && KEEPS_KEYS && !COUNTED)
#if STAGES_ORDER
// Of entries that have their position above their place, which have 16 bits each, as a row of this
// kind has no more than 2^14 entries; places alone are left. `staged` has room for all of the row,
// and what was there is read no more.
__device__ __forceinline__ void write_order(
    const Results& results, const Entries& entries, u32* places, u16* staged) {
    team_sync();
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        const int i = entries.index(k);
        if (i >= entries.n || places[k] == MISSING) continue;
        staged[places[k] >> 16] = (u16)i;
        places[k] &= 0xFFFFu;
    }
    team_sync();
#pragma unroll 4
    for (int i = entries.thread; i < results.present; i += THREADS) results.order[i] = (int)staged[i];
}
#endif

// By their places in the table, or MISSING; the table is asked for BATCH values at a time.
__device__ __forceinline__ void write_values(
    const Results& results, const Entries& entries, const u32* places) {
#pragma unroll
    for (int first = 0; first < HELD; first += BATCH) {
        if (first * THREADS >= entries.n) break;
        Table values[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            const u32 place = places[first + k];  // of any value, behind the end
            const bool is_one = entries.index(first + k) < entries.n && place != MISSING;
            values[k] = __ldg(results.table + (is_one ? place : 0));
        }
        Out scaled[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            scaled[k] = results.scaled(values[k], entries.within(entries.index(first + k)));
        }
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            const int i = entries.index(first + k);
            const bool is_missing = places[first + k] == MISSING;
            if (i < entries.n) results.y[i] = is_missing ? out_value(NOT_A_NUMBER) : scaled[k];
        }
    }
}

// One after the other, for a row that evaluates: rank_of(index, key).
template <class RankOf>
__device__ __forceinline__ void write_evaluated(
    const Results& results, const Entries& entries, RankOf rank_of) {
    entries.each_again([&](int i, Key key, bool counts) {
        if (!counts) {
            results.write_missing(i);
            return;
        }
        const Rank rank = rank_of(i, key);
        results.write_rank(i, rank);
        results.y[i] = results.scaled(results.evaluated(rank), i);
    });
}
