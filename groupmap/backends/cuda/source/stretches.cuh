// Rows too long for one block, and the parts of them that blocks take.
//
// The host defines THREADS of a block, BATCH, how many entries a thread reads at a time, and MASKED,
// whether there is a mask.

// A part of a row.
struct Stretch {
    const Value* values;
    const bool* where;
    int size;

    __device__ __forceinline__ bool is_there(int i) const {
#if MASKED
        return i < size && where[i];
#else
        return i < size;
#endif
    }

    // visit(index, key, whether it counts), for all lanes of a warp together.
    template <class Visit>
    __device__ __forceinline__ void each(int thread, Visit visit) const {
#pragma unroll 1
        for (int first = thread; first - thread < size; first += BATCH * THREADS) {
            Value bits[BATCH];
            bool counts[BATCH];
#pragma unroll
            for (int k = 0; k < BATCH; ++k) {
                const int i = first + k * THREADS;
                bits[k] = i < size ? values[i] : (Value)0;
                counts[k] = is_there(i);
            }
#pragma unroll
            for (int k = 0; k < BATCH; ++k) {
                visit(first + k * THREADS, key_of(bits[k]), counts[k] && !is_nan(bits[k]));
            }
        }
    }
};

// The stretch of `length` entries that this block takes, of rows one after the other.
struct BlockOfRow {
    u32 row;
    u32 number;  // in the row
    u32 first;
    Stretch stretch;

    __device__ __forceinline__ BlockOfRow(const Value* rows, const bool* where, u32 n, u32 length) {
        const u32 per_row = (n + length - 1) / length;
        row = blockIdx.x / per_row;
        number = blockIdx.x % per_row;
        first = number * length;
        const i64 begin = (i64)row * n + first;
        stretch = {rows + begin, where + begin, (int)(n - first < length ? n - first : length)};
    }
};
