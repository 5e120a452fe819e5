// Rows as they are read, and what becomes of a rank when it is written.

// The entries of a row, of which every THREADS-th is a thread's own. They are read again by each
// pass, from the caches: registers could hold few rows, and shared memory is needed for the slots.
// BATCH of them are under way at a time, so that one does not wait for the other.
struct Entries {
    const Value* row;
    const bool* where;
    int n;
    int thread;

    // visit(index, key, whether it counts), for all lanes of a warp together.
    template <class Visit>
    __device__ __forceinline__ void each(Visit visit) const {
        for (int first = 0; first < n; first += BATCH * THREADS) {
            Value bits[BATCH];
            bool counts[BATCH];
#pragma unroll
            for (int k = 0; k < BATCH; ++k) {
                const int i = first + k * THREADS + thread;
                bits[k] = i < n ? row[i] : (Value)0;
                counts[k] = i < n && (where == nullptr || where[i]);
            }
#pragma unroll
            for (int k = 0; k < BATCH; ++k) {
                const int begin = first + k * THREADS;
                if (begin >= n) break;
                visit(begin + thread, key_of(bits[k]), counts[k] && !is_nan(bits[k]));
            }
        }
    }
};

// Weight and bias of the entries (r, i) of rows: the ((r / each_rows) mod own_rows) · own_entries +
// i / each_entries -th of them. Null where there are none.
struct Scale {
    const Table* weight;
    const Table* bias;
    i64 each_rows;
    i64 own_rows;
    i64 each_entries;
    i64 own_entries;

    __device__ __forceinline__ i64 first_of(i64 r) const {
        return r / each_rows % own_rows * own_entries;
    }
};

// A value of the table times the weight plus the bias, rounded after each of them.
__device__ __forceinline__ Out scaled(Table value, const Scale& scale, i64 first, int i) {
#if SCALED
#if TABLE_BITS == 64
    double number = number_of<TABLE_MANTISSA>(value);
#else
    float number = (float)number_of<TABLE_MANTISSA>(value);
#endif
    const i64 own = first + (u32)i / (u32)scale.each_entries;
    if (scale.weight) number = number * number_of<TABLE_MANTISSA>(scale.weight[own]);
    if (scale.bias) number = number + number_of<TABLE_MANTISSA>(scale.bias[own]);
    return out_value((double)number);
#else
    return (Out)value;
#endif
}

// What to do with counts: h = by_less·less + by_less_equal·(less + equal − 1) + by_position·position
// is the place in the table, or what the formula is asked for in a row that misses entries.
struct TieWeights {
    i64 by_less;
    i64 by_less_equal;
    i64 by_position;
};

struct Rank {
    int less;
    int equal;
    int position;  // among all, equals in order of appearance; where ORDERED
};

#define NOT_A_NUMBER __longlong_as_double(0x7FF8000000000000ll)

// What becomes of ranks: table[h]·weight + bias to y, or NaN where an entry is missing; the order of
// the row, which ends with −1; and the counts themselves. Any of these may be null. A row that
// misses entries evaluates the formula at its own n, if there is one (kind ≥ 0).
struct Results {
    const Table* table;
    Out* y;
    int* order;
    i64* less;
    i64* less_equal;
    Scale scale;
    TieWeights ties;
    Formula formula;

    // The results of the entries of row r, which has `present` of n, and begins at row_begin.
    struct OfRow {
        const Results& results;
        i64 row_begin;
        i64 own_scale;
        i64 present;
        bool evaluates;

        __device__ __forceinline__ void write(int i, Rank rank) const {
            const i64 at = row_begin + i;
            if (results.order) results.order[row_begin + rank.position] = i;
            if (results.less) results.less[at] = rank.less;
            if (results.less_equal) results.less_equal[at] = (i64)rank.less + rank.equal;
            if (results.y == nullptr) return;
            const TieWeights& ties = results.ties;
            const i64 h = ties.by_less * rank.less +
                          ties.by_less_equal * ((i64)rank.less + rank.equal - 1) +
                          ties.by_position * rank.position;
            const Table value =
                evaluates ? table_value(quantile((double)h, (double)present, results.formula))
                          : results.table[h];
            results.y[at] = scaled(value, results.scale, own_scale, i);
        }

        __device__ __forceinline__ void write_missing(int i) const {
            if (results.y) results.y[row_begin + i] = out_value(NOT_A_NUMBER);
        }
    };

    __device__ __forceinline__ OfRow of_row(i64 r, i64 n, i64 present) const {
        return {*this, r * n, scale.first_of(r), present, present < n && formula.kind >= 0};
    }
};

// How kernels are handed these.
#define RESULTS                                                                                  \
    const Table *table, const Table *weight, const Table *bias, Out *y, int *order, i64 *less,   \
        i64 *less_equal, i64 each_rows, i64 own_rows, i64 each_entries, i64 own_entries,         \
        i64 by_less, i64 by_less_equal, i64 by_position, i64 kind, double parameter,             \
        double alphap, double betap
#define ALL_RESULTS                                                                              \
    {table,                                                                                      \
     y,                                                                                          \
     order,                                                                                      \
     less,                                                                                       \
     less_equal,                                                                                 \
     {weight, bias, each_rows, own_rows, each_entries, own_entries},                             \
     {by_less, by_less_equal, by_position},                                                      \
     {(int)kind, parameter, alphap, betap}}
