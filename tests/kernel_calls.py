"""Ways to call the compiled kernels that no user has."""

from __future__ import annotations

import contextlib
from functools import cache

import numpy as np
import pytest
from numba import njit

from groupmap.backends._bits import as_bits, for_reading
from groupmap.backends.kernels import bins, long_row, rank, several_rows, threads
from groupmap.ranks import COUNTING_TIES
from tests.rows import ascending_order, counted_ranks_by_ties


@cache
def from_python(part):
    """A part of kernels, which only they may call, for Python to call."""

    @njit
    def call(*arguments):
        return part(*arguments)

    return call


def bits_to_read(x):
    """The bit patterns of rows as kernels are given them, for which they are compiled."""
    return for_reading(as_bits(x))


BUCKETS = ("together", "in batches", "shared, sparing memory")
ALL_BUCKETS = (
    *BUCKETS, "together, all counted", "in batches, sparing memory", "shared",
)  # fmt: skip


@contextlib.contextmanager
def all_in_buckets(how):
    """Rows of any length are dealt out, to short buckets: no test needs millions of entries.

    What comes back is a list that grows by whether most of some rows were crowded.
    """
    tries = []

    def noted(rank_rows):
        def rank_and_note(*arguments):
            found = rank_rows(*arguments)
            tries.append(found[1] if isinstance(found, tuple) else found)
            return found

        return rank_and_note

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank, "SHORTEST_IN_BUCKETS", 0)
        patch.setattr(rank, "LONGEST_OF_FLOATS", 0)
        patch.setattr(rank, "LONGEST_OF_DOUBLES", 0)
        patch.setattr(rank, "LONGEST_AT_ONCE", 2**17 if "together" in how else 1)
        patch.setattr(
            rank, "_are_better_shared",
            lambda rows, _: "shared" in how and rows.dtype.kind == "f" and rows.shape[1] > 1,
        )  # fmt: skip
        patch.setattr(long_row, "LONGEST_WITH_SPOTS", 0 if "sparing" in how else 2**60)
        # Both ways to sort, whatever the processor.
        patch.setattr(long_row, "PREFERS_LANES", "sparing" in how)
        patch.setattr(several_rows, "LONGEST_IN_PART", 0 if "counted" in how else 2**60)
        patch.setattr(bins, "SHORTEST_LINE", 64)
        patch.setattr(several_rows, "LONGEST_BUCKET", 60)
        patch.setattr(long_row, "ENTRIES_PER_BATCH", 3000)
        if "shared" in how:
            patch.setattr(threads, "LEAST_ENTRIES_PER_THREAD", 1)
        if "together" not in how:  # blocks of one row
            patch.setattr(rank, "ENTRIES_PER_BLOCK", 1)
            patch.setattr(rank, "ENTRIES_PER_CALL", 1)
            patch.setattr(threads, "LEAST_ENTRIES_PER_BLOCK", 1)
        for kind in (several_rows.SeveralRows, long_row.LongRow):
            patch.setattr(kind, "rank", noted(kind.rank))
        yield tries


def ranks_and_order(x):
    """What is right, which takes longer than what is tested."""
    return counted_ranks_by_ties(x), ascending_order(x)


def check_ranks_and_order(x, *, n_threads, expected=None):
    table = np.arange(2 * x.shape[1] - 1, dtype=np.float64)
    ranks, expected_order = expected or ranks_and_order(x)
    for ties in ("average", "max", "ordinal"):
        for t in (table, table.astype(np.float32)):  # of the entries' size, and of another
            y, order = rank.rank_and_gather(
                x, t, COUNTING_TIES.get(ties), with_order=True, threads=n_threads
            )
            np.testing.assert_array_equal(y, ranks[ties])
            np.testing.assert_array_equal(order, expected_order)
            without, _ = rank.rank_and_gather(
                x, t, COUNTING_TIES.get(ties), with_order=False, threads=n_threads
            )
            np.testing.assert_array_equal(without, y)
    less, less_equal = rank.count_less(x, threads=n_threads)
    np.testing.assert_array_equal(less, ranks["min"] / 2)
    np.testing.assert_array_equal(less_equal, ranks["max"] / 2 + 1)
