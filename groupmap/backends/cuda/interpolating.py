"""Lines through the knots of fitted cdfs, and order statistics: how the work is shared out."""

from __future__ import annotations

from typing import NamedTuple

from groupmap.backends.cuda import launching
from groupmap.backends.cuda.launching import Place, Shape
from groupmap.backends.cuda.programs import Names, Numbers, Program

FILES = ("knots.cu",)
ON_RUNS = {"middle": 0, "first": 1, "last": 2}  # as source/knots.cu knows them
LEAST_THREADS, MOST_THREADS = 32, 256
LEAST_ENTRIES_PER_THREAD = 4
BLOCKS_PER_MULTIPROCESSOR = 16
MOST_SHARED_KNOTS = 4096  # more would leave few blocks to a multiprocessor
MOST_KNOTS = 2**30
MOST_BLOCKS = 4096


class Addresses(NamedTuple):
    """Where the arrays of one launch lie."""

    x: int
    knots: int
    values: int
    y: int


class Plan(NamedTuple):
    """How rows of x are shared out among blocks."""

    threads: int
    stretches: int  # of a row, a block each
    entries: int  # of a stretch
    log_step: int

    def shared_bytes(self, k: int) -> int:
        """What a block needs for one of every 2^log_step knots."""
        return 8 * (k >> self.log_step)


def plan_for(n_rows: int, n: int, k: int, device: int) -> Plan:
    """How n entries a row are best asked of k knots; none of the three is 0."""
    threads = LEAST_THREADS
    while threads < min(n, MOST_THREADS):
        threads *= 2
    _, multiprocessors = launching.limits_of(device)
    wanted = -(-BLOCKS_PER_MULTIPROCESSOR * multiprocessors // n_rows)
    most = -(-n // (LEAST_ENTRIES_PER_THREAD * threads))
    entries = -(-n // min(wanted, most))
    log_step = 0
    while k >> log_step > min(MOST_SHARED_KNOTS, entries):  # more than are asked for
        log_step += 1
    return Plan(threads, -(-n // entries), entries, log_step)


def interpolate(
    addresses: Addresses,
    n_rows: int,
    n: int,
    k: int,
    numbers: Numbers,
    on_runs: str,
    place: Place,
) -> None:
    """The line through knots and values, doubles ``(n_rows, k)``, at x ``(n_rows, n)``, to y."""
    plan = plan_for(n_rows, n, k, place.device)
    launching.launch(
        Program("interpolate", FILES, _names(numbers, plan.threads)),
        Shape(n_rows * plan.stretches, plan.threads, plan.shared_bytes(k)),
        place,
        (*addresses, n, k, plan.stretches, plan.entries, plan.log_step, ON_RUNS[on_runs]),
    )


def order_statistics(
    rows: int,
    index: int,
    y: int,
    n_indices: int,
    n: int,
    m: int,
    numbers: Numbers,
    place: Place,
) -> None:
    """The values of sorted rows of m at real indices, n a row and `n_indices` in all, to y."""
    blocks = min(-(-n_indices // MOST_THREADS), MOST_BLOCKS)
    launching.launch(
        Program("order_statistics", FILES, _names(numbers, MOST_THREADS)),
        Shape(blocks, MOST_THREADS, 0),
        place,
        (rows, index, y, n_indices, n, m),
    )


def _names(numbers: Numbers, threads: int) -> Names:
    # Results are doubles and there is no table; those names say something all the same.
    of_values, of_others = numbers.as_values(), (*numbers.as_table(), *numbers.as_results())
    return (*of_values, *of_others, ("THREADS", threads))
