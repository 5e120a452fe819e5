"""Rank rows that do not fit into shared memory: which kernels, and with what room."""

from __future__ import annotations

from groupmap.backends.cuda import launching
from groupmap.backends.cuda.launching import Place, Shape, rounded_up
from groupmap.backends.cuda.partitions import WARP, Plan, plan_for
from groupmap.backends.cuda.programs import Names, Numbers
from groupmap.backends.cuda.requests import Addresses, Asked, Request

UNDER_WAY = 4  # entries that a thread reads at a time
LEAST_STRETCH, MOST_STRETCH = 4096, 2**15  # entries that a block looks at
BLOCKS_PER_MULTIPROCESSOR = 2

# Rows that are dealt to partitions.
FILES_OF_PARTITIONS = (
    "sums.cuh", "scale.cuh", "results.cuh", "stretches.cuh", "long_rows.cuh", "long_bins.cu",
    "partitions.cu", "segment_slots.cuh", "segments.cu", "hard_segment.cuh", "exact_bins.cuh",
    "bitonic.cuh", "sorted_slots.cuh", "hard_segments.cu",
)  # fmt: skip
BYTES_OF_STATE = 32

# What is mapped and not yet scaled.
FILES_OF_SCALING = ("sums.cuh", "scale.cuh", "results.cuh", "scaled_rows.cu")
THREADS_THAT_SCALE = 256

# Rows whose numbers have a counter each.
FILES_OF_COUNTERS = ("sums.cuh", "scale.cuh", "results.cuh", "stretches.cuh", "counted_keys.cu")
THREADS_THAT_COUNT = 1024
MOST_COUNTED = 2**16 - 1  # by a counter of 16 bits


def scratch_bytes(request: Request, device: int, *, ordered: bool) -> tuple[int, int]:
    """What has to be lent to `map_rows`: so many bytes that are zero, and so many others."""
    if _has_counters(request.values, device, ordered=ordered):
        counting = _CountersInScratch(request)
        return counting.zeros, counting.others
    parts = _PartsOfScratch(request, plan_for(request.values, device))
    return parts.zeros, sum(parts.others)


def map_rows(
    at: Addresses, request: Request, place: Place, zeros: int, scratch: int, *, ordered: bool
) -> None:
    """As `ranking.map_rows` does, of rows of any length."""
    if _has_counters(request.values, place.device, ordered=ordered):
        _count_keys(at, request, place, zeros, scratch)
    elif _is_scaled_apart(at, request):
        unscaled = at._replace(weight=0, bias=0)
        _deal_to_partitions(unscaled, request, place, zeros, scratch, ordered=ordered)
        _scale(at, request, place)
    else:
        _deal_to_partitions(at, request, place, zeros, scratch, ordered=ordered)


def _is_scaled_apart(at: Addresses, request: Request) -> bool:
    """Whether it is sooner done where entries lie one after the other than where ranks do, so that
    each would fetch a weight from elsewhere; and whether the results hold what is unscaled."""
    spans = request.spans if at.weight or at.bias else None
    return spans is not None and spans.each_entries == 1 and request.results == request.table


class _PartsOfScratch:
    """What all rows that are dealt to partitions need of memory."""

    def __init__(self, request: Request, plan: Plan) -> None:
        n_rows, n = request.n_rows, request.n
        partitions = plan.partitions(n)
        # A word that counts hard segments, states, and bins.
        self.zeros = 16 + n_rows * (BYTES_OF_STATE + 4 * plan.stride_of_bins)
        # In the order of `LongRows` in source/long_rows.cuh.
        bytes_of_key = min(max(request.values.bits, 16), 64) // 8
        self.others = tuple(
            rounded_up(n_rows * size, 16)
            for size in (
                4 * partitions * plan.tiles(n), 4 * partitions, 4 * partitions, bytes_of_key * n,
                4 * n,
            )
        )  # fmt: skip

    def addresses(self, n_rows: int, zeros: int, scratch: int) -> tuple[int, ...]:
        """Where they lie."""
        at = [zeros, zeros + 16, zeros + 16 + n_rows * BYTES_OF_STATE]
        for size in self.others:
            at.append(scratch)
            scratch += size
        return tuple(at)


def _deal_to_partitions(
    at: Addresses, request: Request, place: Place, zeros: int, scratch: int, *, ordered: bool
) -> None:
    n_rows, n = request.n_rows, request.n
    plan = plan_for(request.values, place.device)
    partitions = plan.partitions(n)
    names = (
        *_names_of_results(at, request, ordered=ordered),
        *plan.names(ordered=ordered),
        ("BYTES_OF_STATE", BYTES_OF_STATE),
    )
    rows = (
        *at[:2],
        *_PartsOfScratch(request, plan).addresses(n_rows, zeros, scratch),
        n, partitions, plan.log_partition(n),
    )  # fmt: skip

    def launch(kernel: str, blocks: int, shared_bytes: int, *arguments: int | float) -> None:
        program = request.program(kernel, FILES_OF_PARTITIONS, names)
        shape = Shape(blocks, plan.threads, shared_bytes)
        launching.launch(program, shape, place, (*rows, *arguments))

    stretch = _stretch(n_rows, n, place.device)
    stretches = n_rows * -(-n // stretch)
    launch("find_extremes", stretches, plan.bytes_of_partials, stretch)
    launch("fill_bins", stretches, 4 << plan.log_bins, stretch)
    launch("sum_up_bins", n_rows, plan.bytes_of_partials)
    tiles = n_rows * plan.tiles(n)
    launch("count_partitions", tiles, 4 * (plan.stride_of_bins + partitions))
    launch("sum_up_tiles", n_rows * -(-partitions // WARP), 4 * plan.threads)
    to_deal = plan.bytes_to_deal(partitions, ordered=ordered)
    launch("fill_partitions", tiles, to_deal, at.values, at.order)
    results = (*at[2:], *request.ways())
    launch("rank_segments", n_rows * partitions, plan.bytes_to_rank, *results)
    _, multiprocessors = launching.limits_of(place.device)
    launch(
        "rank_hard_segments", min(n_rows * partitions, BLOCKS_PER_MULTIPROCESSOR * multiprocessors),
        plan.bytes_to_rank_hard(ordered=ordered), *results,
    )  # fmt: skip


def _scale(at: Addresses, request: Request, place: Place) -> None:
    n_rows, n = request.n_rows, request.n
    names = (*_names_of_results(at, request, ordered=False), ("THREADS", THREADS_THAT_SCALE))
    program = request.program("scale_rows", FILES_OF_SCALING, names)
    stretch = _stretch(n_rows, n, place.device)
    shape = Shape(n_rows * -(-n // stretch), THREADS_THAT_SCALE, 0)
    launching.launch(program, shape, place, (n, stretch, *at[2:], *request.ways()))


def _has_counters(values: Numbers, device: int, *, ordered: bool) -> bool:
    """Whether there is room for a counter for each number, and nothing is asked that needs more."""
    room, _ = launching.limits_of(device)
    return values.bits <= 16 and not ordered and _bytes_to_count(values) <= room


def _bytes_to_count(values: Numbers) -> int:
    return (2 << values.bits) + 4 * THREADS_THAT_COUNT // WARP


class _CountersInScratch:
    """What all rows whose keys are counted need of memory."""

    def __init__(self, request: Request) -> None:
        keys = 1 << request.values.bits
        self.presents = rounded_up(4 * request.n_rows, 16)
        self.zeros = self.presents + 4 * request.n_rows * (keys + 4)
        self.others = request.n_rows * keys * request.table.bits // 8


def _count_keys(at: Addresses, request: Request, place: Place, zeros: int, scratch: int) -> None:
    n_rows, n = request.n_rows, request.n
    names = (
        *_names_of_results(at, request, ordered=False),
        ("THREADS", THREADS_THAT_COUNT),
    )

    def launch(
        kernel: str, blocks: int, shared_bytes: int, stretch: int, *arguments: int | float
    ) -> None:
        program = request.program(kernel, FILES_OF_COUNTERS, names)
        shape = Shape(blocks, THREADS_THAT_COUNT, shared_bytes)
        counters = zeros + _CountersInScratch(request).presents
        rows = (*at[:2], zeros, counters, scratch, n, stretch)
        launching.launch(program, shape, place, (*rows, *arguments))

    results = (*at[2:], *request.ways())
    to_count = min(n, MOST_COUNTED)
    launch("count_keys", n_rows * -(-n // to_count), _bytes_to_count(request.values), to_count)
    launch("sum_up_keys", n_rows, 4 * THREADS_THAT_COUNT // WARP, n, *results)
    to_write = _stretch(n_rows, n, place.device)
    launch("write_by_keys", n_rows * -(-n // to_write), 0, to_write, *results)


def _names_of_results(at: Addresses, request: Request, *, ordered: bool) -> Names:
    return (*Asked.of(at, ordered=ordered).names(request), ("BATCH", UNDER_WAY))


def _stretch(n_rows: int, n: int, device: int) -> int:
    """Entries that a block looks at: many, but where that leaves blocks for all of the device."""
    _, multiprocessors = launching.limits_of(device)
    even = n_rows * n // (2 * BLOCKS_PER_MULTIPROCESSOR * multiprocessors)
    return min(max(1 << even.bit_length(), LEAST_STRETCH), MOST_STRETCH)
