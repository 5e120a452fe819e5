// What is known of rows too long for shared memory, and where the parts lie that they are dealt to.
//
// The bins of a row are its keys' highest bits; the counts of the bins, summed up, are a coarse cdf
// that gives each key one of as many buckets as there are entries. So many buckets in a row make a
// partition, and what falls into one is a segment: it holds about as many entries as buckets, all
// of one value among them, and fits shared memory.
//
// The host defines TILE, how many entries a block deals out, LOG_BINS and BYTES_OF_STATE.

#define N_BINS (1 << LOG_BINS)
#define STRIDE_OF_BINS (N_BINS + 4)  // one more, and aligned
#define KEY_BITS (8 * (int)sizeof(Key))

#if VALUE_BITS <= 16
typedef u16 Stored;
#else
typedef Key Stored;
#endif

// Which bin a key falls into, of those from a least key to the greatest, and which bucket. Other keys
// come to some bin, too.
template <int LOG>
struct Buckets {
    const u32* starts;  // where the buckets of each bin begin; and behind all of them
    Key least;
    int shift;  // brings the highest bit by which keys differ to the top

    __device__ __forceinline__ Buckets(const u32* starts, Key least, Key greatest)
        : starts(starts), least(least), shift(KEY_BITS - bit_length((Key)((greatest - least) | 1))) {}

    __device__ __forceinline__ Key distance(Key key) const { return (key - least) << shift; }
    __device__ __forceinline__ u32 bin(Key key) const {
        return (u32)(distance(key) >> (KEY_BITS - LOG));
    }
    __device__ __forceinline__ u32 of(Key key) const {
        const Key distance = this->distance(key);
        const u32* own = starts + (u32)(distance >> (KEY_BITS - LOG));
        const u32 fraction = (u32)((Key)(distance << LOG) >> (KEY_BITS - 32));
        return own[0] + __umulhi(fraction, own[1] - own[0]);
    }

    // Whether each bin is of one key.
    __device__ __forceinline__ bool are_exact() const { return KEY_BITS - shift <= LOG; }
    __device__ __forceinline__ Key first_key_of(u32 bin) const {
        return least + ((Key)bin << (KEY_BITS - LOG - shift));
    }
};

// What is known of a row; zero at first.
struct State {
    u64 greatest;
    u64 greatest_complement;
    u32 present;
    u32 may_meet;  // whether lanes may want to add to one counter
    u64 unused;

    __device__ __forceinline__ Buckets<LOG_BINS> buckets(const u32* starts) const {
        const Key least = present ? (Key)~greatest_complement : 0;
        return {starts, start_of_bins(least, (Key)greatest, LOG_BINS), (Key)greatest};
    }
};

static_assert(sizeof(State) == BYTES_OF_STATE, "the host lends so many bytes");

struct LongRows {
    const Value* rows;
    const bool* where;
    u32* n_hard;
    State* states;
    u32* bins;     // STRIDE_OF_BINS a row
    u32* tiles;    // by row, tile and partition: how many entries, then where they go in the segment
    u32* totals;   // by row and partition
    u32* hard;     // segments that take more than counting once
    Stored* keys;  // by partitions, n a row
    u32* indices;
    u32 n;
    u32 n_partitions;  // a multiple of four
    int log_partition;

    __device__ __forceinline__ Buckets<LOG_BINS> buckets(u32 r) const {
        return states[r].buckets(kept(bins + (i64)r * STRIDE_OF_BINS));
    }
    __device__ __forceinline__ u32* tile(u32 r, u32 number) const {
        return tiles + ((i64)r * ((n + TILE - 1) / TILE) + number) * n_partitions;
    }
};

#define LONG_ROWS                                                                                \
    const Value *rows, const bool *where, u32 *n_hard, State *states, u32 *bins, u32 *tiles,     \
        u32 *totals, u32 *hard, Stored *keys, u32 *indices, i64 n, i64 n_partitions,             \
        i64 log_partition
#define ALL                                                                                      \
    {rows, where, n_hard, states, bins, tiles, totals, hard, keys, indices, (u32)n,              \
     (u32)n_partitions, (int)log_partition}
