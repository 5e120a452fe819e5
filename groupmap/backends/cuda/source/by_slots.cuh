// The results of a row by its slots: neighbours there have neighbouring ranks, so that what they ask
// of the table lies together, and what they look at, too. What becomes of a key takes its slot, from
// where the entry's own thread fetches it.

#define KEY_BITS (VALUE_BITS == 64 ? 64 : 32)
#define BY_SLOTS (KEEPS_KEYS && !COUNTED && TABLE_BITS <= KEY_BITS)

#if BY_SLOTS
// Of a row that is not crowded, and looks its results up; `own_slots` are those of the entries that
// count, and any for the others.
__device__ __forceinline__ void write_by_slots(
    const Results& results, const Entries& entries, const Slots& slots, const Buckets& buckets,
    const Cursors& cursors, const u32* own_slots) {
    Table values[HELD];
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        if (k * THREADS >= results.present) break;
        const int slot = entries.index(k), at = slot < results.present ? slot : results.present - 1;
        const Key key = slots.keys[at];
#if ORDERED
        const int index = slots.indices[at];
#else
        const int index = 0;
#endif
        const Rank rank = rank_by_looking(slots, cursors.span(buckets.of(key)), key, index);
#if LISTED
        if (slot < results.present) results.order[rank.position] = index;
#endif
        values[k] = __ldg(results.table + results.place_of(rank));
    }
    team_sync();
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        if (entries.index(k) < results.present) slots.keys[entries.index(k)] = values[k];
    }
    team_sync();
#pragma unroll
    for (int first = 0; first < HELD; first += BATCH) {
        if (first * THREADS >= entries.n) break;
        Out scaled[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            const bool counts = entries.counting >> (first + k) & 1;
            const Table value = (Table)slots.keys[counts ? own_slots[first + k] : 0];
            scaled[k] = results.scaled(value, entries.within(entries.index(first + k)));
            if (!counts) scaled[k] = out_value(NOT_A_NUMBER);
        }
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            const int i = entries.index(first + k);
            if (i < entries.n) results.y[i] = scaled[k];
        }
    }
}
#endif
