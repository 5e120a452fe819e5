"""Rank rows and write the values of a table at their ranks: which kernel, and with what room."""

from __future__ import annotations

from typing import NamedTuple

from groupmap.backends._ops import FORMULAS, Formula, TieRule
from groupmap.backends.cuda import launching
from groupmap.backends.cuda.launching import Place, Shape
from groupmap.backends.cuda.programs import Numbers, Program

FILES = ("segments.cuh", "map.cu")
LONGEST = 2**16 - 1  # what counters of 16 bits count
CROWDED = 16  # keys of one bucket that are looked at one by one
LONGEST_OF_WARP = 512  # the bucket that one warp sorts
LEAST_LOG_BINS, GREATEST_LOG_BINS = 5, 11
ENTRIES_PER_THREAD = 16
MOST_THREADS = 1024
TEAMS_OF_WARPS = 4  # in a block
WARP = 32

NO_FORMULA = -1
IN_ORDER_OF_APPEARANCE = (0, 0, 2)  # what h weighs: #(<), #(≤) − 1, and the place among all


class Addresses(NamedTuple):
    """Where the arrays of one launch lie; 0 for those that are not there."""

    rows: int
    where: int
    table: int
    values: int
    order: int
    less: int
    less_equal: int


class Plan(NamedTuple):
    """How rows of n entries are shared out among threads."""

    threads: int
    teams: int
    log_bins: int
    bytes_per_team: int

    @property
    def shared_bytes(self) -> int:
        """What a block needs."""
        return self.teams * self.bytes_per_team


def plan_for(n: int, values: Numbers, *, ordered: bool) -> Plan:
    """How rows of n entries are best ranked; what they need may be more than a device has."""
    threads = WARP
    while threads < MOST_THREADS and n > ENTRIES_PER_THREAD * threads:
        threads *= 2
    if WARP < threads < 4 * WARP:
        threads = 4 * WARP  # a block of fewer would leave most of a multiprocessor idle
    log_bins = min(max((n - 1).bit_length() - 1, LEAST_LOG_BINS), GREATEST_LOG_BINS)
    warps = threads // WARP
    # In the order of `Layout` in source/map.cu.
    parts = (
        8 * (warps + 1),
        n * max(values.bits // 8, 4),
        4 * (2**log_bins + 1),
        4 * (n // 2 + 1),
        2 * (n // CROWDED + 1),
        2 * n if ordered else 0,
    )
    in_words_of_16 = -(-sum(parts) // 16) * 16
    return Plan(threads, TEAMS_OF_WARPS if threads == WARP else 1, log_bins, in_words_of_16)


def fits(n: int, values: Numbers, device: int, *, ordered: bool) -> bool:
    """Whether a row of n entries fits into the shared memory of a block there."""
    room, _ = launching.limits_of(device)
    return n <= LONGEST and plan_for(n, values, ordered=ordered).shared_bytes <= room


def map_rows(
    addresses: Addresses,
    n_rows: int,
    n: int,
    values: Numbers,
    results: Numbers,
    tie_rule: TieRule | None,
    formula: Formula | None,
    parameters: tuple[float, float],
    place: Place,
) -> None:
    """``table[h]`` of each entry, or NaN where it is NaN or masked; and what else has an address.

    Rows that miss entries evaluate the formula at `parameters` of their own n. The order of a row
    names the entries that count, ascending, and −1 for each of the others.
    """
    weights = IN_ORDER_OF_APPEARANCE if tie_rule is None else (*tie_rule, 0)
    ordered = tie_rule is None or addresses.order != 0
    plan = plan_for(n, values, ordered=ordered)
    program = Program(
        "map_rows",
        FILES,
        (
            *values.as_values(),
            *results.as_results(),
            ("THREADS", plan.threads),
            ("TEAMS", plan.teams),
            ("CROWDED", CROWDED),
            ("LONGEST_OF_WARP", LONGEST_OF_WARP),
            ("ORDERED", int(ordered)),
        ),
    )
    shape = Shape(-(-n_rows // plan.teams), plan.threads * plan.teams, plan.shared_bytes)
    kind, parameter = kind_and_parameter(formula)
    launching.launch(
        program,
        shape,
        place,
        (
            *addresses,
            n_rows,
            n,
            *weights,
            plan.log_bins,
            plan.bytes_per_team,
            kind,
            parameter,
            *parameters,
        ),
    )


def kind_and_parameter(formula: Formula | None) -> tuple[int, float]:
    """A formula as kernels know it."""
    if formula is None:
        return NO_FORMULA, 0.0
    return FORMULAS.index(formula.name), float(formula.parameter)
