// Buckets of more than CROWDED keys are sorted before they are searched: small ones by a warp each,
// the others by the team. Unless all of it is equal and the order is not wanted.
//
// The host defines CROWDED and LONGEST_OF_WARP.

struct Crowds {
    u32 count;
    u32 are_sorted;  // whether any bucket was, which entries that go by slots want to know
};

// Whether all keys of a segment are one; asked by `workers` of the team, of which this is one.
template <class Any>
__device__ __forceinline__ bool is_constant(
    const Slots& slots, Span span, int worker, int workers, Any any) {
    bool differs = false;
    for (int i = span.begin + worker; i < span.end; i += workers) {
        differs |= slots.keys[i] != slots.keys[span.begin];
    }
    return !any(differs);
}

// `crowded` is room for their numbers; of `crowds`, all is zero at first.
__device__ __forceinline__ void sort_crowded(
    Slots slots, Cursors cursors, int n, u16* crowded, Crowds& crowds, int thread) {
    for (int bucket = thread; bucket < n; bucket += THREADS) {
        const Span span = cursors.span(bucket);
        if (span.end - span.begin > CROWDED) crowded[atomicAdd(&crowds.count, 1u)] = (u16)bucket;
    }
    team_sync();
    const int lane = thread % 32, most = (int)crowds.count;
    for (int k = thread / 32; k < most; k += WARPS) {
        const Span span = cursors.span(crowded[k]);
        const int size = span.end - span.begin;
        const bool is_done = (!IS_WARP && size > LONGEST_OF_WARP) ||
                             (!ORDERED && is_constant(slots, span, lane, 32, AnyOfWarp()));
        if (is_done) continue;
        if (lane == 0) atomicOr(&crowds.are_sorted, 1u);
        sort_segment(slots, span.begin, size, lane, 32, WarpBarrier());
    }
#if !IS_WARP
    for (int k = 0; k < most; ++k) {
        const Span span = cursors.span(crowded[k]);
        const int size = span.end - span.begin;
        if (size <= LONGEST_OF_WARP) continue;
        if (!ORDERED && is_constant(slots, span, thread, THREADS, AnyOfTeam())) continue;
        if (thread == 0) atomicOr(&crowds.are_sorted, 1u);
        sort_segment(slots, span.begin, size, thread, THREADS, TeamBarrier());
    }
#endif
    team_sync();
}
