// A team of THREADS threads works on one row: a warp, several of which share a block, or a block,
// of as many threads as it is launched with if the host does not define THREADS.

#ifdef THREADS
#define IS_WARP (THREADS == 32)
#else
#define THREADS ((int)blockDim.x)
#define IS_WARP 0
#endif
#define WARPS (THREADS / 32)
#define ALL_LANES 0xFFFFFFFFu

__device__ __forceinline__ void team_sync() {
#if IS_WARP
    __syncwarp();
#else
    __syncthreads();
#endif
}

// Whether it is so for any thread of the team; a barrier, too.
__device__ __forceinline__ bool team_any(bool value) {
#if IS_WARP
    __syncwarp();
    return __any_sync(ALL_LANES, value);
#else
    return __syncthreads_or(value);
#endif
}

struct WarpBarrier {
    __device__ __forceinline__ void operator()() const { __syncwarp(); }
};
struct TeamBarrier {
    __device__ __forceinline__ void operator()() const { team_sync(); }
};

struct AnyOfWarp {
    __device__ __forceinline__ bool operator()(bool value) const {
        return __any_sync(ALL_LANES, value);
    }
};
struct AnyOfTeam {
    __device__ __forceinline__ bool operator()(bool value) const { return team_any(value); }
};

struct Add {
    template <class T>
    __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};
struct Greatest {
    template <class T>
    __device__ __forceinline__ T operator()(T a, T b) const { return a < b ? b : a; }
};

// One value of all threads, in the same order on every run; `partials` has room for WARPS of them.
template <class T, class Combine>
__device__ __forceinline__ T of_all(T value, Combine combine, void* partials, int thread) {
#pragma unroll
    for (int gap = 16; gap > 0; gap /= 2) {
        value = combine(value, __shfl_xor_sync(ALL_LANES, value, gap));
    }
#if !IS_WARP
    T* of_warps = (T*)partials;
    if (thread % 32 == 0) of_warps[thread / 32] = value;
    team_sync();
    value = of_warps[0];
    for (int warp = 1; warp < WARPS; ++warp) value = combine(value, of_warps[warp]);
    team_sync();
#endif
    return value;
}

template <int COUNT>
struct Totals {
    double of[COUNT];
};

#define BYTES_OF_TOTALS 24  // of three, a warp

// The same of up to three sums at once.
template <int COUNT>
__device__ __forceinline__ Totals<COUNT> total_of_all(
    Totals<COUNT> value, void* partials, int thread) {
    const int lane = thread % 32, warp = thread / 32;
    double* of_warps = (double*)partials;
#pragma unroll
    for (int k = 0; k < COUNT; ++k) {
        for (int gap = 16; gap > 0; gap /= 2) {
            value.of[k] += __shfl_xor_sync(ALL_LANES, value.of[k], gap);
        }
        if (lane == 0) of_warps[COUNT * warp + k] = value.of[k];
    }
    team_sync();
#pragma unroll
    for (int k = 0; k < COUNT; ++k) {
        value.of[k] = lane < WARPS ? of_warps[COUNT * lane + k] : 0.0;
        for (int gap = 16; gap > 0; gap /= 2) {
            value.of[k] += __shfl_xor_sync(ALL_LANES, value.of[k], gap);
        }
    }
    team_sync();
    return value;
}

// What the values of all threads before this one come to; 0 where there is none, which changes no
// value that it is combined with.
template <class T, class Combine>
__device__ __forceinline__ T of_all_before(T value, Combine combine, void* partials, int thread) {
    T through = value;
#pragma unroll
    for (int gap = 1; gap < 32; gap *= 2) {
        const T other = __shfl_up_sync(ALL_LANES, through, gap);
        if (thread % 32 >= gap) through = combine(through, other);
    }
    T before = __shfl_up_sync(ALL_LANES, through, 1);
    if (thread % 32 == 0) before = 0;
#if !IS_WARP
    T* of_warps = (T*)partials;
    if (thread % 32 == 31) of_warps[thread / 32] = through;
    team_sync();
    for (int warp = 0; warp < thread / 32; ++warp) before = combine(before, of_warps[warp]);
    team_sync();
#endif
    return before;
}

// The contiguous part of `size` things that is a thread's own; odd, so that no two threads of a
// warp meet in one bank of shared memory.
struct Part {
    int begin;
    int end;
};

__device__ __forceinline__ Part part_of(int size, int thread) {
    const int each = ((size + THREADS - 1) / THREADS) | 1;
    const int begin = thread * each < size ? thread * each : size;
    return {begin, begin + each < size ? begin + each : size};
}
