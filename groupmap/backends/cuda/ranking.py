"""Rank rows and write the values of a table at their ranks: which kernels, and with what room."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

from groupmap.backends._ops import FORMULAS, Formula, TieRule
from groupmap.backends.cuda import launching
from groupmap.backends.cuda.launching import Place, Shape
from groupmap.backends.cuda.programs import Names, Numbers, Program

FILES_OF_LONG = ("rows.cuh", "segments.cuh", "buckets.cuh")
OF_BUCKETS, OF_BITS = "map_rows", "map_rows_of_16_bits"
FILES_OF_RESULTS = ("entries.cuh", "sums.cuh", "results.cuh", "cursors.cuh")
FILES = {
    OF_BUCKETS: ("segments.cuh", "ranking.cuh", "crowds.cuh", "map.cu"),
    OF_BITS: ("distinct.cu",),
}

MOST_COUNTED = 2**16 - 1  # by a counter of 16 bits
CROWDED = 12  # keys of one bucket that are looked at one by one
WARP = 32
BYTES_OF_PARTIALS = 24  # a warp

# Rows in shared memory.
LONGEST_OF_WARP = 512  # the bucket that one warp sorts
LEAST_LOG_BINS, GREATEST_LOG_BINS = 7, 10
LOG_BINS_MORE, LOG_BINS_MORE_OF_DOUBLES = 0, 3  # than there are entries
GREATEST_LOG_BINS_OF_DOUBLES = 11  # their exponents have more bits
MOST_UNDER_WAY = 4  # entries that a thread reads, or writes, at a time
MOST_KEPT, MOST_KEPT_OF_DOUBLES = 16, 8  # entries whose keys a thread keeps in registers
HELD_BY_WARPS = (4, 8, 16)  # likewise, where a row is a warp's
FEW_THREADS, MOST_THREADS = 128, 1024
LEAST_BLOCKS = 6  # of few threads, that a multiprocessor has registers for
TEAMS_OF_WARPS = 4  # in a block

# Rows of numbers of 8 or 16 bits, of which there is a bit for each.
LEAST_OF_BITS = 513  # shorter ones are sooner ranked than all bits are counted up
LONGEST_OF_BITS = 2**15  # of which 1024 threads can keep all in registers

# Rows in global memory.
LONG_THREADS, LONG_TILE, LONG_LOG_BINS = 256, 4096, 12
BLOCKS_THAT_SORT = 16  # a row
BYTES_OF_INDEX = 4
BYTES_OF_STATE = 32
LONGEST = 2**29  # what a bitonic sort of one bucket counts in 32 bits

NO_FORMULA = -1
IN_ORDER_OF_APPEARANCE = (0, 0, 2)  # what h weighs: #(<), #(≤) − 1, and the place among all


class Addresses(NamedTuple):
    """Where the arrays of one call lie; 0 for those that are not there."""

    rows: int
    where: int
    table: int
    weight: int
    bias: int
    values: int
    order: int
    less: int
    less_equal: int


class Spans(NamedTuple):
    """Which weight and bias serve the entry (r, i) of rows; see `Scale` in source/rows.cuh."""

    each_rows: int = 1
    own_rows: int = 1
    each_entries: int = 1
    own_entries: int = 1


class Request(NamedTuple):
    """What is asked of the rows, besides where they lie."""

    n_rows: int
    n: int
    values: Numbers
    table: Numbers
    results: Numbers
    tie_rule: TieRule | None
    formula: Formula | None
    parameters: tuple[float, float]
    spans: Spans | None = None  # where there is a weight or a bias

    def program(self, kernel: str, files: tuple[str, ...], names: Names) -> Program:
        """The kernel of those files for such numbers; `names` are its own."""
        is_scaled = self.spans is not None
        return _program(kernel, files, names, self.values, self.table, self.results, is_scaled)

    def ways(self) -> tuple[int | float, ...]:
        """How ranks become values, in the order of RESULTS in source/results.cuh."""
        each_rows, own_rows, each_entries, own_entries = self.spans or Spans()
        reciprocal = -(-(2**62) // each_entries)
        weights = IN_ORDER_OF_APPEARANCE if self.tie_rule is None else (*self.tie_rule, 0)
        formula = kind_and_parameter(self.formula)
        parameters = map(float, self.parameters)
        return (each_rows, own_rows, own_entries, reciprocal, *weights, *formula, *parameters)

    def arguments(self) -> tuple[int | float, ...]:
        """How ranks become values, in the order of all the kernels."""
        weights = IN_ORDER_OF_APPEARANCE if self.tie_rule is None else (*self.tie_rule, 0)
        formula = kind_and_parameter(self.formula)
        return (*(self.spans or Spans()), *weights, *formula, *map(float, self.parameters))


class Plan(NamedTuple):
    """How rows of n entries are shared out among threads."""

    kernel: str
    threads: int
    teams: int
    held: int  # entries a thread, at most
    keeps_keys: bool  # or reads them again and again
    log_bins: int
    bytes_per_team: int

    @property
    def shared_bytes(self) -> int:
        """What a block needs."""
        return self.teams * self.bytes_per_team

    def names(self) -> Names:
        """What programs are told of it."""
        of_warps = self.threads == WARP
        few = self.threads <= FEW_THREADS
        most, blocks = (FEW_THREADS, LEAST_BLOCKS) if few else (MOST_THREADS, 1)
        return (
            *((("THREADS", WARP),) if of_warps else ()),
            ("TEAMS", self.teams),
            *(("MOST_THREADS", most), ("LEAST_BLOCKS", blocks)),
            ("HELD", self.held),
            ("KEEPS_KEYS", int(self.keeps_keys)),
            ("BATCH", MOST_UNDER_WAY),
        )


@cache
def plan_for(n: int, values: Numbers, *, ordered: bool) -> Plan:
    """How rows of n entries are ranked in shared memory; it may be more than a device has."""
    more, greatest = LOG_BINS_MORE, GREATEST_LOG_BINS
    if values.bits == 64:
        more, greatest = LOG_BINS_MORE_OF_DOUBLES, GREATEST_LOG_BINS_OF_DOUBLES
    log_bins = min(max((n - 1).bit_length() + more, LEAST_LOG_BINS), greatest)
    most_kept = MOST_KEPT_OF_DOUBLES if values.bits == 64 else MOST_KEPT
    threads, held = _threads_and_held(n, most_kept)
    keeps_keys = held <= most_kept
    # In the order of `Layout` in source/map.cu.
    parts = (
        _aligned(4 * (2**log_bins + (n if keeps_keys else n // 2 + 1))),
        BYTES_OF_PARTIALS * (threads // WARP),
        n * _bytes_of_key(values),
        4 * -(-n // 32),
        2 * n if ordered else 0,
    )
    teams = TEAMS_OF_WARPS if threads == WARP else 1
    return Plan(OF_BUCKETS, threads, teams, held, keeps_keys, log_bins, _aligned(sum(parts)))


@cache
def plan_of_bits(n: int, values: Numbers) -> Plan:
    """How rows of n entries of 8 or 16 bits are; likewise."""
    threads, held = _threads_and_held(n, MOST_KEPT)
    words = 2**values.bits // 32
    # In the order of source/distinct.cu.
    parts = (4 * words, 4 * _in_fours(n), 2 * words, BYTES_OF_PARTIALS * (threads // WARP))
    return Plan(OF_BITS, threads, 1, held, True, 0, _aligned(sum(parts)))


def _threads_and_held(n: int, most_kept: int) -> tuple[int, int]:
    """A warp, as many as keep that many entries each, or else all there are."""
    each = -(-n // WARP)
    if each <= most_kept:
        return WARP, min(held for held in HELD_BY_WARPS if held >= each)
    warps = -(-each // most_kept)
    if warps <= MOST_THREADS // WARP:
        return WARP * warps, most_kept
    return MOST_THREADS, _in_fours(-(-n // MOST_THREADS))


def fits(n: int, values: Numbers, device: int, *, ordered: bool) -> bool:
    """Whether a row of n entries fits into the shared memory of a block there."""
    room, _ = launching.limits_of(device)
    return _plan_within(room, n, values, ordered=ordered) is not None


@cache
def _plan_within(room: int, n: int, values: Numbers, *, ordered: bool) -> Plan | None:
    """The plan for rows of n entries that suits best, if any needs no more shared memory."""
    has_bits = values.bits <= 16 and not ordered and LEAST_OF_BITS <= n <= LONGEST_OF_BITS
    plans = [plan_of_bits(n, values)] if has_bits else []
    if n <= MOST_COUNTED:
        plans.append(plan_for(n, values, ordered=ordered))
    return next((plan for plan in plans if plan.shared_bytes <= room), None)


def scratch_bytes(request: Request, device: int, *, ordered: bool) -> tuple[int, int]:
    """What has to be lent to `map_rows`: so many bytes that are zero, and so many others."""
    n_rows, n, values = request.n_rows, request.n, request.values
    if fits(n, values, device, ordered=ordered):
        return 0, 0
    zeros = BYTES_OF_STATE + 4 * (2**LONG_LOG_BINS + 1) + 4 * (n + 1)
    slot = _bytes_of_key(values) + (BYTES_OF_INDEX if ordered else 0)
    return n_rows * zeros, n_rows * (n * slot + 4 * (n // CROWDED + 1))


def map_rows(
    at: Addresses, request: Request, place: Place, *, zeros: int = 0, scratch: int = 0
) -> None:
    """``table[h]·weight + bias`` of each entry, and what else has an address.

    NaN where an entry is NaN or masked; its row evaluates the formula at its own n. The order of a
    row names the entries that count, ascending, and then −1 for each of the others.
    """
    ordered = request.tie_rule is None or at.order != 0
    n, values = request.n, request.values
    room, _ = launching.limits_of(place.device)
    plan = _plan_within(room, n, values, ordered=ordered)
    if plan is not None:
        _in_shared_memory(at, request, plan, place, ordered=ordered)
    else:
        _in_global_memory(at, request, place, zeros, scratch, ordered=ordered)


class Asked(NamedTuple):
    """Which arrays there are, for which the programs are made."""

    ordered: bool
    masked: bool
    counted: bool
    weighted: bool
    biased: bool

    def names(self) -> Names:
        """What programs are told of it."""
        return tuple((name.upper(), int(value)) for name, value in self._asdict().items())


def _in_shared_memory(
    at: Addresses, request: Request, plan: Plan, place: Place, *, ordered: bool
) -> None:
    asked = Asked(ordered, at.where != 0, at.less != 0, at.weight != 0, at.bias != 0)
    program, shape, how = _prepared(request, plan, asked)
    launching.launch(program, shape, place, (*at[:2], request.n_rows, request.n, *at[2:], *how))


@lru_cache(maxsize=1024)  # the same shapes come again and again
def _prepared(
    request: Request, plan: Plan, asked: Asked
) -> tuple[Program, Shape, tuple[int | float, ...]]:
    """All that does not depend on where the arrays lie."""
    names = (
        *plan.names(),
        *asked.names(),
        ("PER_ENTRY", int((request.spans or Spans()).each_entries == 1)),
        ("INDEX_BITS", 16),
        ("LONGEST_OF_WARP", LONGEST_OF_WARP),
    )
    return (
        request.program(plan.kernel, (*FILES_OF_RESULTS, *FILES[plan.kernel]), names),
        Shape(-(-request.n_rows // plan.teams), plan.threads * plan.teams, plan.shared_bytes),
        (*request.ways(), plan.log_bins, plan.bytes_per_team),
    )


def _in_global_memory(
    at: Addresses, request: Request, place: Place, zeros: int, scratch: int, *, ordered: bool
) -> None:
    n_rows, n, n_bins = request.n_rows, request.n, 2**LONG_LOG_BINS
    names = (
        ("THREADS", LONG_THREADS),
        ("TILE", LONG_TILE),
        ("BATCH", MOST_UNDER_WAY),
        ("LOG_BINS", LONG_LOG_BINS),
        ("BYTES_OF_STATE", BYTES_OF_STATE),
        ("ORDERED", int(ordered)),
        ("INDEX_BITS", 8 * BYTES_OF_INDEX),
    )
    bins = zeros + n_rows * BYTES_OF_STATE
    cursors = bins + n_rows * 4 * (n_bins + 1)
    bytes_of_key = _bytes_of_key(request.values)
    bytes_of_index = BYTES_OF_INDEX if ordered else 0
    indices = scratch + n_rows * n * bytes_of_key
    crowded = indices + n_rows * n * bytes_of_index
    rows = (at.rows, at.where, zeros, bins, cursors, scratch, indices, crowded, n)

    def launch(kernel: str, blocks: int, shared_bytes: int, *arguments: int | float) -> None:
        shape = Shape(blocks, LONG_THREADS, shared_bytes)
        program = request.program(kernel, (*FILES_OF_LONG, "long.cu"), names)
        launching.launch(program, shape, place, (*rows, *arguments))

    tiles = n_rows * -(-n // LONG_TILE)
    partials = _bytes_of_partials(LONG_THREADS)
    launch("find_extremes", tiles, partials)
    launch("fill_bins", tiles, 4 * n_bins)
    launch("sum_up_bins", n_rows, partials)
    launch("fill_buckets", tiles, 0)
    launch("sum_up_buckets", -(-n_rows * n_bins * WARP // LONG_THREADS), 0, n_rows)
    launch("fill_slots", tiles, 0)
    slot = bytes_of_key + bytes_of_index
    room = (launching.SHARED_MEMORY_UNASKED - partials) // slot
    launch(
        "sort_crowded", n_rows * BLOCKS_THAT_SORT, partials + room * slot, BLOCKS_THAT_SORT, room
    )
    launch("write_results", tiles, 0, *at[2:], *request.arguments())


@cache
def _program(
    kernel: str,
    files: tuple[str, ...],
    names: Names,
    values: Numbers,
    table: Numbers,
    results: Numbers,
    is_scaled: bool,
) -> Program:
    numbers = (*values.as_values(), *table.as_table(), *results.as_results())
    shared = (("CROWDED", CROWDED), ("SCALED", int(is_scaled)))
    return Program(kernel, files, (*numbers, *shared, *names))


def kind_and_parameter(formula: Formula | None) -> tuple[int, float]:
    """A formula as kernels know it."""
    if formula is None:
        return NO_FORMULA, 0.0
    return FORMULAS.index(formula.name), float(formula.parameter)


def _bytes_of_partials(threads: int) -> int:
    return 8 * (threads // WARP + 1)


def _bytes_of_key(values: Numbers) -> int:
    return max(values.bits // 8, 4)


def _aligned(size: int) -> int:
    return -(-size // 16) * 16


def _in_fours(size: int) -> int:
    return -(-size // 4) * 4
