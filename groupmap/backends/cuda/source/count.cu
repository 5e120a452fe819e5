// The map of rows of 16-bit numbers, in one launch: there are only 2^16 keys, so each has a counter
// of its own.

// See map_rows; the order cannot be had here.
extern "C" __global__ void __launch_bounds__(THREADS) map_rows_of_16_bits(
    const Value* rows, const bool* where, const Table* table, const Table* weight,
    const Table* bias, Out* y, int* order, i64* less, i64* less_equal, i64 n_rows, i64 n_entries,
    i64 each_rows, i64 own_rows, i64 each_entries, i64 own_entries, i64 by_less,
    i64 by_less_equal, i64 by_position, i64 kind, double parameter, double alphap,
    double betap) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const int n = (int)n_entries, thread = threadIdx.x, lane = thread % 32, n_words = 1 << 15;
    const i64 r = blockIdx.x, row_begin = r * n;
    void* partials = dynamic_shared;
    u32* words = (u32*)(dynamic_shared + 8 * (WARPS + 1));
    const Entries entries = {rows + row_begin, where ? where + row_begin : nullptr, n, thread};

    for (int i = thread; i <= n_words; i += THREADS) words[i] = 0;
    team_sync();
    u32 present = 0;
    entries.each([&](int, Key key, bool counts) {
        add_to_counter_together(words, key, counts, lane);
        present += counts;
    });
    present = of_all(present, Add(), partials, thread);
    const Formula formula = {(int)kind, parameter, alphap, betap};
    const bool evaluates = (int)present < n && formula.kind >= 0;
    const TieWeights weights = {by_less, by_less_equal, by_position};

    const Part part = part_of(n_words, thread);
    u32 own = 0;
    for (int i = part.begin; i < part.end; ++i) own += (words[i] & 0xFFFFu) + (words[i] >> 16);
    u32 before = sum_before(own, partials, thread);
    for (int i = part.begin; i < part.end; ++i) {
        const u32 even = words[i] & 0xFFFFu, odd = words[i] >> 16;
        words[i] = before | ((before + even) << 16);
        before += even + odd;
    }
    if (thread == 0) words[n_words] = present;
    team_sync();

    const Scale scale = {weight, bias, each_rows, own_rows, each_entries, own_entries};
    const i64 own_scale = scale.first_of(r);
    entries.each([&](int i, Key key, bool counts) {
        if (i >= n) return;
        if (!counts) {
            if (y) y[row_begin + i] = out_value(NOT_A_NUMBER);
            return;
        }
        const i64 first = counter(words, key), behind = counter(words, key + 1);
        if (less) less[row_begin + i] = first;
        if (less_equal) less_equal[row_begin + i] = behind;
        if (y) {
            const i64 h = weights.doubled_midrank(first, behind - first, 0);
            const Table value = value_at(h, table, formula, evaluates, present);
            y[row_begin + i] = scaled(value, scale, own_scale, i);
        }
    });
}
