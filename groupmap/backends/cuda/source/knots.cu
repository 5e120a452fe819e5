// Between sorted values: what groupmap.interpolation computes, rounded step by step as there.
//
// Every 2^log_step-th knot of a row lies in shared memory, which is all of them where they are few,
// and is searched first; the less than 2^log_step knots that are left are searched where they lie.
// A block does so for a stretch of one row of x.
//
// The host defines THREADS.

#define FIRST_OF_RUN 1
#define LAST_OF_RUN 2

// low + fraction·(high − low), and never above `high`; NaN where any of them is.
__device__ __forceinline__ double between(double low, double high, double fraction) {
    const double step = (high / 2.0 - low / 2.0) * fraction;
    const double value = low + step + step;
    return value >= high ? high : value;
}

// The first of ascending numbers from `begin` on that is not below x, or if OR_EQUAL, above it.
template <bool OR_EQUAL>
__device__ __forceinline__ int search(const double* ascending, int begin, int end, double x) {
    while (begin < end) {
        const int middle = (begin + end) >> 1;
        if (ascending[middle] < x || (OR_EQUAL && ascending[middle] == x)) begin = middle + 1;
        else end = middle;
    }
    return begin;
}

struct Knots {
    const double* knots;
    const double* values;
    const double* some;  // the last of each 2^log_step knots
    int k;
    int log_step;
    int on_runs;

    __device__ __forceinline__ int first_not_below(double x) const {
        const int begin = search<false>(some, 0, k >> log_step, x) << log_step;
        const int end = begin + (1 << log_step) - 1;
        return search<false>(knots, begin, end < k ? end : k, x);
    }

    __device__ __forceinline__ int last_of_run(int first, double x) const {
        if (first + 1 == k || knots[first + 1] != x) return first;
        return search<true>(knots, first + 2, k, x) - 1;
    }

    __device__ __forceinline__ double at(double x) const {
        if (x != x) return __longlong_as_double(0x7FF8000000000000ll);
        const int first = first_not_below(x);
        // Outside the knots: the end. On a knot: from the run's first to its last. Else: beside x.
        int left = first == k ? k - 1 : first, right = left;
        if (first < k && knots[first] == x) {
            if (on_runs != FIRST_OF_RUN) right = last_of_run(first, x);
            if (on_runs == LAST_OF_RUN) left = right;
        } else if (0 < first && first < k) {
            left = first - 1;
        }
        const double below = knots[left] / 2.0, width = knots[right] / 2.0 - below;
        double fraction = 0.5;  // in the middle of a run, and at the end outside of all knots
        if (width != 0.0) {
            fraction = (x / 2.0 - below) / width;
            // Kept as it is where it is NaN.
            fraction = fraction < 0.0 ? 0.0 : fraction > 1.0 ? 1.0 : fraction;
        }
        return between(values[left], values[right], fraction);
    }
};

// The line through (knots, values) at rows of x (g, n), with a row (k) of both for each. A row is
// served in `stretches` of so many entries; `on_runs` is 0 for the middle of a run.
extern "C" __global__ void __launch_bounds__(THREADS) interpolate(
    const Value* __restrict__ x, const double* __restrict__ knots,
    const double* __restrict__ values, double* __restrict__ y, i64 n, i64 k, i64 stretches,
    i64 entries, i64 log_step, i64 on_runs) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    double* some = (double*)dynamic_shared;
    const i64 row = blockIdx.x / stretches;
    const int n_some = (int)(k >> log_step);
    Knots own = {knots + row * k, values + row * k, some, (int)k, (int)log_step, (int)on_runs};
    for (int i = threadIdx.x; i < n_some; i += THREADS) {
        some[i] = own.knots[((i64)(i + 1) << log_step) - 1];
    }
    __syncthreads();
    if (log_step == 0) own.knots = some;
    const i64 begin = blockIdx.x % stretches * entries;
    const i64 end = begin + entries < n ? begin + entries : n;
    for (i64 i = row * n + begin + threadIdx.x; i < row * n + end; i += THREADS) {
        y[i] = own.at(number_of<VALUE_MANTISSA>(x[i]));
    }
}

// The values at real, zero-based indices (g, n) of ascending rows (g, m), which the ends clip.
extern "C" __global__ void __launch_bounds__(THREADS) order_statistics(
    const Value* __restrict__ rows, const double* __restrict__ index, double* __restrict__ y,
    i64 n_indices, i64 n, i64 m) {
    const double last = (double)(m - 1);
    for (i64 i = blockIdx.x * (i64)THREADS + threadIdx.x; i < n_indices;
         i += (i64)gridDim.x * THREADS) {
        const Value* row = rows + i / n * m;
        const double at = index[i] > 0.0 ? (index[i] < last ? index[i] : last) : 0.0;
        const double whole = floor(at);
        const i64 below = (i64)whole, above = below + 1 < m ? below + 1 : m - 1;
        const double low = number_of<VALUE_MANTISSA>(row[below]);
        y[i] = between(low, number_of<VALUE_MANTISSA>(row[above]), at - whole);
    }
}
