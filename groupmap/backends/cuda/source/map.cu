// The map of rows that fit into shared memory, in one launch: rank by counting, gather, scale.
//
// 1. The keys of a row, less the least of them, fall into 2^log_bins bins by their highest bits;
//    the counts of the bins, summed up, are a coarse cdf.
// 2. A bin of c keys is divided evenly into c buckets by the bits that follow. Counted and summed
//    up, the buckets are slots for all keys of the row, and most of them hold one key or two.
// 3. What a key exceeds within its bucket is counted by looking, or where many share it, sorted.
//
// Ranks are counts, so they do not depend on the order in which atomic operations come about.
//
// The host defines TEAMS in a block; MOST_THREADS of a block, of which a multiprocessor has registers
// for LEAST_BLOCKS (where that is not said, the compiler has done with 32 and spilled); ORDERED,
// whether the order of the row is wanted; and BY_SLOTS, see by_slots.cuh. Besides, see entries.cuh.

struct Layout {
    u32* bins;
    Cursors cursors;
    void* partials;
    Crowds* crowds;
    Slots slots;
    u16* crowded;  // buckets

    __device__ Layout(unsigned char* memory, int n, int n_bins) {
        bins = (u32*)memory;
        cursors.words = bins + n_bins;
        memory = (unsigned char*)(bins + zeroed_words(n, n_bins));
        partials = memory;
        memory += BYTES_OF_PARTIALS * WARPS;
        crowds = (Crowds*)memory;
        memory += sizeof(Crowds);
        slots.keys = (Key*)memory;
        memory += n * (int)sizeof(Key);
#if ORDERED
        slots.indices = (Index*)memory;
        memory += n * (int)sizeof(Index);
#endif
        crowded = (u16*)memory;
    }

    // Bins and cursors, rounded up to what a thread takes at a time.
    __device__ static int zeroed_words(int n, int n_bins) {
        return (n_bins + Cursors::n_words(n) + 3) / 4 * 4;
    }
};

// The results of rows (n_rows, n).
extern "C" __global__ void __launch_bounds__(MOST_THREADS, LEAST_BLOCKS) map_rows(
    const Value* rows, const bool* where, i64 n_rows, i64 n_entries, RESULTS, i64 log_of_bins,
    i64 bytes_per_team) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
#if IS_WARP
    const int team = threadIdx.x / 32, thread = threadIdx.x % 32;
#else
    const int team = 0, thread = threadIdx.x;
#endif
    const int n = (int)n_entries, log_bins = (int)log_of_bins, n_bins = 1 << log_bins;
    const u32 r = blockIdx.x * TEAMS + team;
    if (r >= n_rows) return;  // of several teams in a block only, which are warps
    const int lane = thread % 32;
    const Layout at(dynamic_shared + team * (int)bytes_per_team, n, n_bins);
    Entries entries(rows, where, r, n, thread);

    set_to_zero(at.bins, Layout::zeroed_words(n, n_bins), thread);
    if (thread == 0) *at.crowds = {};
    Extremes extremes = NO_EXTREMES;
    entries.each([&](int, int, Key key, bool counts) {
        if (counts) extremes.include(key);
    });
    extremes = extremes.of_team(at.partials, thread);
    const Buckets buckets = buckets_between(at.bins, extremes, log_bins);
#if IS_WARP
    team_sync();  // which of_team has done in a block
#endif

    entries.each([&](int, int, Key key, bool counts) {
        if (counts) atomicAdd(&at.bins[buckets.bin(key)], 1u);
    });
    team_sync();
    StartsAndCounts of_bins;
    sum_up(at.bins, n_bins, of_bins, at.partials, thread);
    // Where a third shares a bin, many may share a bucket, and lanes want to add to one cursor.
    const bool may_meet = team_any(3 * of_bins.greatest > extremes.present);

    u32 places[HELD];  // a bucket, and in the upper half how many came before
    entries.each([&](int k, int, Key key, bool counts) {
        const u32 bucket = counts ? buckets.of(key) : 0;
        u32 before = 0;
        if (may_meet) before = add_one_together(at.cursors, bucket, counts, lane);
        else if (counts) before = at.cursors.add(bucket, 1);
        places[k] = bucket | (before << 16);
    });
    team_sync();
    Cursors::Summed of_cursors;
    sum_up(at.cursors.words, Cursors::n_words(n), of_cursors, at.partials, thread);
    const bool is_crowded = team_any(of_cursors.greatest > CROWDED);

#if BY_SLOTS
    Halves<HELD> own_slots;
#endif
    entries.each([&](int k, int i, Key key, bool counts) {
        u32 slot = NO_SLOT;
        if (counts) {
            slot = at.cursors.begin(low_half(places[k])) + high_half(places[k]);
            at.slots.keys[slot] = key;
#if ORDERED
            at.slots.indices[slot] = (Index)i;
#endif
        }
#if BY_SLOTS
        own_slots.set(k, slot);
#endif
    });
    team_sync();
    if (is_crowded) sort_crowded(at.slots, at.cursors, n, at.crowded, *at.crowds, thread);

    Results results = ALL_RESULTS;
    results.go_to_row(r, n, extremes.present);
#if LISTED
    for (int i = results.present + thread; i < n; i += THREADS) results.order[i] = -1;
#endif
    const auto rank_of = [&](u32 bucket, int i, Key key) {
        return rank_in(at.slots, at.cursors.span(bucket), key, i);
    };
#if !COUNTED
    if (results.evaluates) {
        write_evaluated(results, entries, [&](int i, Key key) { return rank_of(buckets.of(key), i, key); });
        return;
    }
#endif
#if BY_SLOTS
    const BySlots by_slots = {results, at.slots, buckets, at.cursors};
    if (is_crowded) by_slots.replace_crowded_keys(entries, own_slots, at.crowds->are_sorted);
    else by_slots.replace_keys(entries);
    team_sync();
    write_values(
        results, entries,
        [&](int k) {
            const u32 slot = own_slots.get(k);
            return slot == NO_SLOT ? MISSING : slot;
        },
        [&](u32 slot) { return (Table)at.slots.keys[slot]; });
#else
    entries.each([&](int k, int i, Key key, bool counts) {
        if (!counts) {
            places[k] = MISSING;
            return;
        }
        const Rank rank = rank_of(low_half(places[k]), i, key);
        results.write_rank(i, rank);
        places[k] = (u32)results.place_of(rank);
    });
#if !COUNTED
    write_values(
        results, entries, [&](int k) { return places[k]; },
        [&](u32 place) { return __ldg(results.table + place); });
#endif
#endif
}
