// The transport estimate of the gradient (see groupmap.gradients, whose formulas these are): rows
// in sorted order, one block after the other, sums in double precision.

#if VALUE_BITS == 64
typedef double Real;
#else
typedef float Real;
#endif

#define LONG_RUN 8  // of equals, whose end is searched for

// The arrays of a row lie in shared memory, or where that has no room, all of them or all but the sums
// in global memory, which is lent: the host defines LENT, as one of the others that begin so.

// One row in ascending order, of what counts in it.
struct Sorted {
    int n;
    Real* x;
    Real* v;
    double* sums;  // n + 1
#if LENT == LENT_ALL_BUT_SUMS
    u32* runs;  // where the equals of each begin, and in the upper half where they end
#endif
    double scale;  // a power of two; scaled, no x exceeds 1
    double mean;   // of the scaled x
    void* partials;
    int thread;

    __device__ __forceinline__ double centred(int i) const { return (double)x[i] * scale - mean; }

    // The totals of some terms, which term(i, them) adds.
    template <int COUNT, class Term>
    __device__ __forceinline__ Totals<COUNT> totals(Term term) const {
        Totals<COUNT> found = {};
        for (int i = thread; i < n; i += THREADS) term(i, found.of);
        return total_of_all(found, partials, thread);
    }

    // sums[i] becomes the sum of the terms before the i-th.
    template <class Term>
    __device__ __forceinline__ void sum_up(Term term) const {
        team_sync();
        const Part part = part_of(n, thread);
        double own = 0.0;
        // Shared memory keeps a term until it is needed again; global memory takes longer than the
        // term does. What terms are made of is read in order if it lies there.
#if LENT == LENT_ALL_BUT_SUMS
        for (int i = thread; i < n; i += THREADS) sums[i] = term(i);
        team_sync();
        for (int i = part.begin; i < part.end; ++i) own += sums[i];
#else
        for (int i = part.begin; i < part.end; ++i) {
            const double value = term(i);
            if (LENT == LENT_NOTHING) sums[i] = value;
            own += value;
        }
#endif
        double before = of_all_before(own, Add(), partials, thread);
        for (int i = part.begin; i < part.end; ++i) {
            const double value = LENT == LENT_ALL ? term(i) : sums[i];
            sums[i] = before;
            before += value;
        }
        if (part.begin < part.end && part.end == n) sums[n] = before;
        team_sync();
    }

#if LENT == LENT_ALL_BUT_SUMS
    // In the memory of the sums, which are not made yet.
    __device__ __forceinline__ void find_runs() const {
        u32* begins = (u32*)sums;
        u32* ends = begins + n;
        for (int i = thread; i < n; i += THREADS) begins[i] = i > 0 && x[i - 1] == x[i] ? 0 : i;
        team_sync();
        const Part part = part_of(n, thread);
        u32 latest = 0;
        for (int i = part.begin; i < part.end; ++i) latest = Greatest()(latest, begins[i]);
        latest = of_all_before(latest, Greatest(), partials, thread);
        for (int i = part.begin; i < part.end; ++i) {
            latest = Greatest()(latest, begins[i]);
            begins[i] = latest;
        }
        team_sync();
        for (int i = thread; i < n; i += THREADS) {
            if (i + 1 == n || x[i + 1] != x[i]) ends[begins[i]] = i + 1;
        }
        team_sync();
        for (int i = thread; i < n; i += THREADS) runs[i] = begins[i] | ends[begins[i]] << 16;
    }

    // B: each value becomes the mean over its run of equals.
    __device__ __forceinline__ void average_ties() const {
        sum_up([&](int i) { return (double)v[i]; });
        for (int i = thread; i < n; i += THREADS) {
            const int begin = (int)(runs[i] & 0xFFFFu), end = (int)(runs[i] >> 16);
            if (end - begin > 1) v[i] = (Real)((sums[end] - sums[begin]) / (end - begin));
        }
        team_sync();
    }
#else
    __device__ __forceinline__ void find_runs() const {}

    __device__ __forceinline__ int search(Real value, bool above) const {
        int begin = 0, end = n;
        while (begin < end) {
            const int middle = (begin + end) >> 1;
            if (x[middle] < value || (above && x[middle] == value)) begin = middle + 1;
            else end = middle;
        }
        return begin;
    }

    // Where the run of equals ends that the i-th is of.
    __device__ __forceinline__ int end_of_run(int i) const {
        int end = i + 1;
        while (end < n && x[end] == x[i]) {
            if (++end - i == LONG_RUN) return search(x[i], true);
        }
        return end;
    }

    // B: each value becomes the mean over its run of equals.
    __device__ __forceinline__ void average_ties() const {
        sum_up([&](int i) { return (double)v[i]; });
        const Part part = part_of(n, thread);
        Real mean = 0;
        bool is_run = false;
        for (int i = part.begin, end = i; i < part.end; ++i) {
            if (i == end) {
                const bool began_before = i == part.begin && i > 0 && x[i - 1] == x[i];
                const int begin = began_before ? search(x[i], false) : i;
                end = end_of_run(i);
                is_run = end - begin > 1;
                if (is_run) mean = (Real)((sums[end] - sums[begin]) / (end - begin));
            }
            if (is_run) v[i] = mean;
        }
        team_sync();
    }
#endif

    // I − Π: less the projection on 1 and on x. What is left of x when its mean is subtracted, a
    // rounding, is taken into account.
    __device__ __forceinline__ void subtract_affine_part(double square, double rest_of_x) const {
        const Totals<2> of_v = totals<2>([&](int i, double* sum) {
            sum[0] += (double)v[i];
            sum[1] += (double)v[i] * centred(i);
        });
        const double mean_of_v = of_v.of[0] / n;
        const double slope = (of_v.of[1] - mean_of_v * rest_of_x) / square;
        for (int i = thread; i < n; i += THREADS) {
            v[i] = (Real)((double)v[i] - mean_of_v - slope * centred(i));
        }
        team_sync();
    }

    __device__ __forceinline__ double order_statistic(double p) const {
        const double position = p * (n - 1);
        const int below = (int)floor(position), above = below + 1 < n ? below + 1 : n - 1;
        return centred(below) + (position - below) * (centred(above) - centred(below));
    }

    __device__ __forceinline__ double spread(double deviation) const {
        const double width = (order_statistic(0.84) - order_statistic(0.16)) / 2.0;
        return width > 0.25 * deviation ? width : 0.25 * deviation;
    }
};

__device__ __forceinline__ int least_of(int a, int b) { return a < b ? a : b; }
__device__ __forceinline__ int greatest_of(int a, int b) { return a > b ? a : b; }

// The mean around the i-th of n, which reaches as far to either side.
struct Window {
    int n;
    int greatest;
    double share;  // of an entry, where the reach is the greatest

    __device__ __forceinline__ int reach(int i) const {
        return least_of(greatest, least_of(i, n - 1 - i));
    }
    __device__ __forceinline__ double share_at(int reach) const {
        return reach == greatest ? share : 1.0 / (2 * reach + 1);
    }
};

// In the precision of the results, where that has the numbers.
__device__ __forceinline__ double ratio(double rise, double run) {
    if (sizeof(Real) == 4 && run > 1e-30) return (float)rise / (float)run;
    return run > 0.0 ? rise / run : 0.0;
}

// J·v, in place; false where a row has no three distinct values.
template <class Quantile>
__device__ bool apply_estimate(Sorted row, int window, double floor_of_spread, Quantile quantile_at) {
    const int n = row.n, thread = row.thread;
    const double first = fabs((double)row.x[0]), last = fabs((double)row.x[n - 1]);
    int exponent;
    frexp(first > last ? first : last, &exponent);
    row.scale = ldexp(1.0, -(exponent > -1000 ? exponent : -1000));  // finite for subnormals, too
    const Totals<2> of_x = row.totals<2>([&](int i, double* sum) {
        sum[0] += i > 0 && row.x[i] != row.x[i - 1] ? 1.0 : 0.0;
        sum[1] += (double)row.x[i] * row.scale;
    });
    const int changes = (int)of_x.of[0];
    if (changes < 2) return false;
    row.mean = of_x.of[1] / n;
    const Totals<3> of_rest = row.totals<3>([&](int i, double* sum) {
        const double centred = row.centred(i);
        sum[0] += centred * centred;
        sum[1] += fabs(centred);
        sum[2] += centred;
    });
    const double square = of_rest.of[0], rest_of_x = of_rest.of[2];
    const bool has_ties = changes + 1 < n;
    const int w = least_of(window > 0 ? window : greatest_of(1, (int)rint(sqrt((double)n))), n - 1);
    const Window around = {n, w, 1.0 / (2 * w + 1)};
    const double least = floor_of_spread * row.spread(of_rest.of[1] / n) / n;

    if (has_ties) {
        row.find_runs();
        row.average_ties();
    }
    row.subtract_affine_part(square, rest_of_x);
    row.sum_up([&](int i) { return (double)row.v[i]; });
    for (int i = thread; i < n; i += THREADS) {
        const int lower = greatest_of(i - w, 0), upper = least_of(i + w, n - 1);
        const int reach = around.reach(i);
        const double width = row.centred(upper) - row.centred(lower);
        const double run = width > least * (upper - lower) ? width : least * (upper - lower);
        const double rise = quantile_at(upper) - quantile_at(lower);
        const double mean = (row.sums[i + reach + 1] - row.sums[i - reach]) * around.share_at(reach);
        row.v[i] = (Real)(((double)row.v[i] - mean) * ratio(rise, run));
    }
    row.sum_up([&](int i) { return (double)row.v[i] * around.share_at(around.reach(i)); });
    for (int j = thread; j < n; j += THREADS) {
        const int from = greatest_of(j - w, (j + 1) / 2);
        const int behind = least_of(j + w, (n - 1 + j) / 2) + 1;
        row.v[j] = (Real)((double)row.v[j] - (row.sums[behind] - row.sums[from]));
    }
    team_sync();
    row.subtract_affine_part(square, rest_of_x);
    if (has_ties) row.average_ties();
    for (int i = thread; i < n; i += THREADS) row.v[i] = (Real)((double)row.v[i] * row.scale);
    team_sync();
    return true;
}

// dL/dx from dL/dy, rows (n_rows, n). The order of a row begins with its −inf, which are left out,
// then has what counts. Mid-quantiles are one row for all, or `quantile_stride` apart; a row that
// misses entries evaluates the formula at its own mid-positions, if there is one (kind ≥ 0). What is
// lent lies in the block's part of `lent`. The host defines besides for how many blocks, at least, a
// multiprocessor is to have registers.
extern "C" __global__ void __launch_bounds__(THREADS, LEAST_BLOCKS) transport(
    const Value* x, const Out* grad, const int* order, const bool* excluded,
    const double* mid_quantiles, Out* result, unsigned char* lent, i64 n_rows, i64 n_entries,
    i64 quantile_stride, i64 window, i64 lent_bytes, i64 kind, double parameter,
    double floor_of_spread) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const int n = (int)n_entries, thread = threadIdx.x;
    const Formula formula = {(int)kind, parameter, 0.5, 0.5};
    Sorted row;
    row.thread = thread;
    row.partials = dynamic_shared;
    unsigned char* own = dynamic_shared + BYTES_OF_TOTALS * WARPS;
    unsigned char* own_lent = lent + blockIdx.x * lent_bytes;
    row.sums = (double*)(LENT == LENT_ALL ? own_lent : own);
    row.x = (Real*)(LENT == LENT_ALL_BUT_SUMS ? own_lent : (unsigned char*)(row.sums + n + 1));
    row.v = row.x + n;
#if LENT == LENT_ALL_BUT_SUMS
    row.runs = (u32*)(row.v + n);
#endif
    for (i64 r = blockIdx.x; r < n_rows; r += gridDim.x) {
        const i64 at = r * n;
        int inside = 0, below = 0;
        for (int i = thread; i < n; i += THREADS) {
            const double value = number_of<VALUE_MANTISSA>(x[at + i]);
            const bool counts = excluded == nullptr || !excluded[at + i];
            const bool is_finite = fabs(value) <= 1.7976931348623157e308;
            inside += counts && is_finite;
            // Of rows that the map has ordered; other orders put behind what is excluded.
            below += counts && kind >= 0 && value < -1.7976931348623157e308;
            if (!(counts && is_finite)) result[at + i] = 0;
        }
        row.n = of_all(inside, Add(), row.partials, thread);
        const i64 begin = at + of_all(below, Add(), row.partials, thread);
        for (int p = thread; p < row.n; p += THREADS) {
            const i64 i = at + order[begin + p];
            row.x[p] = (Real)number_of<VALUE_MANTISSA>(x[i]);
            row.v[p] = (Real)number_of<OUT_MANTISSA>(grad[i]);
        }
        team_sync();
        const bool evaluates = row.n < n && kind >= 0;
        const double* quantiles = mid_quantiles + r * quantile_stride;
        const bool is_connected = row.n > 0 && apply_estimate(row, (int)window, floor_of_spread, [&](int i) {
            return evaluates ? quantile(2.0 * i, row.n, formula) : quantiles[i];
        });
        for (int p = thread; p < row.n; p += THREADS) {
            result[at + order[begin + p]] = is_connected ? out_value(row.v[p]) : (Out)0;
        }
        team_sync();
    }
}
