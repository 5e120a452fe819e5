// What becomes of ranks when they are written.
//
// The host defines COUNTED, whether the counts themselves are asked for; ORDERED, whether the place
// among all is, and LISTED, whether the order of the row; WEIGHTED and BIASED, whether there is a
// weight or a bias, and PER_ENTRY, whether each entry has its own.

// An address in global memory that is not computed again wherever it is used.
template <class T>
__device__ __forceinline__ T* kept(T* address) {
#ifdef __CUDA_ARCH__
    asm("" : "+l"(address));
    __builtin_assume(__isGlobal(address));
#endif
    return address;
}

// Weight and bias of the entries (r, i) of rows: the ((r / each_rows) mod own_rows) · own_entries +
// i / each_entries -th of them. Divided by `reciprocal`, which is 2^62 / each_entries, rounded up:
// exact for i < 2^29. Where an index has 16 bits, 2^32 / each_entries, rounded up, does.
struct Scale {
    u32 each_rows;
    u32 own_rows;
    u32 own_entries;
    u64 reciprocal;
    u32 first;  // of the row
#if INDEX_BITS == 16
    u32 short_reciprocal;
#endif

    __device__ __forceinline__ void go_to_row(u32 r) {
        first = r / each_rows % own_rows * own_entries;
#if INDEX_BITS == 16
        short_reciprocal = (u32)((reciprocal + ((1u << 30) - 1)) >> 30);
#endif
    }

    __device__ __forceinline__ u32 own_entry(u32 i) const {
#if PER_ENTRY
        return first + i;
#elif INDEX_BITS == 16
        return first + __umulhi(i, short_reciprocal);
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

#define NOT_A_NUMBER __longlong_as_double(0x7FF8000000000000ll)

// The results of one row, of which `present` entries count: table[h]·weight + bias, rounded after
// each of them, or NaN where an entry is missing; the order of the row, which ends with −1; or the
// counts. A row that misses entries evaluates the formula at its own n, if there is one.
struct Results {
    const Table* table;
    Out* y;
    int* order;
    i64* less;
    i64* less_equal;
    const Weight* weight;
    const Weight* bias;
    Scale scale;
    TieWeights ties;
    Formula formula;
    int present;
    bool evaluates;

    // Those of row r of n entries; they lie behind each other.
    __device__ __forceinline__ void go_to_row(u32 r, int n, u32 present_of_row) {
        const i64 begin = (i64)r * n;
        present = (int)present_of_row;
        evaluates = present < n && formula.kind >= 0;
#if COUNTED
        less += begin;
        less_equal += begin;
#else
        y = kept(y + begin);
#endif
#if LISTED
        order = kept(order + begin);
#endif
#if WEIGHTED || BIASED
        scale.go_to_row(r);
#endif
    }

    __device__ __forceinline__ int place_of(Rank rank) const {
        int h = ties.by_less * rank.less + ties.by_less_equal * (rank.less + rank.equal - 1);
#if ORDERED
        h += ties.by_position * rank.position;
#endif
        return h;
    }

    __device__ __forceinline__ Out scaled(Table value, u32 i) const {
#if WEIGHTED || BIASED
        return scaled_value(value, weight, bias, scale.own_entry(i));
#else
        return (Out)value;
#endif
    }

    __device__ __forceinline__ Table evaluated(Rank rank) const {
        return table_value(quantile((double)place_of(rank), (double)present, formula));
    }

    __device__ __forceinline__ Table value_of(Rank rank) const {
        return evaluates ? evaluated(rank) : __ldg(table + place_of(rank));
    }

    // What is not the value.
    __device__ __forceinline__ void write_rank(u32 i, Rank rank) const {
#if LISTED
        order[rank.position] = (int)i;
#endif
#if COUNTED
        less[i] = rank.less;
        less_equal[i] = (i64)rank.less + rank.equal;
#endif
    }

    __device__ __forceinline__ void write(u32 i, Rank rank) const {
        write_rank(i, rank);
#if !COUNTED
        y[i] = scaled(value_of(rank), i);
#endif
    }

    // The same of COUNT entries, of which the first so many are there, so that none waits for what
    // another has asked for.
    template <int COUNT>
    __device__ __forceinline__ void write_together(
        const u32* indices, const Rank* ranks, int there) const {
#pragma unroll
        for (int k = 0; k < COUNT; ++k) {
            if (k < there) write_rank(indices[k], ranks[k]);
        }
#if !COUNTED
        Table values[COUNT];
        Out results[COUNT];
#pragma unroll
        for (int k = 0; k < COUNT; ++k) values[k] = value_of(ranks[k]);
#pragma unroll
        for (int k = 0; k < COUNT; ++k) results[k] = scaled(values[k], indices[k]);
#pragma unroll
        for (int k = 0; k < COUNT; ++k) {
            if (k < there) y[indices[k]] = results[k];
        }
#endif
    }

    __device__ __forceinline__ void write_missing(u32 i) const {
#if !COUNTED
        y[i] = out_value(NOT_A_NUMBER);
#endif
    }
};

// How kernels are handed these.
#define RESULTS                                                                                  \
    const Table *table, const Weight *weight, const Weight *bias, Out *y, int *order,            \
        i64 *less, i64 *less_equal, i64 each_rows, i64 own_rows, i64 own_entries, u64 reciprocal,           \
        i64 by_less, i64 by_less_equal, i64 by_position, i64 kind, double parameter,             \
        double alphap, double betap
#define ALL_RESULTS                                                                              \
    {table,                                                                                      \
     y,                                                                                          \
     order,                                                                                      \
     less,                                                                                       \
     less_equal,                                                                                 \
     weight,                                                                                     \
     bias,                                                                                       \
     {(u32)each_rows, (u32)own_rows, (u32)own_entries, reciprocal, 0},                            \
     {(int)by_less, (int)by_less_equal, (int)by_position},                                       \
     {(int)kind, parameter, alphap, betap},                                                      \
     0,                                                                                          \
     false}
