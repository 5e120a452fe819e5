"""The compiled kernels: ranks and order against obvious counting."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

import groupmap as gm
from groupmap.backends import kernels
from groupmap.backends._bits import INFINITY, limit_of
from groupmap.backends._layout import BYTES_OF_LINE
from groupmap.ranks import COUNTING_TIES
from tests.backends import kernels_for_all_sizes

pytest.importorskip("numba")

from groupmap.backends.kernels import (
    bucket_lines,
    dealing,
    emission,
    levels,
    memory,
    rank,
    several_rows,
    threads,
    ways,
)
from groupmap.backends.kernels.memory import BYTES_KEPT, Memory
from tests.kernel_calls import check_ranks_and_order
from tests.rows import (
    BITS,
    DTYPES,
    FLOATS,
    KINDS,
    ascending_order,
    counted_ranks,
    counted_ranks_by_ties,
    rows_of,
)

LENGTHS = (1, 2, 3, 255, 256, 257, 512, 513, 8192, 8193, 16_384, 16_385, 65535, 65536, 65537)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_ranks_and_order(rng, dtype, n):
    table = np.arange(2 * n - 1, dtype=np.float64)
    for kind in KINDS:
        x = rows_of(kind, dtype, (3, n), rng)
        ranks, expected_order = counted_ranks_by_ties(x), ascending_order(x)
        for ties in ranks:
            y, order = rank.rank_and_gather(
                x, table, COUNTING_TIES.get(ties), with_order=True, threads=2
            )
            np.testing.assert_array_equal(y, ranks[ties])
            np.testing.assert_array_equal(order, expected_order)
            without, none = rank.rank_and_gather(
                x, table, COUNTING_TIES.get(ties), with_order=False, threads=1
            )
            assert none is None
            np.testing.assert_array_equal(without, y)
        less, less_equal = rank.count_less(x, threads=2)
        np.testing.assert_array_equal(less, ranks["min"] / 2)
        np.testing.assert_array_equal(less_equal, ranks["max"] / 2 + 1)


@pytest.mark.parametrize("kind", ["random", "relu", "clipped and crowded", "some ties"])
@pytest.mark.parametrize("n", [1000, 9000])
def test_many_blocks(rng, kind, n):
    n_rows = 500_000 // n
    x = rows_of(kind, "float32", (n_rows, n), rng)
    x[n_rows * 3 // 5 :] = rng.normal(size=(n_rows - n_rows * 3 // 5, n))
    table = np.arange(2 * n - 1, dtype=np.float64)
    y, order = rank.rank_and_gather(x, table, COUNTING_TIES["average"], with_order=True, threads=2)
    np.testing.assert_array_equal(y, counted_ranks(x, "average"))
    np.testing.assert_array_equal(order, np.argsort(x, axis=-1, stable=True))


@given(BITS, st.sampled_from(["average", "min", "max", "ordinal"]), st.booleans())
def test_any_bits(drawn, ties, with_order):
    dtype, bits = drawn
    x = bits.view(dtype)
    if x.dtype.kind == "f":
        x = np.where(np.isnan(x), x.dtype.type(0), x)
    table = np.arange(2 * x.shape[1] - 1, dtype=np.int64)
    y, _ = rank.rank_and_gather(x, table, COUNTING_TIES.get(ties), with_order=with_order, threads=1)
    np.testing.assert_array_equal(y, counted_ranks(x, ties))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [5, 700, 9000, 20_000, 40_000])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_rows_that_are_not_finite_are_found(rng, monkeypatch, dtype, n, n_threads):
    monkeypatch.setattr(threads, "LEAST_ENTRIES_PER_THREAD", 1)
    monkeypatch.setattr(threads, "LEAST_ENTRIES_PER_BLOCK", 1)
    x = rng.normal(size=(3, n)).astype(dtype)
    infinity = INFINITY[x.dtype.itemsize]
    table = np.arange(2 * n - 1, dtype=np.float32)

    def maps(x, *, only_finite):
        limit = limit_of(infinity, only_finite=only_finite)
        rule = COUNTING_TIES["average"]
        found = rank.map_rows(x, table, rule, with_order=False, limit=limit, threads=n_threads)
        return found is not None

    assert maps(x, only_finite=True)
    for sign in (1, -1):
        y = x.copy()
        y[2, n // 2] = sign * np.inf
        assert maps(y, only_finite=False)
        assert not maps(y, only_finite=True)
        y[1, n - 1] = np.copysign(np.nan, sign)
        assert not maps(y, only_finite=False)
        assert not maps(y, only_finite=True)
        y = x.copy()
        y[1, ::50] = np.copysign(np.nan, sign)  # too many for a bucket, and too few to set aside
        assert not maps(y, only_finite=False)


def rows_that_need_scratch(kind, n):
    rng = np.random.default_rng(n)
    x = (
        rng.gamma(0.2, size=(2**19 // n, n))
        if "skewed" in kind
        else rng.normal(size=(2**19 // n, n))
    )
    if "common" in kind:
        x[rng.random(x.shape) < 0.19] = 0.25
    return x.astype(np.float32)


@pytest.mark.parametrize("n", [768, 8192, 12_000, 25_088, 65_536, 65_537, 131_073, 262_144])
@pytest.mark.parametrize("kind", ["normal", "common", "skewed", "skewed, common"])
def test_scratch_of_float32_takes_no_more_than_16_bytes_an_entry(monkeypatch, kind, n):
    untouched, blocks = 0xA5, []
    piece = np.full(BYTES_KEPT, untouched, dtype=np.uint8)
    monkeypatch.setattr(memory._shelves, "own", memory._Shelf())
    monkeypatch.setattr(memory._shelves.own, "piece", piece)

    class Worker(ways.Worker):
        def __init__(self, way, task, own, block, at_once):
            super().__init__(way, task, own, block, at_once)
            blocks.append(block)

    def only_of_the_piece(self, *asked, empty=Memory.empty):
        found = empty(self, *asked)
        assert found.size == 0 or np.shares_memory(found, piece)
        return found

    monkeypatch.setattr(rank, "Worker", Worker)
    monkeypatch.setattr(Memory, "empty", only_of_the_piece)
    x, table = rows_that_need_scratch(kind, n), np.arange(2 * n - 1, dtype=np.float32)
    y, _ = rank.rank_and_gather(x, table, COUNTING_TIES["average"], with_order=False, threads=1)
    np.testing.assert_array_equal(y[0], 2 * rankdata(x[0]) - 2)
    touched = BYTES_OF_LINE * np.sum(np.any(piece.reshape(-1, BYTES_OF_LINE) != untouched, axis=1))
    [block] = blocks
    # Of rows that are dealt out only one is in work, unless something is set aside beforehand.
    in_work = 1 if n > rank.LONGEST_OF_FLOATS and "common" not in kind else block
    assert 4 * n <= touched <= 16 * in_work * n


@pytest.mark.parametrize("n", [300, 9000, 300_000])
def test_rows_that_may_not_be_written_compile_nothing_more(rng, n):
    """Nor do those whose entries lie apart, and are copied first."""
    compiled = (
        emission.emit, several_rows.rank_rows, bucket_lines.emit_lines, dealing.deal_out,
        levels.find_few, levels.count_places,
    )  # fmt: skip
    for dtype in ("float32", "float64"):
        x = rows_of("some ties", dtype, (20, n), rng)
        y = gm.quantile_map(x, "gaussian", axis=-1)
        before = [len(each.signatures) for each in compiled]
        unwritable = x.view()
        unwritable.flags.writeable = False
        for rows in (unwritable, np.asfortranarray(x)):
            np.testing.assert_array_equal(gm.quantile_map(rows, "gaussian", axis=-1), y)
        assert [len(each.signatures) for each in compiled] == before


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
@pytest.mark.parametrize("n", [40, 700, 9000, 20_000, 140_000])
@pytest.mark.parametrize(
    "columns", [slice(1, 4), slice(37), slice(0, 60, 5), slice(None, None, -1)]
)
def test_columns_of_a_table_are_mapped_as_rows_are(rng, monkeypatch, dtype, n, columns):
    """As many at once as lie in a line of the cache, more than are ranked at once where n is
    great, on each of two threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    table = np.asarray(100 * rng.normal(size=(n, 64 if n < 10**5 else 20))).astype(dtype)
    table[:, ::3] = np.maximum(table[:, ::3], 0)
    some = table[:, columns]
    found = gm.quantile_map(some, "gaussian", axis=0)
    expected = gm.quantile_map(np.ascontiguousarray(some.T), "gaussian", axis=1)
    np.testing.assert_array_equal(found, expected.T)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [128, 768, 4096])
def test_a_long_level_between_the_ends_of_a_row(rng, n, dtype):
    """Zeros of both signs, and in some rows what shares their place."""
    x = rng.normal(size=(6, n))
    x[rng.random(x.shape) < 0.5] = 0
    x[rng.random(x.shape) < 0.2] = -0.0
    tiny = np.finfo(dtype).smallest_subnormal
    x[2:, : n // 16] = rng.choice([-tiny, tiny, 2 * tiny, 0.0], size=(4, n // 16))
    check_ranks_and_order(rng.permuted(x, axis=-1).astype(dtype), n_threads=1)


def test_a_long_run_that_the_prefix_cannot_tell_apart_takes_no_quadratic_time(rng):
    n = 100_000  # a quadratic insertion would take minutes
    x = np.full((1, n), 1.0)
    x[0, 1:] += np.finfo(float).eps * rng.permutation(n - 1)
    x[0, 0] = 1e300
    table = np.arange(2 * n - 1, dtype=np.float64)
    y, _ = rank.rank_and_gather(x, table, COUNTING_TIES["average"], with_order=False, threads=1)
    np.testing.assert_array_equal(y, counted_ranks(x, "average"))


def test_numba_comes_with_the_first_large_input():
    code = (
        "import sys, numpy as np, groupmap as gm\n"
        "gm.quantile_map(np.arange(100.0))\n"
        "assert 'numba' not in sys.modules\n"
        "gm.quantile_map(np.arange(10000.0))\n"
        "assert 'numba' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_other_byte_orders_and_long_doubles_go_without(rng):
    x = rng.normal(size=(3, 50))
    with kernels_for_all_sizes():
        for dtype in (">f8", ">f4", "longdouble"):
            other = x.astype(dtype)
            assert not kernels.serve(other)
            same = x.astype(np.dtype(dtype).newbyteorder("=")).astype(np.float64)
            np.testing.assert_allclose(
                gm.quantile_map(other).astype(float), gm.quantile_map(same), rtol=1e-6
            )
