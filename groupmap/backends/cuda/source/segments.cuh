// Segments of the slots that are put in order by comparing: what two levels of buckets left close
// together. Rows of ordinary data have none, or only such as hold one value many times.
//
// The host defines ORDERED, whether equal keys go in order of appearance, and INDEX_BITS for that.

typedef Pattern<INDEX_BITS>::Bits Index;

struct Slots {
    Key* keys;
#if ORDERED
    Index* indices;
#endif

    __device__ __forceinline__ bool is_after(int a, int b) const {
#if ORDERED
        return keys[a] > keys[b] || (keys[a] == keys[b] && indices[a] > indices[b]);
#else
        return keys[a] > keys[b];
#endif
    }

    __device__ __forceinline__ void put_in_order(int a, int b) const {
        if (!is_after(a, b)) return;
        const Key key = keys[a];
        keys[a] = keys[b];
        keys[b] = key;
#if ORDERED
        const Index index = indices[a];
        indices[a] = indices[b];
        indices[b] = index;
#endif
    }

    // The first slot in begin ... end, sorted, whose key is not below `key` (or is above it).
    __device__ __forceinline__ int search(int begin, int end, Key key, bool above) const {
        while (begin < end) {
            const int middle = begin + ((end - begin) >> 1);
            if (keys[middle] < key || (above && keys[middle] == key)) begin = middle + 1;
            else end = middle;
        }
        return begin;
    }
};

template <class Barrier>
__device__ __forceinline__ void sort_segment(
    Slots slots, int begin, int size, int worker, int workers, Barrier sync) {
    sort_by([&](int a, int b) { slots.put_in_order(begin + a, begin + b); }, size, worker, workers, sync);
}
