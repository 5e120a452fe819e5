// The map of rows that do not fit into shared memory: the steps of map.cu, one after the other for
// all rows, with bins, cursors and slots in global memory. Blocks take the rows in order, so what
// is being worked on at a time lies in the L2 cache.
//
// The host defines THREADS of a block, TILE entries that it takes, BATCH (see rows.cuh),
// LOG_BINS, CROWDED, ORDERED, SCALED and BYTES_OF_STATE.

// What is known of a row; zero at first.
struct State {
    u64 greatest;
    u64 greatest_complement;
    u32 present;
    u32 n_crowded;
    u32 may_meet;  // whether lanes may want to add to one cursor

    __device__ __forceinline__ Buckets buckets(const u32* bins) const {
        const Key least = (Key)~greatest_complement;
        const int spread = present ? bit_length((Key)((Key)greatest - least)) : 0;
        return {bins, least, spread > LOG_BINS ? spread - LOG_BINS : 0};
    }
};

static_assert(sizeof(State) == BYTES_OF_STATE, "the host lends so many bytes");

// Rows in global memory, and the part of one that a block takes.
struct LongRows {
    const Value* rows;
    const bool* where;
    State* states;
    u32* bins;     // n_bins + 1 a row
    u32* cursors;  // n + 1 a row
    Key* keys;     // n a row
    u32* indices;  // n a row, where ORDERED
    u32* crowded;  // n / CROWDED + 1 a row
    i64 n;

    __device__ __forceinline__ u32* bins_of(i64 r) const { return bins + r * ((1 << LOG_BINS) + 1); }
    __device__ __forceinline__ u32* cursors_of(i64 r) const { return cursors + r * (n + 1); }
    __device__ __forceinline__ u32* crowded_of(i64 r) const {
        return crowded + r * (n / CROWDED + 1);
    }
    __device__ __forceinline__ Slots slots_of(i64 r, i64 begin) const {
        Slots slots;
        slots.keys = keys + r * n + begin;
#if ORDERED
        slots.indices = indices + r * n + begin;
#endif
        return slots;
    }
};

struct Tile {
    i64 r;
    i64 first;
    Entries entries;

    __device__ Tile(const LongRows& all) {
        const i64 n_tiles = (all.n + TILE - 1) / TILE;
        r = blockIdx.x / n_tiles;
        first = blockIdx.x % n_tiles * TILE;
        const i64 begin = r * all.n + first;
        const int size = (int)(all.n - first < TILE ? all.n - first : TILE);
        entries = {all.rows + begin, all.where ? all.where + begin : nullptr, size, (int)threadIdx.x};
    }
};

struct AddToWord {
    u32* counters;

    __device__ __forceinline__ u32 operator()(u32 at, u32 amount) const {
        return atomicAdd(counters + at, amount);
    }
};

// Add one, and return what was there; lanes for which nothing counts get some number.
__device__ __forceinline__ u32 add_one(u32* counters, u32 at, bool counts, bool may_meet, int lane) {
    if (may_meet) return add_together(AddToWord{counters}, at, counts, lane);
    return counts ? atomicAdd(counters + at, 1u) : 0;
}

#define LONG_ROWS                                                                                \
    const Value *rows, const bool *where, State *states, u32 *bins, u32 *cursors, Key *keys,     \
        u32 *indices, u32 *crowded, i64 n
#define ALL {rows, where, states, bins, cursors, keys, indices, crowded, n}

extern "C" __global__ void __launch_bounds__(THREADS) find_extremes(LONG_ROWS) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const LongRows all = ALL;
    const Tile tile(all);
    Key least = ~(Key)0, greatest = 0;
    u32 present = 0;
    tile.entries.each([&](int, Key key, bool counts) {
        if (!counts) return;
        least = key < least ? key : least;
        greatest = key > greatest ? key : greatest;
        ++present;
    });
    const int thread = threadIdx.x;
    least = of_all(least, Least(), dynamic_shared, thread);
    greatest = of_all(greatest, Greatest(), dynamic_shared, thread);
    present = of_all(present, Add(), dynamic_shared, thread);
    if (thread == 0 && present) {
        State& state = states[tile.r];
        atomicMax(&state.greatest, (u64)greatest);
        atomicMax(&state.greatest_complement, ~(u64)least);
        atomicAdd(&state.present, present);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) fill_bins(LONG_ROWS) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const LongRows all = ALL;
    const Tile tile(all);
    u32* of_tile = (u32*)dynamic_shared;
    u32* of_row = all.bins_of(tile.r);
    const Buckets buckets = states[tile.r].buckets(of_row);
    for (int i = threadIdx.x; i < (1 << LOG_BINS); i += THREADS) of_tile[i] = 0;
    __syncthreads();
    tile.entries.each([&](int, Key key, bool counts) {
        if (counts) atomicAdd(&of_tile[buckets.bin(key)], 1u);
    });
    __syncthreads();
    for (int i = threadIdx.x; i < (1 << LOG_BINS); i += THREADS) {
        if (of_tile[i]) atomicAdd(&of_row[i], of_tile[i]);
    }
}

// A block a row.
extern "C" __global__ void __launch_bounds__(THREADS) sum_up_bins(LONG_ROWS) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const LongRows all = ALL;
    State& state = states[blockIdx.x];
    const u32 most =
        starts_of_bins(all.bins_of(blockIdx.x), 1 << LOG_BINS, state.present, dynamic_shared, threadIdx.x);
    if (threadIdx.x == 0) state.may_meet = 3 * (u64)most > state.present;
}

extern "C" __global__ void __launch_bounds__(THREADS) fill_buckets(LONG_ROWS) {
    const LongRows all = ALL;
    const Tile tile(all);
    const State& state = states[tile.r];
    const Buckets buckets = state.buckets(all.bins_of(tile.r));
    u32* of_row = all.cursors_of(tile.r);
    const bool may_meet = state.may_meet;
    tile.entries.each([&](int, Key key, bool counts) {
        add_one(of_row, counts ? buckets.of(key) : 0, counts, may_meet, threadIdx.x % 32);
    });
}

// A warp a bin: the buckets of a bin begin where the bin does.
extern "C" __global__ void __launch_bounds__(THREADS) sum_up_buckets(LONG_ROWS, i64 n_rows) {
    const LongRows all = ALL;
    const i64 warp = (blockIdx.x * (i64)THREADS + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    const i64 r = warp >> LOG_BINS;
    if (r >= n_rows) return;
    const u32* of_row = all.bins_of(r) + (warp & ((1 << LOG_BINS) - 1));
    const u32 end = of_row[1];
    u32* counts = all.cursors_of(r);
    u32 before = of_row[0];
    for (u32 first = of_row[0]; first < end; first += 32) {
        const u32 i = first + lane, count = i < end ? counts[i] : 0;
        u32 through = count;
        for (int gap = 1; gap < 32; gap *= 2) {
            const u32 other = __shfl_up_sync(ALL_LANES, through, gap);
            if (lane >= gap) through += other;
        }
        if (i < end) counts[i] = before + through - count;
        if (count > CROWDED) all.crowded_of(r)[atomicAdd(&states[r].n_crowded, 1u)] = i;
        before += __shfl_sync(ALL_LANES, through, 31);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) fill_slots(LONG_ROWS) {
    const LongRows all = ALL;
    const Tile tile(all);
    const State& state = states[tile.r];
    const Buckets buckets = state.buckets(all.bins_of(tile.r));
    u32* of_row = all.cursors_of(tile.r);
    const Slots slots = all.slots_of(tile.r, 0);
    const bool may_meet = state.may_meet;
    tile.entries.each([&](int i, Key key, bool counts) {
        const u32 bucket = counts ? buckets.of(key) : 0;
        const u32 slot = add_one(of_row, bucket, counts, may_meet, threadIdx.x % 32);
        if (!counts) return;
        slots.keys[slot] = key;
#if ORDERED
        slots.indices[slot] = (u32)(tile.first + i);
#endif
    });
}

#if ORDERED
// All entries of one key, in order of appearance; asked by a whole block.
__device__ void list_in_order(const LongRows& all, i64 r, Key key, u32* indices, void* partials) {
    const i64 begin = r * all.n;
    const int thread = threadIdx.x;
    u32 found = 0;
    for (i64 first = 0; first < all.n; first += THREADS) {
        const i64 i = first + thread;
        const Value bits = i < all.n ? all.rows[begin + i] : (Value)0;
        const bool is_one = i < all.n && !is_nan(bits) &&
                            (all.where == nullptr || all.where[begin + i]) && key_of(bits) == key;
        const u32 before = sum_before((u32)is_one, partials, thread);
        if (is_one) indices[found + before] = (u32)i;
        found += (u32)__syncthreads_count(is_one);
    }
}
#endif

// Some blocks a row; each sorts crowded buckets, in shared memory where they fit: `room` keys.
extern "C" __global__ void __launch_bounds__(THREADS) sort_crowded(
    LONG_ROWS, i64 blocks_per_row, i64 room) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    const LongRows all = ALL;
    const i64 r = blockIdx.x / blocks_per_row;
    const int thread = threadIdx.x;
    const u32 n_crowded = states[r].n_crowded;
    const u32* cursors_of_row = all.cursors_of(r);
    void* partials = dynamic_shared;
    Slots in_shared;
    in_shared.keys = (Key*)(dynamic_shared + 8 * (WARPS + 1));
#if ORDERED
    in_shared.indices = (Index*)(in_shared.keys + room);
#endif
    for (u32 k = (u32)(blockIdx.x % blocks_per_row); k < n_crowded; k += (u32)blocks_per_row) {
        const u32 bucket = all.crowded_of(r)[k];
        const u32 begin = bucket ? cursors_of_row[bucket - 1] : 0;
        const int size = (int)(cursors_of_row[bucket] - begin);
        const Slots own = all.slots_of(r, begin);
        bool differs = false;
        for (int i = thread; i < size; i += THREADS) differs |= own.keys[i] != own.keys[0];
        const bool is_constant = !__syncthreads_or(differs);
        if (is_constant && !ORDERED) continue;
        if (size > room) {
#if ORDERED
            if (is_constant) {
                list_in_order(all, r, own.keys[0], own.indices, partials);
                continue;
            }
#endif
            sort_segment(own, 0, size, thread, THREADS, TeamBarrier());
            continue;
        }
        for (int i = thread; i < size; i += THREADS) {
            in_shared.keys[i] = own.keys[i];
#if ORDERED
            in_shared.indices[i] = own.indices[i];
#endif
        }
        __syncthreads();
        sort_segment(in_shared, 0, size, thread, THREADS, TeamBarrier());
        for (int i = thread; i < size; i += THREADS) {
            own.keys[i] = in_shared.keys[i];
#if ORDERED
            own.indices[i] = in_shared.indices[i];
#endif
        }
        __syncthreads();
    }
}

// The results of the rows.
extern "C" __global__ void __launch_bounds__(THREADS) write_results(LONG_ROWS, RESULTS) {
    const LongRows all = ALL;
    const Tile tile(all);
    const State& state = states[tile.r];
    const Buckets buckets = state.buckets(all.bins_of(tile.r));
    const u32* of_buckets = all.cursors_of(tile.r);
    const Slots slots = all.slots_of(tile.r, 0);
    const Results results = ALL_RESULTS;
    const Results::OfRow of_row = results.of_row(tile.r, n, state.present);
    tile.entries.each([&](int i_of_tile, Key key, bool counts) {
        if (i_of_tile >= tile.entries.n) return;
        const int i = (int)tile.first + i_of_tile;
        if (order && i >= (int)state.present) order[of_row.row_begin + i] = -1;
        if (!counts) {
            of_row.write_missing(i);
            return;
        }
        const u32 bucket = buckets.of(key);
        const int begin = bucket ? (int)of_buckets[bucket - 1] : 0, end = (int)of_buckets[bucket];
        of_row.write(i, rank_in(slots, begin, end, key, i));
    });
}
