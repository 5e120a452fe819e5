// The map of rows of 16-bit numbers, in one launch: there are only 2^16 keys, so each has a counter
// of its own.

// The results of rows (n_rows, n), but for the order, which is null.
extern "C" __global__ void __launch_bounds__(THREADS) map_rows_of_16_bits(
    const Value* rows, const bool* where, i64 n_rows, i64 n_entries, RESULTS) {
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

    const Results results = ALL_RESULTS;
    const Results::OfRow of_row = results.of_row(r, n, present);
    entries.each([&](int i, Key key, bool counts) {
        if (i >= n) return;
        if (!counts) {
            of_row.write_missing(i);
            return;
        }
        const int first = (int)counter(words, key), behind = (int)counter(words, key + 1);
        of_row.write(i, {first, behind - first, 0});
    });
}
