// The results of all entries that a thread has.

#define MISSING 0xFFFFFFFFu

// By their places in the table, or MISSING; the table is asked for BATCH values at a time.
__device__ __forceinline__ void write_values(
    const Results& results, const Entries& entries, const u32* places) {
#pragma unroll
    for (int first = 0; first < HELD; first += BATCH) {
        if (first * THREADS >= entries.n) break;
        Table values[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            const u32 place = places[first + k];
            const bool is_there = entries.index(first + k) < entries.n && place != MISSING;
            values[k] = is_there ? __ldg(results.table + place) : (Table)0;
        }
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            const int i = entries.index(first + k);
            if (i >= entries.n) continue;
            if (places[first + k] == MISSING) results.write_missing(i);
            else results.y[i] = results.scaled(values[k], i);
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
