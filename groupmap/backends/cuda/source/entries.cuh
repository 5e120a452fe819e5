// The entries of a row, of which every THREADS-th is a thread's own: the k-th of them is entry
// k·THREADS + thread.
//
// The host defines HELD, how many of them a thread keeps in registers, or 0 where rows have more:
// then each pass reads them again, from the caches, BATCH at a time so that none waits for another;
// and MASKED, whether there is a mask.

struct Entries {
    const Value* row;
    const bool* where;
    int n;
    int thread;
#if HELD
    Key keys[HELD];
    u32 counting;  // a bit for each: whether it is no NaN, and the mask has it
#endif

    __device__ __forceinline__ bool is_there(int i) const {
#if MASKED
        return i < n && where[i];
#else
        return i < n;
#endif
    }

#if HELD
    // Before the first pass.
    __device__ __forceinline__ void hold() {
        Value bits[HELD];
        counting = 0;
#pragma unroll
        for (int k = 0; k < HELD; ++k) {
            const int i = k * THREADS + thread;
            bits[k] = i < n ? row[i] : (Value)0;
        }
#pragma unroll
        for (int k = 0; k < HELD; ++k) {
            keys[k] = key_of(bits[k]);
            if (is_there(k * THREADS + thread) && !is_nan(bits[k])) counting |= 1u << k;
        }
    }

    // visit(k, index, key, whether it counts), for all lanes of a warp together.
    template <class Visit>
    __device__ __forceinline__ void each(Visit visit) const {
#pragma unroll
        for (int k = 0; k < HELD; ++k) {
            if (k * THREADS >= n) break;
            visit(k, k * THREADS + thread, keys[k], (bool)(counting >> k & 1));
        }
    }
#else
    __device__ __forceinline__ void hold() {}

    template <class Visit>
    __device__ __forceinline__ void each(Visit visit) const {
#pragma unroll 1
        for (int first = thread; first - thread < n; first += BATCH * THREADS) {
            Value bits[BATCH];
            bool counts[BATCH];
#pragma unroll
            for (int k = 0; k < BATCH; ++k) {
                const int i = first + k * THREADS;
                bits[k] = i < n ? row[i] : (Value)0;
                counts[k] = is_there(i);
            }
#pragma unroll
            for (int k = 0; k < BATCH; ++k) {
                visit(0, first + k * THREADS, key_of(bits[k]), counts[k] && !is_nan(bits[k]));
            }
        }
    }
#endif

    // The same for those who ask seldom: one at a time, in a loop that takes little room.
    template <class Visit>
    __device__ __forceinline__ void each_again(Visit visit) const {
#pragma unroll 1
        for (int i = thread; i < n; i += THREADS) {
            const Value bits = row[i];
            visit(i, key_of(bits), is_there(i) && !is_nan(bits));
        }
    }
};
