// Buckets of more than CROWDED keys are sorted before they are searched: small ones by a warp each,
// the others by the team. Unless all of it is equal and the order is not wanted.
//
// The host defines CROWDED and LONGEST_OF_WARP.

struct Crowds {
    Slots slots;
    Cursors cursors;
    u32* unsorted;  // a bit for each bucket; none is set at first

    // By each key that counts.
    __device__ __forceinline__ void note(u32 bucket, Key key) const {
        const Span span = cursors.span(bucket);
        if (span.end - span.begin <= CROWDED) return;
        if (ORDERED || key != slots.keys[span.begin]) {
            atomicOr(unsorted + bucket / 32, 1u << bucket % 32);
        }
    }

    // visit(span) for each that is unsorted, in the order of the words that this worker has.
    template <class Visit>
    __device__ __forceinline__ void each(int n, int worker, int workers, Visit visit) const {
        for (int word = worker; word < (n + 31) / 32; word += workers) {
            for (u32 left = unsorted[word]; left; left &= left - 1) {
                visit(cursors.span(32 * word + __ffs((int)left) - 1));
            }
        }
    }

    __device__ __forceinline__ void sort(int n, int thread) const {
        each(n, thread / 32, WARPS, [&](Span span) {
            const int size = span.end - span.begin;
            if (!IS_WARP && size > LONGEST_OF_WARP) return;
            sort_segment(slots, span.begin, size, thread % 32, 32, WarpBarrier());
        });
#if !IS_WARP
        each(n, 0, 1, [&](Span span) {
            const int size = span.end - span.begin;
            if (size <= LONGEST_OF_WARP) return;
            sort_segment(slots, span.begin, size, thread, THREADS, TeamBarrier());
        });
#endif
        team_sync();
    }
};
