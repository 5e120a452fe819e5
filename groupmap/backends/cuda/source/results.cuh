// What becomes of ranks when they are written.
//
// The host defines COUNTED, whether the counts themselves are asked for, and else WEIGHTED and
// BIASED, whether there is a weight or a bias, and PER_ENTRY, whether each entry has its own.

// Weight and bias of the entries (r, i) of rows: the ((r / each_rows) mod own_rows) · own_entries +
// i / each_entries -th of them. Divided by `reciprocal`, which is 2^62 / each_entries, rounded up:
// exact for i < 2^29.
struct Scale {
    u32 each_rows;
    u32 own_rows;
    u32 own_entries;
    u64 reciprocal;
    u32 first;  // of the row

    __device__ __forceinline__ void go_to_row(u32 r) {
        first = r / each_rows % own_rows * own_entries;
    }

    __device__ __forceinline__ u32 own_entry(u32 i) const {
#if PER_ENTRY
        return first + i;
#else
        const u64 high = (u64)i * (u32)(reciprocal >> 32);
        return first + (u32)((high + __umulhi(i, (u32)reciprocal)) >> 30);
#endif
    }
};

// What to do with counts: h = by_less·less + by_less_equal·(less + equal − 1) + by_position·position
// is the place in the table, or what the formula is asked for in a row that misses entries.
struct TieWeights {
    int by_less;
    int by_less_equal;
    int by_position;
};

struct Rank {
    int less;
    int equal;
    int position;  // among all, equals in order of appearance; where ORDERED
};

#define MISSING 0xFFFFFFFFu
#define NOT_A_NUMBER __longlong_as_double(0x7FF8000000000000ll)

// The results of one row, of which `present` entries count: table[h]·weight + bias, rounded after
// each of them, or NaN where an entry is missing; the order of the row, which ends with −1; or the
// counts. A row that misses entries evaluates the formula at its own n, if there is one.
struct Results {
    const Table* table;
    Out* y;
    i64* less;
    i64* less_equal;
    const Table* weight;
    const Table* bias;
    Scale scale;
    TieWeights ties;
    Formula formula;
    int present;

    // Those of row r of n entries; they lie behind each other.
    __device__ __forceinline__ void go_to_row(u32 r, int n) {
        const i64 begin = (i64)r * n;
        if (y) y += begin;
        if (less) less += begin;
        if (less_equal) less_equal += begin;
#if WEIGHTED || BIASED
        scale.go_to_row(r);
#endif
    }

    __device__ __forceinline__ bool evaluates(int n) const {
        return !COUNTED && present < n && formula.kind >= 0;
    }

    __device__ __forceinline__ int place_of(Rank rank) const {
        int h = ties.by_less * rank.less + ties.by_less_equal * (rank.less + rank.equal - 1);
#if ORDERED
        h += ties.by_position * rank.position;
#endif
        return h;
    }

    __device__ __forceinline__ Out scaled(Table value, int i) const {
#if WEIGHTED || BIASED
        const u32 own = scale.own_entry((u32)i);
        Wide number = wide_number(value);
#if WEIGHTED
        number = number * wide_number(weight[own]);
#endif
#if BIASED
        number = number + wide_number(bias[own]);
#endif
        return out_value(number);
#else
        return (Out)value;
#endif
    }

    __device__ __forceinline__ void write_counts(int i, Rank rank) const {
        less[i] = rank.less;
        less_equal[i] = (i64)rank.less + rank.equal;
    }

    // All that a thread has, by their places in the table, or MISSING; the table is asked for some
    // at a time.
    __device__ __forceinline__ void write(const Entries& entries, const u32* places) const {
#pragma unroll
        for (int first = 0; first < HELD; first += BATCH) {
            if (first * THREADS >= entries.n) break;
            Table values[BATCH];
#pragma unroll
            for (int k = 0; k < BATCH; ++k) {
                const u32 place = places[first + k];
                const bool is_there = entries.index(first + k) < entries.n && place != MISSING;
                values[k] = is_there ? table[place] : (Table)0;
            }
#pragma unroll
            for (int k = 0; k < BATCH; ++k) {
                const int i = entries.index(first + k);
                if (i >= entries.n) continue;
                const bool is_missing = places[first + k] == MISSING;
                y[i] = is_missing ? out_value(NOT_A_NUMBER) : scaled(values[k], i);
            }
        }
    }

    // One after the other, for a row that evaluates.
    template <class RankOf>
    __device__ __forceinline__ void evaluate(const Entries& entries, RankOf rank_of) const {
        entries.each_again([&](int i, Key key, bool counts) {
            double value = NOT_A_NUMBER;
            if (counts) {
                const int place = place_of(rank_of(i, key));
                value = quantile((double)place, (double)present, formula);
            }
            y[i] = counts ? scaled(table_value(value), i) : out_value(value);
        });
    }
};

// How kernels are handed these.
#define RESULTS                                                                                  \
    const Table *table, const Table *weight, const Table *bias, Out *y, int *order, i64 *less,   \
        i64 *less_equal, i64 each_rows, i64 own_rows, i64 own_entries, u64 reciprocal,           \
        i64 by_less, i64 by_less_equal, i64 by_position, i64 kind, double parameter,             \
        double alphap, double betap
#define ALL_RESULTS                                                                              \
    {table,                                                                                      \
     y,                                                                                          \
     less,                                                                                       \
     less_equal,                                                                                 \
     weight,                                                                                     \
     bias,                                                                                       \
     {(u32)each_rows, (u32)own_rows, (u32)own_entries, reciprocal, 0},                            \
     {(int)by_less, (int)by_less_equal, (int)by_position},                                       \
     {(int)kind, parameter, alphap, betap},                                                      \
     0}
