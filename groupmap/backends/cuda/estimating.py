"""The estimates of the gradient: transport, for rows in sorted order, and affine."""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from typing import NamedTuple

from groupmap.backends._ops import Formula
from groupmap.backends.cuda import launching
from groupmap.backends.cuda.launching import Place, Shape, rounded_up
from groupmap.backends.cuda.programs import Numbers, Program
from groupmap.backends.cuda.requests import kind_and_parameter

MOST_THREADS = 1024
ENTRIES_PER_THREAD = 8
WARP, TEAMS_OF_WARPS, LONGEST_OF_A_WARP = 32, 4, 512
LEAST_BLOCKS_OF_WARPS = 24  # with registers on a multiprocessor; larger blocks: 1024 threads
BYTES_OF_TOTALS = 24  # a warp
ALIGNMENT = 16
BLOCKS_PER_MULTIPROCESSOR = 2  # of rows too long for shared memory
MOST_IN_RUNS = 2**16 - 1  # entries, of whose runs 16 bits tell where they begin and end


class Addresses(NamedTuple):
    """Where the arrays of one launch lie; 0 for those that are not there."""

    x: int
    grad: int
    order: int
    excluded: int
    mid_quantiles: int
    result: int
    scratch: int


class Lent(IntEnum):
    """Which arrays of a row lie in global memory, as shared memory has no room for them."""

    NOTHING = 0
    ALL_BUT_SUMS = 1
    ALL = 2


class Plan(NamedTuple):
    """How many blocks of how many threads, and where they keep the arrays of a row."""

    blocks: int
    threads: int
    shared_bytes: int
    lent: Lent = Lent.NOTHING
    scratch_bytes: int = 0  # a block's

    @property
    def all_scratch_bytes(self) -> int:
        """What has to be lent to the launch."""
        return self.blocks * self.scratch_bytes


def plan_for(n_rows: int, n: int, values: Numbers, device: int) -> Plan:
    """How rows of n entries are dealt with on a device."""
    threads = _threads_for(n)
    room, multiprocessors = launching.limits_of(device)
    partials = BYTES_OF_TOTALS * (threads // WARP)
    # In the order of source/transport.cu: sums, then x and v.
    sums, others = 8 * (n + 1), 2 * n * (8 if values.bits == 64 else 4)
    if partials + sums + others <= room:
        return Plan(n_rows, threads, partials + sums + others)
    if partials + sums <= room and n <= MOST_IN_RUNS:
        lent = rounded_up(others + 4 * n, ALIGNMENT)  # with the runs
        blocks = min(n_rows, multiprocessors)
        return Plan(blocks, threads, partials + sums, Lent.ALL_BUT_SUMS, lent)
    blocks = min(n_rows, BLOCKS_PER_MULTIPROCESSOR * multiprocessors)
    return Plan(blocks, threads, partials, Lent.ALL, rounded_up(sums + others, ALIGNMENT))


def transport(
    addresses: Addresses,
    plan: Plan,
    n_rows: int,
    n: int,
    values: Numbers,
    results: Numbers,
    quantile_stride: int,
    window: int | None,
    floor: float,
    formula: Formula | None,
    place: Place,
) -> None:
    """J·dL/dy of each row; mid-quantiles are doubles, a row for all (stride 0) or one each."""
    program = _transport_program(values, results, plan.threads, plan.lent)
    kind, parameter = kind_and_parameter(formula)
    launching.launch(
        program,
        Shape(plan.blocks, plan.threads, plan.shared_bytes),
        place,
        (
            *addresses, n_rows, n, quantile_stride, min(window or 0, n), plan.scratch_bytes, kind,
            parameter, float(floor),
        ),
    )  # fmt: skip


@cache
def _transport_program(values: Numbers, results: Numbers, threads: int, lent: Lent) -> Program:
    names = (
        *values.as_values(), *results.as_results(), ("THREADS", threads), ("LENT", int(lent)),
        *((f"LENT_{each.name}", int(each)) for each in Lent),
        ("LEAST_BLOCKS", LEAST_BLOCKS_OF_WARPS if threads == WARP else MOST_THREADS // threads),
    )  # fmt: skip
    return Program("transport", ("transport.cu",), names)


def _threads_for(n: int) -> int:
    threads = WARP
    while threads < MOST_THREADS and n > ENTRIES_PER_THREAD * threads:
        threads *= 2
    return threads


class AffineAddresses(NamedTuple):
    """Likewise of the affine estimate."""

    x: int
    y: int
    grad: int
    excluded: int
    result: int


def affine(
    addresses: AffineAddresses,
    n_rows: int,
    n: int,
    values: Numbers,
    results: Numbers,
    place: Place,
) -> None:
    """s·(I − Π)·dL/dy of each row."""
    threads, teams = WARP, TEAMS_OF_WARPS
    if n > LONGEST_OF_A_WARP:
        threads, teams = _threads_for(n), 1
    launching.launch(
        _affine_program(values, results, threads, teams),
        Shape(-(-n_rows // teams), threads * teams, 8 * teams * (threads // WARP + 1)),
        place,
        (*addresses, n_rows, n),
    )


@cache
def _affine_program(values: Numbers, results: Numbers, threads: int, teams: int) -> Program:
    names = (*values.as_values(), *results.as_results(), ("THREADS", threads), ("TEAMS", teams))
    return Program("affine", ("affine.cu",), names)
