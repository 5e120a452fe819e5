// The affine estimate of the gradient (see groupmap.gradients, whose formula it is): a team a row,
// sums in double precision.

#define GREATEST_DOUBLE 1.7976931348623157e308

// What counts of a row: neither excluded nor infinite.
struct Finite {
    const Value* x;
    const bool* excluded;
    int n;
    int thread;

    // visit(index, x), each by the thread that has this index.
    template <class Visit>
    __device__ __forceinline__ void each(Visit visit) const {
        for (int i = thread; i < n; i += THREADS) {
            const double value = number_of<VALUE_MANTISSA>(x[i]);
            const bool is_finite = fabs(value) <= GREATEST_DOUBLE;
            if (is_finite && (excluded == nullptr || !excluded[i])) visit(i, value);
        }
    }
};

// dL/dx of rows (n_rows, n) from dL/dy; what is excluded or not finite gets 0 and is left out.
extern "C" __global__ void __launch_bounds__(THREADS * TEAMS) affine(
    const Value* x, const Out* y, const Out* grad, const bool* excluded, Out* result, i64 n_rows,
    i64 n_entries) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const int n = (int)n_entries, team = threadIdx.x / THREADS, thread = threadIdx.x % THREADS;
    void* partials = dynamic_shared + team * 8 * (WARPS + 1);
    const i64 r = (i64)blockIdx.x * TEAMS + team;
    if (r >= n_rows) return;  // of several teams in a block only, which are warps
    const i64 at = r * n;
    y += at;
    grad += at;
    result += at;
    const Finite finite = {x + at, excluded == nullptr ? nullptr : excluded + at, n, thread};

    int count = 0;
    double highest = -GREATEST_DOUBLE, lowest = -highest, of_grad = 0.0;
    finite.each([&](int i, double value) {
        ++count;
        highest = value > highest ? value : highest;
        lowest = value < lowest ? value : lowest;
        of_grad += number_of<OUT_MANTISSA>(grad[i]);
    });
    count = of_all(count, Add(), partials, thread);
    highest = of_all(highest, Greatest(), partials, thread);
    lowest = -of_all(-lowest, Greatest(), partials, thread);
    of_grad = of_all(of_grad, Add(), partials, thread) / (count ? count : 1);
    if (count == 0) highest = lowest = 0.0;
    int exponent;
    frexp(fabs(highest) > fabs(lowest) ? highest : lowest, &exponent);
    const double scale = ldexp(1.0, -(exponent > -1000 ? exponent : -1000));

    // By the differences from one entry, so that the mean is exact where all are equal.
    const double origin = highest * scale;
    double of_x = 0.0;
    finite.each([&](int, double value) { of_x += value * scale - origin; });
    of_x = origin + of_all(of_x, Add(), partials, thread) / (count ? count : 1);
    double square = 0.0, with_y = 0.0, with_grad = 0.0;
    finite.each([&](int i, double value) {
        const double centred = value * scale - of_x;
        square += centred * centred;
        with_y += centred * number_of<OUT_MANTISSA>(y[i]);
        with_grad += centred * (number_of<OUT_MANTISSA>(grad[i]) - of_grad);
    });
    square = of_all(square, Add(), partials, thread);
    with_y = of_all(with_y, Add(), partials, thread);
    with_grad = of_all(with_grad, Add(), partials, thread);
    square = square > 0.0 ? square : 1.0;
    const double slope = with_y / square * scale, along = with_grad / square;

    for (int i = thread; i < n; i += THREADS) result[i] = 0;
    finite.each([&](int i, double value) {  // by the thread that wrote the zero
        const double rest = number_of<OUT_MANTISSA>(grad[i]) - of_grad;
        result[i] = out_value(slope * (rest - along * (value * scale - of_x)));
    });
}
