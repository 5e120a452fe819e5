// The results of all entries that a thread has.

#define MISSING 0xFFFFFFFFu

// By their places, place_of(k), or MISSING; BATCH of them are asked for their values at a time,
// value_at(place).
template <class PlaceOf, class ValueAt>
__device__ __forceinline__ void write_values(
    const Results& results, Entries& entries, PlaceOf place_of, ValueAt value_at) {
    forget(entries.thread);
#pragma unroll
    for (int first = 0; first < HELD; first += BATCH) {
        if (first * THREADS >= entries.n) break;
        Table values[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            const u32 place = place_of(first + k);  // of any value, behind the end
            const bool is_one = entries.index(first + k) < entries.n && place != MISSING;
            values[k] = value_at(is_one ? place : 0);
        }
        Out scaled[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            scaled[k] = results.scaled(values[k], entries.within(entries.index(first + k)));
        }
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            const int i = entries.index(first + k);
            const bool is_missing = place_of(first + k) == MISSING;
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
