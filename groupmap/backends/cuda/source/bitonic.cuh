// A bitonic sort of `size` things by `workers`, of which this is one: put_in_order(a, b) swaps what
// is not in order. All comparisons point upward, so that what is missing to a power of two may be
// thought behind the end, above everything.
template <class PutInOrder, class Barrier>
__device__ __forceinline__ void sort_by(
    PutInOrder put_in_order, int size, int worker, int workers, Barrier sync) {
    int half = 1;
    while (2 * half < size) half *= 2;
#pragma unroll 1
    for (int log_run = 1; 1 << log_run < 2 * size; ++log_run) {
        const int run = 1 << log_run;
#pragma unroll 1
        for (int pair = worker; pair < half; pair += workers) {
            const int first = pair >> (log_run - 1) << log_run, i = pair & (run / 2 - 1);
            const int other = first + run - 1 - i;
            if (other < size) put_in_order(first + i, other);
        }
        sync();
#pragma unroll 1
        for (int log_gap = log_run - 2; log_gap >= 0; --log_gap) {
            const int gap = 1 << log_gap;
#pragma unroll 1
            for (int pair = worker; pair < half; pair += workers) {
                const int one = (pair >> log_gap << (log_gap + 1)) + (pair & (gap - 1));
                if (one + gap < size) put_in_order(one, one + gap);
            }
            sync();
        }
    }
}
