// What a team finds out about all of its threads, or sums up, with one barrier each.
//
// `partials` is room for BYTES_OF_PARTIALS a warp. Whoever comes first has written
// there before a barrier that follows; so between two uses there is a barrier of the caller's.

#define BYTES_OF_PARTIALS 24

__device__ __forceinline__ u32 least_in_warp(u32 value) { return __reduce_min_sync(ALL_LANES, value); }
__device__ __forceinline__ u32 greatest_in_warp(u32 value) {
    return __reduce_max_sync(ALL_LANES, value);
}
__device__ __forceinline__ u64 least_in_warp(u64 value) {
#pragma unroll
    for (int gap = 16; gap > 0; gap /= 2) {
        const u64 other = __shfl_xor_sync(ALL_LANES, value, gap);
        value = other < value ? other : value;
    }
    return value;
}
__device__ __forceinline__ u64 greatest_in_warp(u64 value) { return ~least_in_warp(~value); }

struct Extremes {
    Key least;
    Key greatest;
    u32 present;

    __device__ __forceinline__ void include(Key key) {
        least = key < least ? key : least;
        greatest = key > greatest ? key : greatest;
        ++present;
    }

    __device__ __forceinline__ Extremes of_warp() const {
        return {least_in_warp(least), greatest_in_warp(greatest),
                __reduce_add_sync(ALL_LANES, present)};
    }

    __device__ __forceinline__ Extremes of_team(void* partials, int thread) const {
        const Extremes own = of_warp();
#if IS_WARP
        return own;
#else
        Key* leasts = (Key*)partials;
        Key* greatests = leasts + WARPS;
        u32* presents = (u32*)(greatests + WARPS);
        const int lane = thread % 32, warp = thread / 32;
        if (lane == 0) {
            leasts[warp] = own.least;
            greatests[warp] = own.greatest;
            presents[warp] = own.present;
        }
        team_sync();
        const bool is_one = lane < WARPS;
        const Extremes others = {
            is_one ? leasts[lane] : ~(Key)0, is_one ? greatests[lane] : 0, is_one ? presents[lane] : 0};
        return others.of_warp();
#endif
    }
};

#define NO_EXTREMES {~(Key)0, 0, 0}

__device__ __forceinline__ u32 total_of_team(u32 value, void* partials, int thread) {
    const u32 of_warp = __reduce_add_sync(ALL_LANES, value);
#if IS_WARP
    return of_warp;
#else
    u32* of_warps = (u32*)partials;
    const int lane = thread % 32;
    if (lane == 0) of_warps[thread / 32] = of_warp;
    team_sync();
    return __reduce_add_sync(ALL_LANES, lane < WARPS ? of_warps[lane] : 0);
#endif
}

// The sum over all warps before the thread's own, of what each warp has in total.
__device__ __forceinline__ u32 sum_of_warps_before(u32 of_warp, void* partials, int thread) {
#if IS_WARP
    return 0;
#else
    u32* of_warps = (u32*)partials;
    const int lane = thread % 32, warp = thread / 32;
    if (lane == 0) of_warps[warp] = of_warp;
    team_sync();
    return __reduce_add_sync(ALL_LANES, lane < warp ? of_warps[lane] : 0);
#endif
}

__device__ __forceinline__ u32 sum_through_lane(u32 value, int lane) {
#pragma unroll
    for (int gap = 1; gap < 32; gap *= 2) {
        const u32 other = __shfl_up_sync(ALL_LANES, value, gap);
        if (lane >= gap) value += other;
    }
    return value;
}

__device__ __forceinline__ void set_to_zero(u32* words, int size, int thread) {
#pragma unroll 1
    for (int i = 4 * thread; i < size; i += 4 * THREADS) {
        *(uint4*)(words + i) = make_uint4(0, 0, 0, 0);
    }
}

// Sums over words, of which a warp takes a stretch, and a lane four in a row of each 128: as many
// as there are up to a multiple of four. Unit says what a word comes to, `of(word)`, and writes what
// four of them come to when they are summed up, `sum_up(words, i, four, before)`.
template <class Unit>
__device__ __forceinline__ void sum_up(u32* words, int size, Unit& unit, void* partials, int thread) {
    const int lane = thread % 32, rounds = (int)((u32)(size + 4 * THREADS - 1) / (u32)(4 * THREADS));
    const int first = thread / 32 * rounds * 128 + lane * 4;
    u32 own = 0;
#pragma unroll 1
    for (int i = first, k = 0; k < rounds; ++k, i += 128) {
        if (i >= size) continue;
        const uint4 four = *(const uint4*)(words + i);
        own += unit.of(four.x) + unit.of(four.y) + unit.of(four.z) + unit.of(four.w);
    }
    u32 before = sum_of_warps_before(__reduce_add_sync(ALL_LANES, own), partials, thread);
#pragma unroll 1
    for (int i = first, k = 0; k < rounds; ++k, i += 128) {
        uint4 four = make_uint4(0, 0, 0, 0);
        if (i < size) four = *(const uint4*)(words + i);
        const u32 of_four = unit.of(four.x) + unit.of(four.y) + unit.of(four.z) + unit.of(four.w);
        const u32 through = sum_through_lane(of_four, lane);
        if (i < size) unit.sum_up(words, i, four, before + through - of_four);
        before += __shfl_sync(ALL_LANES, through, 31);
    }
}

// For units that know what to write in place of a word, `with_sum(i, word, before)`.
template <class Unit>
struct EachOfFour {
    __device__ __forceinline__ void sum_up(u32* words, int i, uint4 four, u32 before) {
        Unit& unit = *(Unit*)this;
        const u32 second = before + unit.of(four.x), third = second + unit.of(four.y);
        const u32 fourth = third + unit.of(four.z);
        four.x = unit.with_sum(i, four.x, before);
        four.y = unit.with_sum(i + 1, four.y, second);
        four.z = unit.with_sum(i + 2, four.z, third);
        four.w = unit.with_sum(i + 3, four.w, fourth);
        *(uint4*)(words + i) = four;
    }
};

__device__ __forceinline__ u32 low_half(u32 word) { return word & 0xFFFFu; }
__device__ __forceinline__ u32 high_half(u32 word) { return word >> 16; }

// Counts come to where each begins.
struct Starts : EachOfFour<Starts> {
    u32 greatest = 0;  // of the counts that a thread has met

    __device__ __forceinline__ u32 of(u32 count) const { return count; }
    __device__ __forceinline__ u32 with_sum(int, u32 count, u32 before) {
        greatest = count > greatest ? count : greatest;
        return before;
    }
};

// The same in the lower half, with the count in the upper one.
struct StartsAndCounts : EachOfFour<StartsAndCounts> {
    u32 greatest = 0;

    __device__ __forceinline__ u32 of(u32 count) const { return count; }
    __device__ __forceinline__ u32 with_sum(int, u32 count, u32 before) {
        greatest = count > greatest ? count : greatest;
        return before | (count << 16);
    }
};

// Two counts in a word come to where each begins.
struct PairsOfStarts : EachOfFour<PairsOfStarts> {
    u32 greatest = 0;

    __device__ __forceinline__ u32 of(u32 word) const { return high_half(word * 0x10001u); }
    __device__ __forceinline__ u32 with_sum(int, u32 word, u32 before) {
        const u32 even = low_half(word), odd = high_half(word);
        greatest = even > greatest ? even : greatest;
        greatest = odd > greatest ? odd : greatest;
        return before * 0x10001u + (even << 16);
    }
};
