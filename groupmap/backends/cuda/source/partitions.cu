// Long rows are dealt to partitions: keys and indices, a tile of the row at a time.
//
// The host defines ORDERED: then the entries of a segment are in order of appearance.

#define ITEMS (TILE / THREADS)

struct Partitioning {
    Buckets<LOG_BINS> buckets;
    int log_partition;

    __device__ __forceinline__ u32 of(Key key) const { return buckets.of(key) >> log_partition; }
};

// The same from a copy of the bins in shared memory; to be followed by a barrier.
__device__ __forceinline__ Partitioning partitioning_from_copy(
    const LongRows& all, u32 r, u32* copy, int thread) {
    Buckets<LOG_BINS> buckets = all.buckets(r);
#pragma unroll 1
    for (int i = 4 * thread; i < STRIDE_OF_BINS; i += 4 * THREADS) {
        *(uint4*)(copy + i) = *(const uint4*)(buckets.starts + i);
    }
    buckets.starts = copy;
    return {buckets, all.log_partition};
}

extern "C" __global__ void __launch_bounds__(THREADS) count_partitions(LONG_ROWS) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const LongRows all = ALL;
    const BlockOfRow own(rows, where, all.n, TILE);
    const int thread = threadIdx.x;
    u32* counters = (u32*)dynamic_shared + STRIDE_OF_BINS;
    const Partitioning partition =
        partitioning_from_copy(all, own.row, (u32*)dynamic_shared, thread);
    set_to_zero(counters, all.n_partitions, thread);
    __syncthreads();
    own.stretch.each(thread, [&](int, Key key, bool counts) {
        const u32 own_partition = partition.of(key);
        if (counts) atomicAdd(counters + own_partition, 1u);
    });
    __syncthreads();
    u32* of_tile = all.tile(own.row, own.number);
#pragma unroll 1
    for (u32 i = thread; i < all.n_partitions; i += THREADS) of_tile[i] = counters[i];
}

// A block takes 32 partitions of a row, and each of its warps some of the tiles.
extern "C" __global__ void __launch_bounds__(THREADS) sum_up_tiles(LONG_ROWS) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const LongRows all = ALL;
    u32* of_warps = (u32*)dynamic_shared;
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32 groups = (all.n_partitions + 31) / 32, r = blockIdx.x / groups;
    const u32 partition = blockIdx.x % groups * 32 + lane;
    const u32 n_tiles = (all.n + TILE - 1) / TILE, each = (n_tiles + WARPS - 1) / WARPS;
    const u32 begin = warp * each, end = begin + each < n_tiles ? begin + each : n_tiles;
    u32* first = all.tile(r, 0) + partition;
    const bool is_one = partition < all.n_partitions;
    u32 own = 0;
#pragma unroll 4
    for (u32 t = begin; t < end; ++t) own += is_one ? first[(i64)t * all.n_partitions] : 0;
    of_warps[threadIdx.x] = own;
    __syncthreads();
    u32 before = 0;
    for (u32 other = 0; other < warp; ++other) before += of_warps[32 * other + lane];
#pragma unroll 4
    for (u32 t = begin; t < end && is_one; ++t) {
        u32& of_tile = first[(i64)t * all.n_partitions];
        const u32 count = of_tile;
        of_tile = before;
        before += count;
    }
    if (warp == WARPS - 1 && is_one) all.totals[r * all.n_partitions + partition] = before;
}

// What a thread adds to the counter of its partition, and how many came before in the tile.
struct Counters {
    u32* of_tile;
#if ORDERED
    u16* of_warps;  // those of each warp are a row
    u32 size;
#endif

    // By all lanes of a warp together.
    __device__ __forceinline__ u32 add_one(u32 partition, bool counts, bool may_meet, int thread) const {
        const u32 lane = thread % 32;
        if (!ORDERED && !may_meet) return counts ? atomicAdd(of_tile + partition, 1u) : 0;
        const u32 peers = __match_any_sync(ALL_LANES, counts ? partition : ~0u);
        const u32 leader = (u32)__ffs((int)peers) - 1;
        const u32 rank = (u32)__popc(peers & ((1u << lane) - 1));
        u32 before = 0;
#if ORDERED
        u16* own = of_warps + thread / 32 * size + (counts ? partition : 0);
        before = *own;
        __syncwarp();
        if (lane == leader && counts) *own = (u16)(before + __popc(peers));
        __syncwarp();
#else
        if (lane == leader && counts) before = atomicAdd(of_tile + partition, (u32)__popc(peers));
        before = __shfl_sync(ALL_LANES, before, (int)leader);
#endif
        return before + rank;
    }

    // Of what the warps have counted: what there is before each, and the total.
    __device__ __forceinline__ void combine(int thread) const {
#if ORDERED
        for (u32 i = thread; i < size; i += THREADS) {
            u32 before = 0;
#pragma unroll 1
            for (int warp = 0; warp < WARPS; ++warp) {
                const u32 count = of_warps[warp * size + i];
                of_warps[warp * size + i] = (u16)before;
                before += count;
            }
            of_tile[i] = before;
        }
        __syncthreads();
#endif
    }

    __device__ __forceinline__ u32 before_warp(u32 partition, int thread) const {
#if ORDERED
        return of_warps[thread / 32 * size + partition];
#else
        return 0;
#endif
    }
};

// A tile is put in the order of partitions in shared memory, so that runs of neighbours are written.
extern "C" __global__ void __launch_bounds__(THREADS, 2) fill_partitions(
    LONG_ROWS, Out* y, int* order) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const LongRows all = ALL;
    const BlockOfRow own(rows, where, all.n, TILE);
    const int thread = threadIdx.x, lane = thread % 32, size = (int)all.n_partitions;
    u32* starts = (u32*)dynamic_shared + STRIDE_OF_BINS;  // in the tile
    u32* distances = starts + size;                       // from there to the segment's part
    Key* keys_of_tile = (Key*)(distances + size);
    u32* indices_of_tile = (u32*)(keys_of_tile + TILE);
    void* partials = indices_of_tile + TILE;
#if ORDERED
    u16* of_warps = (u16*)((unsigned char*)partials + BYTES_OF_PARTIALS * WARPS);
    const Counters counters = {starts, of_warps, (u32)size};
    set_to_zero((u32*)of_warps, WARPS * size / 2, thread);
#else
    const Counters counters = {starts};
    set_to_zero(starts, size, thread);
#endif
    const Partitioning partition =
        partitioning_from_copy(all, own.row, (u32*)dynamic_shared, thread);
    const i64 begin = (i64)own.row * all.n;
    const u32* of_row = all.totals + own.row * all.n_partitions;
#pragma unroll 1
    for (int i = thread; i < size; i += THREADS) distances[i] = of_row[i];

    // Item k of a thread is entry k·32 of its warp's, from its lane on.
    const int first = thread / 32 * 32 * ITEMS + lane;
    Key held[ITEMS];
    u32 places[ITEMS];  // partition, and in the upper half how many came before
    u32 counting = 0;
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) {
        const int i = first + 32 * k;
        const Value bits = i < own.stretch.size ? own.stretch.values[i] : (Value)0;
        held[k] = key_of(bits);
        if (own.stretch.is_there(i) && !is_nan(bits)) counting |= 1u << k;
    }
    __syncthreads();
    const State& state = states[own.row];
    const bool may_meet = state.may_meet;
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) places[k] = partition.of(held[k]);
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) {
        const bool counts = counting >> k & 1;
        places[k] |= counters.add_one(places[k], counts, may_meet, thread) << 16;
    }
    Starts of_partitions;
    sum_up(distances, size, of_partitions, partials, thread);  // a barrier, too
    counters.combine(thread);
    __syncthreads();
    sum_up(starts, size, of_partitions, partials, thread);
    const u32 present = total_of_team((u32)__popc(counting), (u32*)partials + WARPS, thread);
    const u32* before_tile = all.tile(own.row, own.number);
#pragma unroll 1
    for (int i = thread; i < size; i += THREADS) distances[i] += before_tile[i] - starts[i];
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) {
        if (!(counting >> k & 1)) continue;
        const u32 own_partition = low_half(places[k]);
        const u32 slot =
            starts[own_partition] + counters.before_warp(own_partition, thread) + high_half(places[k]);
        keys_of_tile[slot] = held[k];
        indices_of_tile[slot] = own.first + (u32)(first + 32 * k);
    }
    __syncthreads();
    Stored* keys_of_row = all.keys + begin;
    u32* indices_of_row = all.indices + begin;
#pragma unroll 4
    for (u32 slot = thread; slot < present; slot += THREADS) {
        const Key key = keys_of_tile[slot];
        const u32 to = slot + distances[partition.of(key)];
        keys_of_row[to] = (Stored)key;
        indices_of_row[to] = indices_of_tile[slot];
    }

    // What is missing has no segment, so that its results are written here.
    if (state.present == all.n) return;
#pragma unroll 1
    for (int k = 0; k < ITEMS; ++k) {
        const int i = first + 32 * k;
        const u32 of_row_at = own.first + (u32)i;
        if (i >= own.stretch.size) break;
#if !COUNTED
        if (!(counting >> k & 1)) y[begin + of_row_at] = out_value(NOT_A_NUMBER);
#endif
#if LISTED
        if (of_row_at >= state.present) order[begin + of_row_at] = -1;
#endif
    }
}
