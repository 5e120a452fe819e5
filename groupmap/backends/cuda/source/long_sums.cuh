// What a block finds out about all of its threads, or sums up, with one barrier each.
//
// `partials` is room for BYTES_OF_PARTIALS a warp. Between two uses there is a barrier of the
// caller's.

#define BYTES_OF_PARTIALS 24

// An address in global memory that is not computed again wherever it is used.
template <class T>
__device__ __forceinline__ T* kept(T* address) {
#ifdef __CUDA_ARCH__
    asm("" : "+l"(address));
    __builtin_assume(__isGlobal(address));
#endif
    return address;
}

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

    __device__ __forceinline__ Extremes of_block(void* partials, int thread) const {
        const Extremes own = of_warp();
        Key* leasts = (Key*)partials;
        Key* greatests = leasts + WARPS;
        u32* presents = (u32*)(greatests + WARPS);
        const int lane = thread % 32, warp = thread / 32;
        if (lane == 0) {
            leasts[warp] = own.least;
            greatests[warp] = own.greatest;
            presents[warp] = own.present;
        }
        __syncthreads();
        const bool is_one = lane < WARPS;
        const Extremes others = {
            is_one ? leasts[lane] : ~(Key)0, is_one ? greatests[lane] : 0, is_one ? presents[lane] : 0};
        return others.of_warp();
    }
};

#define NO_EXTREMES {~(Key)0, 0, 0}

__device__ __forceinline__ u32 total_of_block(u32 value, void* partials, int thread) {
    u32* of_warps = (u32*)partials;
    const int lane = thread % 32;
    const u32 of_warp = __reduce_add_sync(ALL_LANES, value);
    if (lane == 0) of_warps[thread / 32] = of_warp;
    __syncthreads();
    return __reduce_add_sync(ALL_LANES, lane < WARPS ? of_warps[lane] : 0);
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

// Sums over words, in multiples of four, of which a warp takes a stretch, and a lane four in a row
// of each 128. Unit is told what there is before a word, and gives what to write in its place.
template <class Unit>
__device__ __forceinline__ void sum_up(u32* words, int size, Unit& unit, void* partials, int thread) {
    const int lane = thread % 32, warp = thread / 32;
    const int rounds = (size + 4 * THREADS - 1) / (4 * THREADS);
    const int first = warp * rounds * 128 + lane * 4;
    u32 own = 0;
#pragma unroll 1
    for (int i = first, k = 0; k < rounds; ++k, i += 128) {
        if (i >= size) continue;
        const uint4 four = *(const uint4*)(words + i);
        own += four.x + four.y + four.z + four.w;
    }
    u32* of_warps = (u32*)partials;
    const u32 of_warp = __reduce_add_sync(ALL_LANES, own);
    if (lane == 0) of_warps[warp] = of_warp;
    __syncthreads();
    u32 before = __reduce_add_sync(ALL_LANES, lane < warp ? of_warps[lane] : 0);
#pragma unroll 1
    for (int i = first, k = 0; k < rounds; ++k, i += 128) {
        uint4 four = make_uint4(0, 0, 0, 0);
        if (i < size) four = *(const uint4*)(words + i);
        const u32 of_four = four.x + four.y + four.z + four.w;
        const u32 through = sum_through_lane(of_four, lane);
        const u32 first_before = before + through - of_four, second_before = first_before + four.x;
        const u32 third_before = second_before + four.y, fourth_before = third_before + four.z;
        before += __shfl_sync(ALL_LANES, through, 31);
        if (i >= size) continue;
        four.x = unit.with_sum(i, four.x, first_before);
        four.y = unit.with_sum(i + 1, four.y, second_before);
        four.z = unit.with_sum(i + 2, four.z, third_before);
        four.w = unit.with_sum(i + 3, four.w, fourth_before);
        *(uint4*)(words + i) = four;
    }
}

// Counts come to where each begins.
struct Starts {
    u32 greatest;  // of the counts that a thread has met

    __device__ __forceinline__ u32 with_sum(int, u32 count, u32 before) {
        greatest = count > greatest ? count : greatest;
        return before;
    }
};

// The same in the lower 16 bits, with the count in the upper ones.
struct StartsAndCounts {
    u32 greatest;

    __device__ __forceinline__ u32 with_sum(int, u32 count, u32 before) {
        greatest = count > greatest ? count : greatest;
        return before | (count << 16);
    }
};

__device__ __forceinline__ u32 low_half(u32 word) { return word & 0xFFFFu; }
__device__ __forceinline__ u32 high_half(u32 word) { return word >> 16; }
