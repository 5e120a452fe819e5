// The ranks of a hard segment where each of its bins is of one key.

static_assert(!ORDERED || WARPS * N_HARD_BINS <= CAPACITY, "warps count where slots would be");

// The results of bins that are of one key each; `before` them, there is that much in the row.
__device__ __forceinline__ void write_exact(
    const HardSegment& own, const Buckets<HARD_LOG_BINS>& buckets, Key high, u32 before,
    const Results& results) {
    const Key width = high - buckets.least;
    const auto rank_of = [&](u32 bin) {
        const u32 first = own.starts[bin];
        const Rank rank = {(int)(before + first), (int)(own.starts[bin + 1] - first), 0};
        return rank;
    };
#if ORDERED
    // Each warp takes a part, counts its keys, and goes through it in order of appearance.
    u32* counters = (u32*)own.at.keys;
    const u32 lane = own.thread % 32, warp = own.thread / 32;
    u32* of_warp = counters + warp * N_HARD_BINS;
    const u32 each = (own.size + THREADS - 1) / THREADS * 32, begin = warp * each;
    const u32 end = begin + each < own.size ? begin + each : own.size;
    set_to_zero(counters, WARPS * N_HARD_BINS, own.thread);
    __syncthreads();
#pragma unroll 4
    for (u32 i = begin + lane; i < end; i += 32) {
        const Key key = own.keys[i];
        if ((Key)(key - buckets.least) <= width) atomicAdd(of_warp + buckets.bin(key), 1u);
    }
    __syncthreads();
#pragma unroll 1
    for (u32 bin = own.thread; bin < N_HARD_BINS; bin += THREADS) {
        u32 position = before + own.starts[bin];
        for (u32 other = 0; other < WARPS; ++other) {
            u32& counter = counters[other * N_HARD_BINS + bin];
            const u32 count = counter;
            counter = position;
            position += count;
        }
    }
    __syncthreads();
#pragma unroll 1
    for (u32 first = begin; first < end; first += 32) {
        const u32 i = first + lane;
        const Key key = i < end ? (Key)own.keys[i] : 0;
        const bool is_one = i < end && (Key)(key - buckets.least) <= width;
        const u32 bin = is_one ? buckets.bin(key) : 0;
        const u32 peers = __match_any_sync(ALL_LANES, is_one ? bin : ~0u);
        const u32 position = of_warp[bin] + (u32)__popc(peers & ((1u << lane) - 1));
        __syncwarp();
        if (is_one && lane == (u32)__ffs((int)peers) - 1) of_warp[bin] += (u32)__popc(peers);
        __syncwarp();
        if (!is_one) continue;
        Rank rank = rank_of(bin);
        rank.position = (int)position;
        results.write(own.indices[i], rank);
    }
#else
    own.each([&](u32 i, Key key) {
        if ((Key)(key - buckets.least) <= width) results.write(own.indices[i], rank_of(buckets.bin(key)));
    });
#endif
}
