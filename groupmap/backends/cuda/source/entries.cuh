// The entries of a row, of which every THREADS-th is a thread's own: the k-th of them is entry
// k·THREADS + thread.
//
// The host defines HELD, how many of them a thread has at most; KEEPS_KEYS, whether it keeps their
// keys in registers, or else reads them again for each pass, from the caches, and IN_PAIRS, whether
// two keys, of 16 bits, share one; BATCH, a divisor of HELD, how many are read, or written, at a time,
// so that one does not wait for the other; and MASKED, whether there is a mask.

// From here on the compiler does not know that it has seen a number before. Else it keeps what it has
// made of it, for all entries of a thread, in registers that are not there.
template <class T>
__device__ __forceinline__ void forget(T& number) {
#ifdef __CUDA_ARCH__
    asm volatile("" : "+r"(number));
#endif
}

// Numbers of 16 bits, of which two share a register.
template <int COUNT>
struct Halves {
    u32 pairs[COUNT / 2] = {};

    __device__ __forceinline__ u32 get(int k) const {
        u32 pair = pairs[k / 2];
        forget(pair);
        return k % 2 ? pair >> 16 : pair & 0xFFFFu;
    }
    __device__ __forceinline__ void set(int k, u32 number) {
        const u32 other = k % 2 ? pairs[k / 2] & 0xFFFFu : pairs[k / 2] & 0xFFFF0000u;
        pairs[k / 2] = other | (k % 2 ? number << 16 : number);
    }
};

// One to a register.
template <int COUNT>
struct Whole {
    Key numbers[COUNT];

    __device__ __forceinline__ Key get(int k) const { return numbers[k]; }
    __device__ __forceinline__ void set(int k, Key number) { numbers[k] = number; }
};

#if KEEPS_KEYS
// In pairs, no more are read together than there are registers for besides.
#if IN_PAIRS
typedef Halves<HELD> KeptKeys;
#define READ_TOGETHER BATCH
#else
typedef Whole<HELD> KeptKeys;
#define READ_TOGETHER HELD
#endif
#endif

struct Entries {
#if KEEPS_KEYS
    typedef Pattern<(HELD > 32 ? 64 : 32)>::Bits Bits;
#endif
    const Value* row;
    const bool* where;
    int n;
    int thread;
#if KEEPS_KEYS
    KeptKeys keys;
    Bits counting;  // one for each: whether it is no NaN, and the mask has it
#endif

    __device__ __forceinline__ Entries(const Value* rows, const bool* wheres, u32 r, int size, int own)
        : row(rows + (i64)r * size), where(wheres + (i64)r * size), n(size), thread(own) {
#if KEEPS_KEYS
        counting = 0;
#pragma unroll
        for (int first = 0; first < HELD; first += READ_TOGETHER) {
            Value bits[READ_TOGETHER];
#pragma unroll
            for (int k = 0; k < READ_TOGETHER; ++k) bits[k] = bits_near(index(first + k));
#pragma unroll
            for (int k = 0; k < READ_TOGETHER; ++k) {
                keys.set(first + k, key_of(bits[k]));
                if (counts(index(first + k), bits[k])) counting |= (Bits)1 << (first + k);
            }
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

#if KEEPS_KEYS
    __device__ __forceinline__ bool counts(int k) const { return (bool)(counting >> k & 1); }
    __device__ __forceinline__ u32 n_counting() const { return (u32)__popcll(counting); }
#endif

    // visit(k, index, key, whether it counts), for all lanes of a warp together.
    template <class Visit>
    __device__ __forceinline__ void each(Visit visit) {
        forget(thread);
#if KEEPS_KEYS
#pragma unroll
        for (int k = 0; k < HELD; ++k) {
            if (k * THREADS >= n) break;
            visit(k, index(k), keys.get(k), counts(k));
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
