// The map of rows of numbers of 8 or 16 bits, in one launch. There are only 2^16 of them, so a bit
// for each says which occur. Counted up to a number, the bits are its rank among the distinct ones,
// and each of these has a counter. Ties need no care, and no bucket is ever crowded.
//
// The host defines MOST_THREADS and LEAST_BLOCKS as for map.cu. Keys are kept (see entries.cuh), and
// the order of the row is not known.

#define N_WORDS (VALUE_BITS == 8 ? 8 : 1 << 11)  // of the bits; 128 at least are summed up

// The bits of a word come to how many there are before it.
struct BitsBefore {
    u16* before_words;

    __device__ __forceinline__ u32 of(u32 word) const { return (u32)__popc(word); }

    __device__ __forceinline__ void sum_up(u32*, int i, uint4 four, u32 before) {
        const u32 second = before + of(four.x), third = second + of(four.y);
        const u32 fourth = third + of(four.z);
        uint2* four_befores = (uint2*)(before_words + i);
        *four_befores = make_uint2(before | (second << 16), third | (fourth << 16));
    }
};

// The results of rows (n_rows, n), but for the order. What map.cu is handed last has no use here.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, LEAST_BLOCKS) map_rows_of_16_bits(
    const Value* rows, const bool* where, i64 n_rows, i64 n_entries, RESULTS, i64, i64) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const int n = (int)n_entries, thread = threadIdx.x;
    const u32 r = blockIdx.x;
    u32* words = (u32*)dynamic_shared;
    u32* counters = words + N_WORDS;
    const int n_counters = (n + 3) / 4 * 4;
    u16* before_words = (u16*)(counters + n_counters);
    void* partials = before_words + N_WORDS;
    Entries entries(rows, where, r, n, thread);

    set_to_zero(words, N_WORDS + n_counters, thread);
    team_sync();
    u32 present = 0;
    entries.each([&](int, int, Key key, bool counts) {
        if (counts) atomicOr(words + (key >> 5), 1u << (key & 31));
        present += counts;
    });
    team_sync();
    BitsBefore bits_before = {before_words};
    sum_up(words, N_WORDS, bits_before, partials, thread);
    team_sync();
    const auto distinct_of = [&](Key key) {
        const u32 smaller = (1u << (key & 31)) - 1;
        return before_words[key >> 5] + (u32)__popc(words[key >> 5] & smaller);
    };
    entries.each([&](int, int, Key& key, bool counts) {
        const u32 distinct = distinct_of(key);
        if (counts) atomicAdd(counters + distinct, 1u);
        key = distinct;
    });
    team_sync();
    StartsAndCounts of_counters;
    const int n_distinct = (int)before_words[N_WORDS - 1] + __popc(words[N_WORDS - 1]);
    sum_up(counters, n_distinct, of_counters, partials, thread);
    team_sync();

    Results results = ALL_RESULTS;
    results.go_to_row(r, n, total_of_team(present, partials, thread));
    const auto rank_of = [&](u32 distinct) {
        const u32 word = counters[distinct];
        const Rank rank = {(int)low_half(word), (int)high_half(word), 0};
        return rank;
    };
#if !COUNTED
    if (results.evaluates) {
        write_evaluated(results, entries, [&](int, Key key) { return rank_of(distinct_of(key)); });
        return;
    }
#endif
    entries.each([&](int, int i, Key& distinct, bool counts) {
        if (!counts) {
            distinct = MISSING;
            return;
        }
        const Rank rank = rank_of(distinct);
        results.write_rank(i, rank);
        distinct = (u32)results.place_of(rank);
    });
#if !COUNTED
    write_values(results, entries, entries.keys);
#endif
}
