// The map of rows of numbers of 8 or 16 bits, in one launch. There are only 2^16 of them, so a bit
// for each says which occur. Counted up to a number, the bits are its rank among the distinct ones,
// and each of these has a counter. Ties need no care, and no bucket is ever crowded.
//
// The host defines MOST_THREADS and LEAST_BLOCKS as for map.cu. Keys are kept (see entries.cuh), and
// the order of the row is not known.

#define N_WORDS (VALUE_BITS == 8 ? 8 : 1 << 11)  // of the bits

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

__device__ __forceinline__ Rank rank_of_word(u32 start_and_count) {
    return {(int)low_half(start_and_count), (int)high_half(start_and_count), 0};
}

// Whether a counter has room for what becomes of its number.
#define KEEPS_VALUES (!COUNTED && TABLE_BITS <= 32)

#if KEEPS_VALUES
// Counts come to the value of the table at their ranks, which neighbours find near each other.
struct ValuesOfDistinct : EachOfFour<ValuesOfDistinct> {
    const Results& results;

    __device__ __forceinline__ explicit ValuesOfDistinct(const Results& results) : results(results) {}

    __device__ __forceinline__ u32 of(u32 count) const { return count; }
    __device__ __forceinline__ u32 with_sum(int, u32 count, u32 before) const {
        const Rank rank = {(int)before, (int)count, 0};
        return count ? (u32)__ldg(results.table + results.place_of(rank)) : 0;
    }
};

// By the counters that have values.
__device__ __forceinline__ void write_values_of_distinct(
    const Results& results, Entries& entries, const u32* values) {
    forget(entries.thread);
#pragma unroll
    for (int first = 0; first < HELD; first += BATCH) {
        if (first * THREADS >= entries.n) break;
        Out scaled[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            // Behind the end the number is that of some entry, and no counter's.
            const u32 value = values[entries.counts(first + k) ? entries.keys.get(first + k) : 0];
            scaled[k] = results.scaled((Table)value, entries.within(entries.index(first + k)));
        }
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            const int i = entries.index(first + k);
            const bool is_there = entries.counts(first + k);
            if (i < entries.n) results.y[i] = is_there ? scaled[k] : out_value(NOT_A_NUMBER);
        }
    }
}
#endif

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
    entries.each([&](int, int, Key key, bool counts) {
        if (counts) atomicOr(words + (key >> 5), 1u << (key & 31));
    });
    team_sync();
    BitsBefore bits_before = {before_words};
    sum_up(words, N_WORDS, bits_before, partials, thread);
    team_sync();
    Results results = ALL_RESULTS;
    results.go_to_row(r, n, total_of_team(entries.n_counting(), partials, thread));
    const auto distinct_of = [&](Key key) {
        const u32 smaller = (1u << (key & 31)) - 1;
        return before_words[key >> 5] + (u32)__popc(words[key >> 5] & smaller);
    };
    entries.each([&](int k, int, Key key, bool counts) {
        const u32 distinct = distinct_of(key);
        if (counts) atomicAdd(counters + distinct, 1u);
        entries.keys.set(k, distinct);
    });
    team_sync();
    const int n_distinct = (int)before_words[N_WORDS - 1] + __popc(words[N_WORDS - 1]);
#if KEEPS_VALUES
    if (!results.evaluates) {
        ValuesOfDistinct values(results);
        sum_up(counters, n_distinct, values, partials, thread);
        team_sync();
        write_values_of_distinct(results, entries, counters);
        return;
    }
#endif
    StartsAndCounts of_counters;
    sum_up(counters, n_distinct, of_counters, partials, thread);
    team_sync();
#if KEEPS_VALUES
#pragma unroll 1
    for (int i = thread; i < n_distinct; i += THREADS) {
        counters[i] = (u32)results.evaluated(rank_of_word(counters[i]));
    }
    team_sync();
    write_values_of_distinct(results, entries, counters);
#else
    entries.each([&](int, int i, Key distinct, bool counts) {
        if (counts) results.write(i, rank_of_word(counters[distinct]));
        else if (i < n) results.write_missing(i);
    });
#endif
}
