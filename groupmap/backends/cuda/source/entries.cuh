// The entries of a row, of which every THREADS-th is a thread's own: the k-th of them is entry
// k·THREADS + thread.
//
// The host defines HELD, how many of them a thread has at most; KEEPS_KEYS, whether it keeps their
// keys in registers, or else reads them again for each pass, from the caches; BATCH, a divisor of
// HELD, how many are read, or written, at a time, so that one does not wait for the other; and
// MASKED, whether there is a mask.

struct Entries {
    const Value* row;
    const bool* where;
    int n;
    int thread;
#if KEEPS_KEYS
    Key keys[HELD];
    u32 counting;  // a bit for each: whether it is no NaN, and the mask has it
#endif

    __device__ __forceinline__ Entries(const Value* rows, const bool* wheres, u32 r, int size, int own)
        : row(rows + (i64)r * size), where(wheres + (i64)r * size), n(size), thread(own) {
#if KEEPS_KEYS
        Value bits[HELD];
        counting = 0;
#pragma unroll
        for (int k = 0; k < HELD; ++k) bits[k] = bits_near(index(k));
#pragma unroll
        for (int k = 0; k < HELD; ++k) {
            keys[k] = key_of(bits[k]);
            if (counts(index(k), bits[k])) counting |= 1u << k;
        }
#endif
    }

    __device__ __forceinline__ int index(int k) const { return k * THREADS + thread; }

    // Of the last entry, behind the end: where there is nothing to decide, loads wait together.
    __device__ __forceinline__ int within(int i) const { return i < n ? i : n - 1; }
    __device__ __forceinline__ Value bits_near(int i) const { return row[within(i)]; }

    __device__ __forceinline__ bool counts(int i, Value bits) const {
#if MASKED
        return i < n && where[i] && !is_nan(bits);
#else
        return i < n && !is_nan(bits);
#endif
    }

    // visit(k, index, key, whether it counts), for all lanes of a warp together.
    template <class Visit>
    __device__ __forceinline__ void each(Visit visit) {
#if KEEPS_KEYS
#pragma unroll
        for (int k = 0; k < HELD; ++k) {
            if (k * THREADS >= n) break;
            visit(k, index(k), keys[k], (bool)(counting >> k & 1));
        }
#else
#pragma unroll
        for (int first = 0; first < HELD; first += BATCH) {
            if (first * THREADS >= n) break;
            Value bits[BATCH];
#pragma unroll
            for (int k = 0; k < BATCH; ++k) bits[k] = bits_near(index(first + k));
#pragma unroll
            for (int k = 0; k < BATCH; ++k) {
                const int i = index(first + k);
                Key key = key_of(bits[k]);
                visit(first + k, i, key, counts(i, bits[k]));
            }
        }
#endif
    }

    // The same for those who ask seldom: one at a time, in a loop that takes little room.
    template <class Visit>
    __device__ __forceinline__ void each_again(Visit visit) const {
#pragma unroll 1
        for (int i = thread; i < n; i += THREADS) {
            const Value bits = row[i];
            visit(i, key_of(bits), counts(i, bits));
        }
    }
};
