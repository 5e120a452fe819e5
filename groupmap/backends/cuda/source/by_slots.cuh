// What becomes of a row by its slots: neighbours there have neighbouring ranks, so what they look at
// lies together, and so does what they ask the table for. It takes the place of the key, and each
// entry fetches it from its slot.
//
// The host defines BY_SLOTS, whether that is done: it asks once more which bucket a key has fallen
// into, which is too much for rows of a few keys a thread.

#define NO_SLOT 0xFFFFu  // which no entry has, as rows are shorter

#if BY_SLOTS
static_assert(CROWDED <= 32 * BATCH, "a bucket is to reach no further than a batch of slots");

struct BySlots {
    const Results& results;
    const Slots& slots;
    const Buckets& buckets;
    const Cursors& cursors;

    // Of the key in a slot; `own` says whether it is this thread's to write what is not the value.
    template <class RankOf>
    __device__ __forceinline__ Table value_at(int slot, bool own, RankOf rank_of) const {
        const Key key = slots.keys[slot];
#if ORDERED
        const int i = slots.indices[slot];
#else
        const int i = 0;
#endif
        const Rank rank = rank_of(slots, cursors.span(buckets.of(key)), key, i);
        if (own) results.write_rank(i, rank);
        return __ldg(results.table + results.place_of(rank));
    }

    // Where no bucket is crowded, so that none reaches further back than into the batch before.
    __device__ __forceinline__ void replace_keys(const Entries& entries) const {
        const int n = results.present;
        Table ready[BATCH] = {};
        const auto replace_from = [&](int first) {
#pragma unroll
            for (int k = 0; k < BATCH; ++k) {
                const int slot = entries.index(first + k);
                if (slot >= 0 && slot < n) slots.keys[slot] = ready[k];
            }
        };
        int first = 0;
#pragma unroll 1
        for (; first * THREADS < n; first += BATCH) {
            Table values[BATCH] = {};
#pragma unroll
            for (int k = 0; k < BATCH; ++k) {
                if ((first + k) * THREADS >= n) break;
                const int slot = entries.index(first + k);
                values[k] = value_at(slot < n ? slot : n - 1, slot < n, rank_by_looking);
            }
            team_sync();
            replace_from(first - BATCH);  // who comes to the next batch has no use for these keys
#pragma unroll
            for (int k = 0; k < BATCH; ++k) ready[k] = values[k];
        }
        replace_from(first - BATCH);
    }

    // Where some are crowded, and may have been sorted: all at once, and what there are no registers
    // for is kept in memory of the thread's own. Then `own_slots` say where values are.
    __device__ __forceinline__ void replace_crowded_keys(
        Entries& entries, Halves<HELD>& own_slots, bool are_sorted) const {
#if ORDERED
        entries.each([&](int k, int i, Key, bool counts) {
            if (counts) own_slots.set(k, (u32)i);
        });
#else
        if (are_sorted) follow(entries, own_slots);
#endif
        Table values[HELD];
#pragma unroll 1
        for (int k = 0, slot = entries.thread; slot < results.present; ++k, slot += THREADS) {
            values[k] = value_at(slot, true, rank_in);
        }
        team_sync();
#pragma unroll 1
        for (int k = 0, slot = entries.thread; slot < results.present; ++k, slot += THREADS) {
#if ORDERED
            slots.keys[slots.indices[slot]] = values[k];
#else
            slots.keys[slot] = values[k];
#endif
        }
    }

#if !ORDERED
    // Keys have left their slots where a bucket was sorted; equals are all mapped to one value.
    __device__ __forceinline__ void follow(Entries& entries, Halves<HELD>& own_slots) const {
        entries.each([&](int k, int, Key key, bool counts) {
            if (!counts) return;
            const Span span = cursors.span(buckets.of(key));
            if (span.end - span.begin <= CROWDED) return;
            own_slots.set(k, (u32)slots.search(span.begin, span.end, key, false));
        });
    }
#endif
};
#endif
