// The named targets (see groupmap.targets, whose formulas these are), in double precision.
//
// FORMULA_* are their numbers; ndtri's coefficients are written into this text by the host, from
// the constant term up: CENTRE, TAIL and FAR_TAIL, each a numerator and a denominator.

struct Formula {
    int kind;
    double parameter;
    double alphap;
    double betap;
};

// What both ways to ask for Q come to: the position of a doubled mid-rank, and its complement.
struct Position {
    double p;
    double complement;
};

__device__ __forceinline__ Position position_of(double h, double n, Formula formula) {
    if (n <= 1.0) return {0.5, 0.5};
    // Summed as the positions are: the middle one is a half where a = b, and none is above 1.
    const double ends = (1.0 - formula.alphap) + (1.0 - formula.betap);
    const double total = 2.0 * ((n - 1.0) / 2.0 + ends / 2.0);
    const double above = (2.0 * n - 2.0 - h) / 2.0;
    return {(h / 2.0 + (1.0 - formula.alphap)) / total, (above + (1.0 - formula.betap)) / total};
}

template <int SIZE>
__device__ __forceinline__ double polynomial(const double (&coefficients)[SIZE], double x) {
    double value = coefficients[SIZE - 1];
#pragma unroll
    for (int i = SIZE - 2; i >= 0; --i) value = value * x + coefficients[i];
    return value;
}

// The quantile function of the normal distribution for 0 < p <= 1/2, by algorithm AS 241.
__device__ __noinline__ double normal_quantile(double p) {
    const double from_centre = p - 0.5;
    if (fabs(from_centre) <= 0.425) {
        const double squared = 0.180625 - from_centre * from_centre;
        const double numerator[] = {CENTRE_NUMERATOR};
        const double denominator[] = {CENTRE_DENOMINATOR};
        return from_centre * (polynomial(numerator, squared) / polynomial(denominator, squared));
    }
    const double r = sqrt(-log(p));
    if (r <= 5.0) {
        const double numerator[] = {TAIL_NUMERATOR};
        const double denominator[] = {TAIL_DENOMINATOR};
        return -(polynomial(numerator, r - 1.6) / polynomial(denominator, r - 1.6));
    }
    const double numerator[] = {FAR_TAIL_NUMERATOR};
    const double denominator[] = {FAR_TAIL_DENOMINATOR};
    return -(polynomial(numerator, r - 5.0) / polynomial(denominator, r - 5.0));
}

// x^exponent by squaring, in the order of groupmap.targets.
__device__ __forceinline__ double integer_power(double x, int exponent) {
    double power = x;
    for (int bit = 30 - __clz(exponent); bit >= 0; --bit) {
        power = power * power;
        if ((exponent >> bit) & 1) power = power * x;
    }
    return power;
}

__device__ __forceinline__ double lower_quantile(double p, int kind) {
    const double pi = 3.14159265358979311600;
    switch (kind) {
        case FORMULA_GAUSSIAN:
            return normal_quantile(p);
        case FORMULA_CAUCHY:
            return p < 0.25 ? -1.0 / tan(pi * p) : tan(pi * (p - 0.5));
        case FORMULA_LAPLACE:
            return log(2.0 * p);
        default:  // FORMULA_LOGISTIC
            return log(p / (1.0 - p));
    }
}

// Q at a doubled mid-rank among n values.
__device__ __noinline__ double quantile(double h, double n, Formula formula) {
    const Position at = position_of(h, n, formula);
    if (formula.kind == FORMULA_UNIFORM) return at.p;
    if (formula.kind == FORMULA_SPARSE) return integer_power(at.p, (int)formula.parameter);
    const double tail = at.p < at.complement ? at.p : at.complement;
    const double clamped = tail < formula.parameter ? formula.parameter : tail;
    const double lower = lower_quantile(clamped, formula.kind);
    return at.p <= at.complement ? lower : -lower;
}
