"""The compiled kernels: against obvious counting, whoever calls them and however many at once."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import array_api_compat.numpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

import groupmap as gm
from groupmap.backends import kernels, ops_for
from groupmap.backends._bits import INFINITY, as_bits, code_of, keys_of, limit_of
from groupmap.backends._layout import BYTES_OF_LINE
from groupmap.ranks import COUNTING_TIES
from tests.backends import kernels_for_all_sizes, no_kernels, with_kernels_and_without

pytest.importorskip("numba")
from numba import njit

from groupmap.backends.kernels import (
    bins,
    bucket_lines,
    bucket_words,
    common,
    dealing,
    digits,
    elementwise,
    emission,
    equals,
    estimates,
    levels,
    long_row,
    memory,
    rank,
    rounding,
    runs,
    sampling,
    several_rows,
    threads,
    vectors,
    ways,
)
from groupmap.backends.kernels.columns import AT_ONCE, copy_rows
from groupmap.backends.kernels.memory import BYTES_KEPT, Contiguous, Memory, lent
from groupmap.backends.kernels.scaling import Scaling, round_to_bfloat, round_to_half
from groupmap.backends.kernels.task import Task

DTYPES = ("float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32",
          "int64", "uint64")  # fmt: skip
FLOATS = ("float16", "float32", "float64")
KINDS = ("random", "few values", "levels", "relu", "clipped", "clipped and crowded", "half zero",
         "rain", "some ties", "constant", "one far away")  # fmt: skip
LENGTHS = (1, 2, 3, 255, 256, 257, 512, 513, 8192, 8193, 16_384, 16_385, 65535, 65536, 65537)


@cache
def from_python(part):
    """A part of kernels, which only they may call, for Python to call."""

    @njit
    def call(*arguments):
        return part(*arguments)

    return call


def rows_of(kind, dtype, shape, rng):
    """Rows that make life hard for a sort."""
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        few = {"few values": 7, "levels": 100, "random": None}.get(kind, 1)
        if few is None:
            return rng.integers(limits.min, limits.max, size=shape, dtype=dtype, endpoint=True)
        return (limits.max - rng.integers(0, few, size=shape).astype(dtype)).astype(dtype)
    x = rng.normal(size=shape)
    tiny = np.finfo(dtype).smallest_subnormal
    if kind == "few values":
        x = rng.choice([-np.inf, np.inf, -0.0, 0.0, tiny, -tiny, 1.0], size=shape)
    elif kind == "levels":
        x = rng.integers(-100, 156, size=shape) / 255 * rng.choice([-0.0, 1.0], p=[0.1, 0.9])
    elif kind == "relu":
        x = np.maximum(x, 0)
    elif kind == "clipped":
        x = np.clip(x, -0.5, 1)
    elif kind == "clipped and crowded":
        x = np.clip(x, 0, 2) ** 9
    elif kind == "half zero":
        x = np.where(rng.random(shape) < 0.5, 0, x)
    elif kind == "rain":  # which on other days is as much as the gauge holds
        x = np.clip(3 * x - 6, 0, 1)
    elif kind == "some ties":  # too few in most rows to speak of a crowd, and too many in the first
        copied = rng.integers(0, shape[-1], size=shape[-1] // 20)
        x[..., copied] = np.flip(x, axis=-1)[..., copied]
        x[0] = np.maximum(x[0], 0)
    elif kind == "constant":
        x = np.where(x > 0, 0.0, -0.0)
    elif kind == "one far away":  # the others agree in all of the bits that words have room for
        x = 1 + 64 * np.finfo(dtype).eps * x
        x[..., 0] = np.finfo(dtype).max
    return x.astype(dtype)


def counted_ranks(x, ties):
    return np.stack([2 * rankdata(row + row.dtype.type(0), method=ties) - 2 for row in x])


def counted_ranks_by_ties(x):
    ranks = {ties: counted_ranks(x, ties) for ties in ("min", "max", "ordinal")}
    return ranks | {"average": (ranks["min"] + ranks["max"]) / 2}


def ascending_order(x):
    return np.argsort(x + x.dtype.type(0), axis=-1, stable=True)


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


SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)
BITS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: st.tuples(
        st.just(dtype), hnp.arrays(f"u{np.dtype(dtype).itemsize}", SHAPES, fill=st.nothing())
    )
)


@given(BITS, st.sampled_from(["average", "min", "max", "ordinal"]), st.booleans())
def test_any_bits(drawn, ties, with_order):
    dtype, bits = drawn
    x = bits.view(dtype)
    if x.dtype.kind == "f":
        x = np.where(np.isnan(x), x.dtype.type(0), x)
    table = np.arange(2 * x.shape[1] - 1, dtype=np.int64)
    y, _ = rank.rank_and_gather(x, table, COUNTING_TIES.get(ties), with_order=with_order, threads=1)
    np.testing.assert_array_equal(y, counted_ranks(x, ties))


NUMBERS = st.floats(-9, 9) | st.sampled_from([np.nan, np.inf, -np.inf, 1e200, -1e200])


@given(st.sampled_from(FLOATS).flatmap(lambda dtype: hnp.arrays(dtype, st.integers(1, 300))))
def test_screening(x):
    infinity = INFINITY[x.dtype.itemsize]
    found = elementwise.screen(x, infinity, threads=1)
    assert found == (bool(np.any(np.isnan(x))), not np.all(np.isfinite(x)))


@given(hnp.arrays("float64", hnp.array_shapes(max_dims=2), elements=NUMBERS), st.integers(0, 3))
def test_normal_probabilities(x, view):
    given = (x, x.T, x[::-2], np.broadcast_to(x[..., :1], (3, *x.shape)))[view]
    with kernels_for_all_sizes():
        found = gm.gaussian.cdf(given)
    with no_kernels():
        expected = gm.gaussian.cdf(given)
    np.testing.assert_allclose(found, expected, rtol=4e-15)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@given(
    n_rows=st.integers(1, 9),
    n=st.sampled_from([1, 5, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE]),
    some=st.slices(9),
    lie=st.sampled_from(["rows", "columns", "reversed", "every other"]),
)
def test_rows_of_any_strides_are_copied(dtype, n_rows, n, some, lie):
    def rows_among(numbers):
        return {
            "rows": numbers[: n_rows * n].reshape(n_rows, n),
            "columns": numbers[: n_rows * n].reshape(n, n_rows).T,
            "reversed": numbers[: n_rows * n].reshape(n, n_rows).T[:, ::-1],
            "every other": numbers.reshape(n_rows, 2 * n)[:, ::2],
        }[lie][some]

    numbers = np.random.default_rng(0).integers(1, 200, 2 * n_rows * n).astype(dtype)
    rows, written = rows_among(numbers), np.zeros_like(numbers)
    with lent() as lend:
        copied = Contiguous(rows, len(rows), lend())(rows)
        assert copied.flags.c_contiguous
        np.testing.assert_array_equal(copied, rows)
        copy_rows(copied, rows_among(written))
    np.testing.assert_array_equal(rows_among(written), rows)
    assert np.count_nonzero(written) == rows.size  # and nothing else


def parameter_of(spans, parameter, r, i):
    """Which entry of a parameter serves the entry i of row r, as `Scale` says."""
    each_rows, own_rows, each_entries, own_entries = spans
    return parameter[r // each_rows % own_rows * own_entries + i // each_entries]


@pytest.mark.parametrize("spans", [(1, 1, 1, 12), (1, 3, 4, 3), (2, 2, 12, 1)])
@given(has_weight=st.booleans(), has_bias=st.booleans(), cut=st.integers(0, 12))
def test_scaling_rounds_twice(spans, has_weight, has_bias, cut):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(6, 12)).astype(np.float32)
    y[0, 0] = -0.0
    weight, bias = rng.normal(size=(2, spans[1] * spans[3])).astype(np.float32)
    has_bias = has_bias or not has_weight
    expected = y.copy()
    for r, i in np.ndindex(y.shape):
        if has_weight:
            expected[r, i] *= parameter_of(spans, weight, r, i)
        if has_bias:
            expected[r, i] += parameter_of(spans, bias, r, i)
    scaling = Scaling.of(weight if has_weight else None, bias if has_bias else None, spans, y.dtype)
    out = np.empty_like(y)
    scaling(y[:1].copy(), 0, out[:1])
    scaling(y[1:, cut:].copy(), 1, out[1:, cut:], start=cut)  # the other rows, in two parts
    scaling(y[1:, :cut].copy(), 1, out[1:, :cut])
    assert out.tobytes() == expected.tobytes()


TABLES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40).flatmap(
    lambda shape: hnp.arrays(
        st.sampled_from(["float32", "float64"]), shape,
        elements=st.floats(-8, 8, width=16) | st.sampled_from([0.0, -0.0, 1.0]),
    )
)  # fmt: skip


@given(TABLES, st.integers(0, 1), st.sampled_from(["average", "min", "max", "ordinal"]))
def test_quantile_normalisation_by_one_ranking(x, axis, ties):
    for table in (x, np.asfortranarray(x), x[::-1, ::2]):
        found, expected = with_kernels_and_without(
            lambda table=table: gm.normalize_quantiles(table, axis=axis, ties=ties)
        )
        assert found.dtype == expected.dtype
        precision = 1e-6 if x.dtype == "float32" else 1e-14
        np.testing.assert_allclose(found, expected, rtol=precision, atol=8 * precision)


@pytest.mark.parametrize("n", [9000, 2**15, 2**15 + 1])  # ranks of 16 bits, and of 32
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quantile_normalisation_of_long_rows(rng, n, dtype):
    """Rows of any length of bucket; crowded, of few levels, and with values that many share."""
    levels, close = rng.integers(0, 9, size=(3, n)), rng.integers(0, n, size=(3, n)) / n
    crowd = np.where(rng.random(size=(3, n)) < 0.6, 0.25 + 1e-9 * close, close)
    shared = np.where(rng.random(size=(3, n)) < 0.1, -1.0, close)
    for some in ([levels + close, crowd, shared], [levels, levels + close], [crowd]):
        x = np.concatenate(some).astype(dtype)
        found, expected = with_kernels_and_without(lambda x=x: gm.normalize_quantiles(x, axis=1))
        precision = 1e-14 if dtype == "float64" else 1e-6
        np.testing.assert_allclose(found, expected, rtol=precision, atol=precision)


def test_quantile_normalisation_of_what_is_not_finite(rng):
    x = rng.normal(size=(50, 7))
    x[3, 2] = np.nan
    found, expected = with_kernels_and_without(lambda: gm.normalize_quantiles(x, axis=0))
    np.testing.assert_array_equal(found, expected)
    x[4, 1] = -np.inf
    with kernels_for_all_sizes(), pytest.raises(ValueError, match="infinity"):
        gm.normalize_quantiles(x, axis=0)


def test_quantile_normalisation_of_great_values():
    x = 1.7e308 * np.linspace(-1, 1, 5000)[:, None] * np.ones(9)
    np.testing.assert_allclose(gm.normalize_quantiles(x, axis=0), x, rtol=1e-14)


def test_threads_change_no_bit_of_a_mean(rng, monkeypatch):
    x = rng.normal(size=(9000, 43))
    results = []
    for n_threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", n_threads)
        results.append(gm.normalize_quantiles(x, axis=0).tobytes())
    assert len(set(results)) == 1


@given(hnp.arrays(st.sampled_from(FLOATS), st.integers(1, 50), elements=st.floats(-9, 9, width=16)))
def test_a_reference_of_as_many_values_has_its_table_at_once(sample):
    x = np.arange(3.0 * sample.size).reshape(3, -1).astype(sample.dtype)
    for positions in ("linear", "weibull"):
        found, expected = with_kernels_and_without(
            lambda positions=positions: gm.quantile_map(x, sample, positions=positions)
        )
        np.testing.assert_array_equal(found, np.broadcast_to(np.sort(sample), x.shape))
        np.testing.assert_array_equal(found, expected)
        tied = np.repeat(x[:, :1], sample.size, axis=1)
        found, expected = with_kernels_and_without(
            lambda positions=positions, tied=tied: gm.quantile_map(
                tied, sample, positions=positions
            )
        )
        np.testing.assert_array_equal(found, expected)


def test_long_rows_each_with_its_own_reference(rng):
    """Which are mapped several at a time."""
    for count in (1, 5):
        x, reference = rng.normal(size=(2, count, 20_000)).astype(np.float32)
        check_long_rows_each_with_its_own_reference(x, reference)


def check_long_rows_each_with_its_own_reference(x, reference):
    found, expected = with_kernels_and_without(
        lambda: gm.match_quantiles(x, reference, axis=1, ties="ordinal")
    )
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.sort(found), np.sort(reference))


HALVES = np.arange(2**16, dtype=np.uint16)  # every number of 16 bits


def floats_that_are_hard_to_round():
    """Every number of 16 bits, halfway to the next, one unit to either side; and any bits."""
    rng = np.random.default_rng(0)
    yield rng.integers(0, 2**32, size=2**20, dtype=np.uint32).view(np.float32)
    for exact in (HALVES.view(np.float16).astype(np.float32),
                  (HALVES.astype(np.uint32) << 16).view(np.float32)):  # fmt: skip
        numbers = np.sort(exact[np.isfinite(exact)])
        for x in (numbers, numbers[:-1] / 2 + numbers[1:] / 2):
            yield from (
                x,
                np.nextafter(x, np.float32(np.inf)),
                np.nextafter(x, np.float32(-np.inf)),
            )


def round_without_instruction(bits, out):
    rounding.round_words_to_half(bits[0], out[0], np.empty_like(bits[0]))


def test_rounding_to_16_bits():
    torch = pytest.importorskip("torch")
    for x in floats_that_are_hard_to_round():
        out = np.empty((1, x.size), dtype=np.uint16)
        ways = ((round_to_half, torch.float16), (round_without_instruction, torch.float16),
                (round_to_bfloat, torch.bfloat16))  # fmt: skip
        for rounded, dtype in ways:
            rounded(x.view(np.uint32)[None], out)
            expected = torch.as_tensor(x).to(dtype)
            found = torch.as_tensor(out[0].view(np.int16)).view(dtype)
            number = ~expected.isnan()
            assert torch.equal(found[number].view(torch.int16), expected[number].view(torch.int16))
            assert found[~number].isnan().all()


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
    in_work = 1 if n > rank.LONGEST_IN_PLACES and "common" not in kind else block
    assert 4 * n <= touched <= 16 * in_work * n


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
            tries.append(rank_rows(*arguments))
            return tries[-1]

        return rank_and_note

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank, "SHORTEST_IN_BUCKETS", 0)
        patch.setattr(rank, "LONGEST_IN_PLACES", 0)
        patch.setattr(rank, "LONGEST_OF_DOUBLES", 0)
        patch.setattr(rank, "LONGEST_AT_ONCE", 2**17 if "together" in how else 1)
        patch.setattr(
            rank, "_are_better_shared",
            lambda rows, _: "shared" in how and rows.dtype.kind == "f" and rows.shape[1] > 1,
        )  # fmt: skip
        patch.setattr(long_row, "LONGEST_WITH_SPOTS", 0 if "sparing" in how else 2**60)
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


def check_ranks_and_order(x, *, n_threads):
    table = np.arange(2 * x.shape[1] - 1, dtype=np.float64)
    ranks, expected_order = counted_ranks_by_ties(x), ascending_order(x)
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


@pytest.mark.parametrize("how", ALL_BUCKETS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint64"])
@pytest.mark.parametrize("n", [2, 3, 100, 513, 8193, 20_000])
def test_ranks_in_buckets(rng, how, dtype, n):
    for kind in KINDS:
        x = rows_of(kind, dtype, (3, n), rng)
        with all_in_buckets(how) as tries:
            check_ranks_and_order(x, n_threads=3)
        if kind == "random" and n > levels.TRIED_FIRST:  # else they may seem few enough to count
            assert tries
            assert not any(tries)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_so_many_bins_that_notes_have_no_room_for_them(rng, monkeypatch, dtype):
    """They are found again; as in rows of a million, where lines are short."""
    monkeypatch.setattr(bins, "BINS_PER_LINE", 2**11)
    for kind in KINDS:
        x = rows_of(kind, dtype, (3, 20_000), rng)
        with all_in_buckets("together"):
            check_ranks_and_order(x, n_threads=3)


@pytest.mark.parametrize("how", BUCKETS)
@given(drawn=BITS.filter(lambda drawn: np.dtype(drawn[0]).itemsize >= 4))
def test_any_bits_in_buckets(how, drawn):
    dtype, bits = drawn
    x = bits.view(dtype)
    if x.dtype.kind == "f":
        x = np.where(np.isnan(x), x.dtype.type(0), x)
    with all_in_buckets(how):
        check_ranks_and_order(x, n_threads=2)


@pytest.mark.parametrize("how", BUCKETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("octave", [-1060, -130, -20, 100, 1000])
def test_buckets_of_floats_of_any_magnitude(rng, how, dtype, octave):
    """Where the floats lie that the row has none of makes no difference."""
    octave = octave if dtype == "float64" else min(max(octave, -140), 100)
    normal = rng.normal(size=(2, 40_000))
    for kind in (normal, np.abs(normal), np.where(normal < 3, normal, -(2.0**20))):
        x = np.ldexp(kind, octave).astype(dtype)
        with all_in_buckets(how) as tries:
            check_ranks_and_order(x, n_threads=2)
        assert not any(tries)


@given(
    st.sampled_from(["float32", "float64"]).flatmap(
        lambda dtype: hnp.arrays(
            dtype, st.integers(1, 60), elements=st.floats(allow_nan=False, width=int(dtype[5:]))
        )
    )
)
def test_bins_span_what_a_sample_sees_and_some_octaves_more(x):
    """To the last bit, which no rank would tell: of so short a row all is seen."""
    with lent() as lend:
        own = bins.Bins.for_rows_of(x.size, x.dtype, 1, 1, lend())
    bins.look(as_bits(x), own, 0)
    bins.set_span(own)
    keys = sorted(keys_of(x).tolist())
    top, all_ones = int(own.code.top), 2 ** (8 * x.itemsize) - 1
    beyond = bins.OCTAVES_BEYOND << np.finfo(x.dtype).nmant
    magnitudes = [abs(key - top) - (key < top) for key in keys if key != top]
    gap = max(min(magnitudes, default=0) - beyond, 0)
    assert keys[0] == own.span[bins.FIRST] >= max(keys[0] - beyond, 0)
    assert keys[-1] == own.span[bins.LAST] <= min(keys[-1] + beyond, all_ones)
    assert own.span[bins.BELOW] == min(top - 1 - gap, keys[-1])
    assert own.span[bins.ABOVE] == max(top + gap, keys[0])


def test_bins_end_some_octaves_beyond_a_sample():
    for dtype, least, greatest in (("float32", -2e38, 3e38), ("float64", -1e308, np.inf)):
        x = np.ones(1000, dtype)
        x[[998, 999]] = least, greatest  # which are not in the sample
        for seen in (1.0, np.finfo(dtype).tiny, np.finfo(dtype).max / 2):
            x[:998] = seen
            with lent() as lend:
                own = bins.Bins.for_rows_of(x.size, x.dtype, 1, 1, lend())
            bins.look(as_bits(x), own, 0)
            bins.set_span(own)
            beyond = bins.OCTAVES_BEYOND << np.finfo(dtype).nmant
            key, last = int(keys_of(x)[0]), int(keys_of(x)[999])
            assert own.span[bins.FIRST] == key - beyond
            assert own.span[bins.LAST] == min(key + beyond, last)


@pytest.mark.parametrize("how", BUCKETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("seen", "others"), [(1.0, 1e-9), (1e-9, 1.0), (-1.0, 1.0)])
def test_buckets_of_rows_that_a_sample_misleads(rng, how, dtype, seen, others):
    """All others share a bin that is meant for a few, and are crowded."""
    n = 40_000
    x = others * rng.random((2, n))
    x[:, sampling.sampled_indices(n)] = seen
    counted = np.empty(n // dealing.ONE_OF, dtype=np.int64)
    dealing.sample(np.arange(n), counted)
    x[:, counted] = seen
    with all_in_buckets(how) as tries:
        check_ranks_and_order(x.astype(dtype), n_threads=2)
    assert any(tries) or "shared" in how  # by threads whose samples differ


@pytest.mark.parametrize("how", BUCKETS)
@pytest.mark.parametrize("crowd", [1000, 9000, 40_000])
def test_buckets_that_are_crowded_are_sorted_by_keys(rng, how, crowd):
    """Many that are close together, but differ; equals apart from all others are no crowd."""
    close, equal = 0.25 + 1e-9 * rng.random((4, crowd)), np.zeros((4, 40_000))
    other = rng.random((4, 10_000))
    for x, is_crowded in (
        (np.concatenate([other, close], axis=1), crowd == 40_000),
        (np.concatenate([other, close, equal], axis=1), False),
    ):
        with all_in_buckets(how) as tries:
            check_ranks_and_order(rng.permuted(x, axis=1), n_threads=2)
        assert any(tries) == is_crowded


@pytest.mark.parametrize("how", BUCKETS)
def test_buckets_of_words_that_hold_too_little(rng, how):
    """In a bucket of few entries lie a great one and others that are closer than its words say."""
    n = 400
    x = np.concatenate([1 + 1e-13 * rng.permutation(n), [1.5], -rng.random(3000) - 9])[None]
    with all_in_buckets(how):
        check_ranks_and_order(rng.permutation(x, axis=1), n_threads=2)


def test_threads_that_round_differently_share_a_row(rng):
    """To flush subnormal numbers to zero is a property of a thread, which helpers need not have."""
    torch = pytest.importorskip("torch")
    n = 2**18
    powers = 10.0 ** rng.uniform(-45, -36, n // 2)
    x = np.concatenate([rng.normal(size=n // 2), rng.normal(size=n // 2) * powers])
    x = rng.permutation(x)[None]
    table = np.arange(2 * n - 1, dtype=np.float64)
    expected, _ = rank.rank_and_gather(x, table, None, with_order=False, threads=2)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor flushes nothing")
    try:
        found, _ = rank.rank_and_gather(x, table, None, with_order=False, threads=2)
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(found, expected)


WRITTEN_MEANWHILE = """
import threading, time
import numpy as np, groupmap as gm
rng = np.random.default_rng(0)
kinds = [(2, 100_000, 1, 0), (4, 5000, 1, 0), (40, 20_000, 1, 0), (1, 300_000, 1, 0),
         (2, 9000, 0, 0), (40, 20_000, 1, 0.5), (1, 300_000, 1, 0.5)]
for rows, n, noise, zeros in kinds:
    levels = rng.integers(0, 9, size=(rows, n)) + noise * rng.normal(size=(rows, n))
    levels[rng.random(size=(rows, n)) < zeros] = 0
    other = np.exp(40 * rng.normal(size=(rows, n)))
    x, done = levels.copy(), threading.Event()
    def write():
        while not done.is_set():
            x[...] = other
            x[...] = levels
    writer = threading.Thread(target=write)
    writer.start()
    end = time.monotonic() + 1
    while time.monotonic() < end:
        gm.quantile_map(x)
        gm.normalize_quantiles(x, axis=1)  # which uses the order
for rows, n in [(40, 100), (40, 2000), (40, 20_000), (3, 2000)]:
    levels = np.round(rng.normal(size=(rows, n))).astype(np.float16)
    other = (30 * rng.normal(size=(rows, n))).astype(np.float16)
    weight = np.ones(n, dtype=np.float16)
    x, done = levels.copy(), threading.Event()
    writer = threading.Thread(target=write)
    writer.start()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        gm.quantile_map(x, axis=1)
        gm.layer_map(x, n, weight)
    done.set()
    writer.join()
    done.set()
    writer.join()
"""


def test_what_is_written_to_in_the_meantime_is_ranked_somehow():
    """Nobody can say how; but nothing else may come to harm."""
    environment = dict(os.environ, OMP_NUM_THREADS="2")
    code = [sys.executable, "-c", WRITTEN_MEANWHILE]
    subprocess.run(code, check=True, timeout=120, env=environment)


def affine_in_long_doubles(x, y, grad, inside):
    expected = np.zeros(x.shape)
    for r, each in enumerate(inside):
        own_x, own_y, own_grad = (values[r, each].astype(np.longdouble) for values in (x, y, grad))
        centred, rest = own_x - own_x.mean(), own_grad - own_grad.mean()
        square = (centred**2).sum()
        rest -= (centred * rest).sum() / square * centred
        expected[r, each] = (centred * own_y).sum() / square * rest
    return expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [3, 40, 5000])
@pytest.mark.parametrize("missing", [False, True])
def test_affine_sums_lose_few_digits(rng, dtype, n, missing):
    """Neither far from zero nor where the entry that differences are taken from is far away."""
    far, outlier = 1e6 + rng.normal(size=(2, n)), rng.normal(size=(2, n))
    outlier[:, 0] = 1e6
    x = np.concatenate([far, outlier]).astype(dtype)
    y, grad = 1000 + np.sort(rng.normal(size=(2, *x.shape)), axis=-1).astype(dtype)
    inside = np.ones(x.shape, dtype=bool)
    if missing:
        inside[:, 3::4] = False
    found = estimates.affine(x, y, grad, ~inside if missing else None, threads=1)
    expected = affine_in_long_doubles(x, y, grad, inside)
    scale = np.max(np.abs(expected), axis=-1, keepdims=True)
    assert np.all(np.abs(found - expected) <= 1e-7 * scale)


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


def test_a_long_row_on_all_threads(rng):
    n = 2**18 + 5
    image = rng.normal(size=(n, 3)).astype(np.float32)  # whose channels lie far apart in memory
    image[:, 1] = np.maximum(image[:, 1], 0)  # and half of one of which is equal
    found, expected = with_kernels_and_without(lambda: gm.quantile_map(image, axis=0))
    np.testing.assert_array_equal(found, expected)
    image[7, 2] = np.nan
    found, expected = with_kernels_and_without(lambda: gm.quantile_map(image, axis=0))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("how", ALL_BUCKETS)
@pytest.mark.parametrize("spans", [(1, 1, 1, 9000), (1, 3, 1500, 6), (2, 2, 9000, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_in_buckets_are_scaled_where_they_are(rng, how, spans, dtype):
    """And all of them once, whatever becomes of the row."""
    n = 9000  # more than one part
    weight, bias = rng.normal(size=(2, spans[1] * spans[3])).astype(dtype)
    index = np.arange(n)
    scale = [
        parameter[r // spans[0] % spans[1] * spans[3] + index // spans[2]]
        for parameter in (weight, bias)
        for r in range(4)
    ]
    table = np.linspace(-1.0, 3.0, 2 * n - 1).astype(dtype)
    for kind in ("random", "half zero", "rain", "clipped and crowded", "levels", "one far away"):
        x = rows_of(kind, dtype, (4, n), rng)
        x[2] = rows_of("random", dtype, n, rng)
        rule = COUNTING_TIES["average"]
        with all_in_buckets(how) as tries:
            y, _ = rank.map_rows(x, table, rule, with_order=False, threads=2)
            scaling = Scaling.of(weight, bias, spans, y.dtype)
            found, _ = rank.map_rows(x, table, rule, with_order=False, scaling=scaling, threads=2)
        assert tries
        expected = y * np.stack(scale[:4]) + np.stack(scale[4:])
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("how", BUCKETS)
def test_each_long_row_has_its_own_scale(rng, how):
    """Also those that are counted, after one that threads have shared."""
    x = rng.normal(size=(1, 4, 5000)).astype(np.float32)
    x[0, 2:] = np.round(x[0, 2:])
    weight, bias = rng.normal(size=(2, 4)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "2")
        with all_in_buckets(how) as tries:
            found, expected = with_kernels_and_without(lambda: gm.group_map(x, 2, weight, bias))
    np.testing.assert_array_equal(found, expected)
    assert tries == [False]
    assert len(np.unique(found[0, 2])) < 20


LEVELS = st.lists(st.integers(0, 255).map(lambda k: np.float32(k) / np.float32(255)), min_size=1)


@given(LEVELS, st.data(), st.sampled_from(["average", "min", "ordinal"]))
def test_rows_of_few_levels_are_counted(drawn, data, ties):
    x = np.asarray(drawn, dtype=np.float32)
    is_apart = data.draw(st.booleans()) or x.max() == 0
    if not is_apart:  # two neighbours, in the middle of one of an odd number of steps
        middle = x.max() / 2
        x = np.concatenate([x, [0, middle, np.nextafter(middle, np.float32(0))]])
    rows, rule = x.astype(np.float32)[None], COUNTING_TIES.get(ties)
    table = np.arange(2 * rows.shape[1] - 1, dtype=np.uint32)
    out, order = np.empty((2, *rows.shape), dtype=np.uint32)
    is_done = np.zeros(1, dtype=np.bool_)
    asked = (rows, rows.view(np.uint32), code_of(rows.dtype))
    levels.find_few(*asked, is_done)
    levels.count_places(*asked, table, rank.tie_of(rule), out, order.view(np.int32), is_done)
    assert is_done[0] == is_apart
    if is_apart:
        np.testing.assert_array_equal(out, counted_ranks(rows, ties))
        np.testing.assert_array_equal(order, np.argsort(rows, stable=True))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float16"])
def test_keys_that_span_few_levels_are_counted(rng, dtype):
    for spread, is_few in ((30, True), (140, True), (160, False)):
        x = np.linspace(0, spread, 100).round().astype(dtype)[None]
        if dtype == "float16":
            x = (x.astype(np.uint16) + np.uint16(0x3C00)).view(np.float16)
        rng.shuffle(x, axis=1)
        out, order = np.empty((2, *x.shape), dtype=np.uint32)
        is_done = np.zeros(1, dtype=np.bool_)
        levels.count_keys(
            as_bits(x), code_of(x.dtype), np.arange(2 * x.size - 1, dtype=np.uint32),
            rank.tie_of(COUNTING_TIES["max"]), out, order.view(np.int32), is_done,
        )  # fmt: skip
        assert is_done[0] == is_few
        if is_few:
            np.testing.assert_array_equal(out, counted_ranks(x, "max"))
            np.testing.assert_array_equal(order, np.argsort(x, stable=True))


@given(
    st.sampled_from(["float16", "float32", "float64"]),
    st.lists(st.integers(-60, 60), min_size=1, max_size=120),
    st.sampled_from([0, 3, 1000, 0x3C00]),
    st.sampled_from(["average", "max", "ordinal"]),
)
def test_floats_on_both_sides_of_zero_have_few_levels(dtype, signed_steps, nearest, ties):
    """However many floats lie between zero and the nearest of them."""
    steps = np.asarray(signed_steps)
    word = np.dtype(f"u{np.dtype(dtype).itemsize}")
    magnitudes = (np.abs(steps) + np.where(steps == 0, 0, nearest)).astype(word)
    x = np.copysign(magnitudes.view(dtype), np.where(steps == 0, -1.0, steps).astype(dtype))
    x = np.concatenate([x, np.zeros(500, dtype)])[None]
    out, order = np.empty((2, *x.shape), dtype=np.uint32)
    is_done = np.zeros(1, dtype=np.bool_)
    levels.count_keys(
        as_bits(x), code_of(x.dtype), np.arange(2 * x.size - 1, dtype=np.uint32),
        rank.tie_of(COUNTING_TIES.get(ties)), out, order.view(np.int32), is_done,
    )  # fmt: skip
    assert is_done[0]
    np.testing.assert_array_equal(out, counted_ranks(x, ties))
    np.testing.assert_array_equal(order, np.argsort(x + x.dtype.type(0), stable=True))


@pytest.mark.parametrize("n", [16_384, 70_000])
def test_long_rows_of_sixteen_bits(rng, n):
    """Which are counted where they have more entries than levels."""
    x = rng.normal(size=(2, n)).astype(np.float16)
    table = np.arange(2 * n - 1, dtype=np.float64)
    for ties in ("average", "ordinal"):
        rule = COUNTING_TIES.get(ties)
        y, _ = rank.rank_and_gather(x, table, rule, with_order=False, threads=1)
        np.testing.assert_array_equal(y, counted_ranks(x, ties))


def test_more_levels_than_are_counted_in_copies(rng):
    x = rng.permutation((np.arange(20_000) % 4500).astype(np.int16))[None]
    table = np.arange(2 * x.size - 1, dtype=np.uint32)
    out, is_done = np.empty(x.shape, dtype=np.uint32), np.zeros(1, dtype=np.bool_)
    rule = rank.tie_of(COUNTING_TIES["average"])
    levels.count_keys(as_bits(x), code_of(x.dtype), table, rule, out, None, is_done)
    assert is_done[0]
    np.testing.assert_array_equal(out, counted_ranks(x, "average"))


COMMON = st.sampled_from(["float32", "float64", "int32", "uint64"]).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        st.integers(1, 40) | st.integers(1000, 1100),
        elements=st.sampled_from([0, 0, 0, -0.0, 1, 1, 2, 3] if dtype[0] == "f" else [0, 0, 1, 2]),
    )
)


@given(COMMON, st.sampled_from(["uint32", "uint64"]))
def test_common_values_are_set_aside(x, dtype_of_values):
    bits, code = as_bits(x), code_of(x.dtype)
    patterns = np.empty(4, dtype=bits.dtype)
    sampled = common.sampled_indices(x.size)
    assert np.all(np.diff(sampled) > 0)
    assert np.all(sampled < x.size)
    levels_of_sample, counts = np.unique(x[sampled], return_counts=True)
    found = common.find_common(bits[sampled], code, patterns)
    assert found == (counts.max(initial=0) >= common.LEAST_FIRST)
    if not found:
        return
    first, second = patterns.view(x.dtype)[::2]
    count_of = dict(zip(levels_of_sample.tolist(), counts.tolist(), strict=True))
    *_, less_often, most_often = [0, *sorted(counts)]
    assert max(count_of[first], count_of[second]) == most_often
    assert (first < second) == (less_often >= common.LEAST_SECOND)
    assert first >= second or min(count_of[first], count_of[second]) == less_often
    is_first, is_second = x == first, (x == second) & (x != first)
    is_rest = ~(is_first | is_second)
    rest = np.empty_like(bits)
    size, *both = common.squeeze(bits, patterns, rest)
    assert [size, *both] == [is_rest.sum(), is_first.sum(), is_second.sum()]
    np.testing.assert_array_equal(rest[:size], bits[is_rest])
    less = common.count_less(rest[:size], patterns, code)
    assert less == (np.sum(x[is_rest] < first), np.sum(x[is_rest] < second))
    of_rest = np.arange(x.size, dtype=dtype_of_values)
    out, expected = np.empty((2, x.size), dtype=dtype_of_values)
    two = np.array([7, 8], dtype=dtype_of_values)
    assert common.spread(bits, patterns, two, of_rest, out) == size
    expected[is_first], expected[is_second], expected[is_rest] = 7, 8, of_rest[:size]
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("how", BUCKETS)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_common_values_that_are_not_finite(rng, how, value):
    x = rng.normal(size=(2, 2000)).astype(np.float32)
    x[1, rng.random(2000) < 0.5] = value
    table = np.arange(2 * 2000 - 1, dtype=np.float32)
    for only_finite in (False, True):
        with all_in_buckets(how):
            found = rank.map_rows(
                x, table, COUNTING_TIES["average"], with_order=False, threads=2,
                limit=limit_of(INFINITY[4], only_finite=only_finite),
            )  # fmt: skip
        if only_finite or np.isnan(value):
            assert found is None
        else:
            np.testing.assert_array_equal(found[0], counted_ranks(x, "average"))


def test_a_column_of_zeros_is_no_common_value(rng):
    """Though it is met again and again at a regular distance."""
    x = 1 + rng.random((256, 256))
    x[:, 0] = 0
    patterns = np.empty(4, dtype=np.uint64)
    some = as_bits(x.reshape(-1))[common.sampled_indices(x.size)]
    assert not common.find_common(some, code_of(x.dtype), patterns)


def test_where_little_would_be_set_aside_the_row_stays_whole(rng):
    n = 2000
    x, table = rng.random((1, n)), np.arange(2 * n - 1, dtype=np.uint64)
    x[:, common.sampled_indices(n)] = 0.5  # and nothing else
    task = Task(x, code_of(x.dtype), table, (0, 1, 1), table.dtype, np.empty_like(x))
    with lent() as lend:
        rest = common.Rest.for_rows_of(task, np.empty_like(as_bits(x)), lend())
        from_python(common.set_aside)(as_bits(x[0]), task.code, table, task.tie, rest, 0)
        assert rest.sizes[0] == common.WHOLE
        x[:, : n // 5] = 0.5
        from_python(common.set_aside)(as_bits(x[0]), task.code, table, task.tie, rest, 0)
        assert rest.sizes[0] == np.sum(x != 0.5)
    with all_in_buckets("in batches"):
        check_ranks_and_order(x, n_threads=1)
    x[:, : n // 5] = rng.random(n // 5)
    x[:, common.sampled_indices(n)] = 0.5
    for how in BUCKETS:
        with all_in_buckets(how):
            check_ranks_and_order(x, n_threads=2)


@pytest.mark.parametrize("kind", ["heavy tail", "zeros between", "zeros below"])
@pytest.mark.parametrize("with_order", [False, True])
def test_long_rows_that_places_do_not_tell_apart_are_dealt_out(rng, kind, with_order):
    x = rng.lognormal(sigma=3, size=(20, 9000))
    if kind != "heavy tail":
        x = np.where(rng.random(x.shape) < 0.9, 0, rng.normal(size=x.shape))
    x = (np.maximum(x, 0) if kind == "zeros below" else x).astype(np.float32)
    table = np.arange(2 * x.shape[1] - 1, dtype=np.float32)
    tries, ranked = [], several_rows.SeveralRows.rank
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            several_rows.SeveralRows, "rank", lambda *given: tries.append(1) or ranked(*given)
        )
        y, _ = rank.rank_and_gather(
            x, table, COUNTING_TIES["average"], with_order=with_order, threads=1
        )
    np.testing.assert_array_equal(y, counted_ranks(x, "average"))
    # Where the order is kept no value is set aside, and places tell equals from others.
    assert bool(tries) == (kind == "heavy tail" or (kind == "zeros between" and not with_order))


@pytest.mark.parametrize(
    ("n_rows", "n", "is_shared"),
    [(1, 2**18, True), (1, 2**18 - 1, False), (2, 2**20, False), (3, 2**18, False),
     (3, 2**19, True), (4, 2**20, False), (5, 2**20, False)],
)  # fmt: skip
def test_long_rows_are_shared_where_threads_would_wait(monkeypatch, n_rows, n, is_shared):
    shared = []
    monkeypatch.setattr(rank, "_rank_shared_rows", lambda task, threads: shared.append(threads))
    monkeypatch.setattr(rank, "_rank_rows", lambda task, threads: None)
    x = np.broadcast_to(np.float32(0), (n_rows, n))
    rank.rank_and_gather(x, np.zeros(1, np.float32), None, with_order=False, threads=2)
    assert shared == [2] * is_shared


def test_numbers_among_many_zeros_are_not_few(rng):
    few, zeros = rng.integers(0, 30, size=1024) / 32, rng.random(1024)
    zeros[: 1024 * 9 // 10] = 0
    for x, are_few in ((few, True), (rng.permutation(zeros), False)):
        assert levels.may_be_few(x, as_bits(x), code_of(x.dtype)) == are_few


@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
def test_words_of_buckets(rng, dtype):
    """By vectors, of which the last may not be full."""
    for size in (1, 2, 15, 16, 17, 31, 32, 33, 500):
        for span in (1, 2**20, np.iinfo(dtype).max):
            keys = rng.integers(0, span, size=size, dtype=dtype, endpoint=True)
            least, greatest = bucket_words.least_and_greatest(keys)
            assert (least, greatest) == (keys.min(), keys.max())
            words = np.zeros(size + 3, dtype=np.uint32)
            ends = keys.dtype.type(least), keys.dtype.type(greatest)
            lost = bucket_words.bits_lost(*ends, size)
            bucket_words.write_words(keys, ends[0], lost, words)
            distances = [int(key) - int(least) >> lost for key in keys]
            expected = [distance << 9 | i for i, distance in enumerate(distances)]
            assert words.tolist() == [*expected, *[2**32 - 1] * 3]
            assert max(expected) < 2**32
            assert lost == 0 or max(expected) >= 2**31


@given(st.integers(9, 14), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_words_sorted_by_digits(low, size, seed):
    rng = np.random.default_rng(seed)
    size, highest = min(size, 2**low), 2 ** (32 - low)
    words = rng.integers(0, highest, size=size, dtype=np.uint32) << low
    words |= np.arange(size, dtype=np.uint32)
    expected, other = np.sort(words), np.full(size + 5, 7, dtype=np.uint32)
    from_python(digits.sort_by_digits)(
        words, low, other, np.empty(digits.N_DIGITS, dtype=np.uint32)
    )
    np.testing.assert_array_equal(words, expected)
    np.testing.assert_array_equal(other[size:], 7)


@given(
    st.lists(st.sampled_from([0, 1, 2, 7, 8, 9, 15, 16, 40]), min_size=1, max_size=18),
    st.sampled_from([60, 64, 120, 128]),
)
def test_slots_suffice_however_a_row_is_cut(counts, longest):
    one_of = dealing.ONE_OF
    n = one_of * max(sum(counts), 1)
    with lent() as lend:
        memory = lend()
        own = dealing.Dealt.for_rows_of(memory, n, n, longest, stretches=1, notes_buckets=False)
        own_bins = bins.Bins.for_rows_of(n, np.dtype("float32"), 1, own.at.shape[1], memory)
        own_bins.counts[0, : len(counts)] = counts
        n_buckets = dealing.cut(own_bins, own, one_of)
        assert n_buckets <= dealing.most_buckets(n, longest)
        assert own.buckets.begins[n_buckets] < dealing.slots_for(n, longest, one_of)


@pytest.mark.parametrize("kind", ["even", "one bin"])
def test_rows_are_dealt_out_without_being_counted(rng, kind):
    """But for those whose buckets have no room for what comes."""
    n = 20_000
    x = rng.normal(size=(1, n)).astype(np.float32)
    if kind == "one bin":
        counted = np.empty(n // dealing.ONE_OF, dtype=np.int64)
        dealing.sample(np.arange(n), counted)
        x[0, counted] = np.linspace(-1, 1, counted.size)
        x[0, np.setdiff1d(np.arange(n), counted)] *= 1e-6
    task = Task(x, code_of(x.dtype), None, (0, 1, 1), np.dtype(np.uint64), np.empty((1, n)))
    with lent() as lend:
        own = several_rows.SeveralRows(task, 1, lend())
        keys, noted, buckets = own.entries.keys, own.dealt.noted, own.dealt.buckets
        for _ in range(2):  # the counts are empty again
            n_buckets = from_python(dealing.deal_out_row)(
                as_bits(x[0]), own.bins, own.dealt, keys, dealing.NOTHING
            )
            begins, ends, ranks = (each[:n_buckets] for each in buckets)
            np.testing.assert_array_equal(keys[noted], keys_of(x[0]))
            assert len(set(noted.tolist())) == n
            assert np.all(ends <= buckets.begins[1 : n_buckets + 1])
            np.testing.assert_array_equal(ranks, np.cumsum(ends - begins) - (ends - begins))
            assert (buckets.begins[n_buckets] == n) == (kind != "even")
            for begin, end, rank_of_first in zip(begins, ends, ranks, strict=True):
                expected = np.sort(keys_of(x[0]))[rank_of_first : rank_of_first + end - begin]
                np.testing.assert_array_equal(np.sort(keys[begin:end]), expected)


def test_where_equals_stand(rng):
    """One word after the other, and by vectors."""
    for n in (1, 2, 16, 17, 1023, 1024, 1025, 5000):
        words = np.sort(rng.integers(0, max(n // 2, 1) << 9, size=n, dtype=np.uint32))
        expected = np.flatnonzero(words[1:] >> 9 == words[:-1] >> 9)
        for found in (equals.find_equal_words, equals.find_equal_by_vectors):
            spots = np.empty(n + vectors.LANES, dtype=np.uint32)
            if found is equals.find_equal_by_vectors and not vectors.IS_KNOWN:
                continue
            np.testing.assert_array_equal(spots[: found(words, np.uint32(9), spots)], expected)


@given(st.sets(st.integers(0, 60)), st.lists(st.integers(0, 2), min_size=62, max_size=62))
def test_runs_and_levels_among_words(drawn, bits):
    """Where runs of consecutive numbers end, by steps that double, and how often a key changes."""
    spots = np.array(sorted(drawn), dtype=np.uint32)
    row = np.array([0, 2**31, 5], dtype=np.uint32)[bits]  # zero has two patterns
    index, words = np.uint32(511), np.arange(62, dtype=np.uint32)
    code = code_of(np.dtype(np.float32))
    begin = 0
    while begin < spots.size:
        end = begin + 1
        while end < spots.size and spots[end] == spots[begin] + end - begin:
            end += 1
        assert runs.run_end.py_func(spots.astype(np.int64), begin) == end
        begin = end
    keys = keys_of(row.view(np.float32))
    conflicts = int(np.sum(keys[spots] != keys[spots + 1]))
    assert from_python(runs.count_conflicts)(words, spots, index, row, code) == conflicts


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


def test_the_number_of_threads_changes_no_bit(rng, monkeypatch):
    x = rng.normal(size=(300, 1000)).astype(np.float32)
    results = []
    for n_threads in ("1", "2", "5", "no number"):
        monkeypatch.setenv("OMP_NUM_THREADS", n_threads)
        results.append(gm.quantile_map(x).tobytes())
    assert len(set(results)) == 1


def test_threads_follow_the_environment_and_the_machine(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert threads.default_threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert 1 <= threads.default_threads() <= os.cpu_count()


def test_work_is_done_once_by_as_many_as_are_asked_for():
    who, done = set(), []
    barrier = threading.Barrier(2)

    def work(_, begin, end):
        if threading.get_ident() not in who:
            who.add(threading.get_ident())
            barrier.wait(timeout=60)  # passes only where two threads are at work
        done.append((begin, end))

    threads.over_rows(work, lambda _: None, 64, 2**14, entries_per_block=2**14, threads=2)
    assert len(who) == 2
    assert sorted(i for begin, end in done for i in range(begin, end)) == list(range(64))


def test_small_inputs_wake_no_thread():
    who = set()
    threads.over_rows(
        lambda *_: who.add(threading.get_ident()), lambda _: None, 64, 8,
        entries_per_block=64, threads=8,
    )  # fmt: skip
    assert who == {threading.get_ident()}


def test_errors_reach_the_caller():
    def fail(_, begin, end):
        raise RuntimeError(f"rows {begin} to {end}")

    with pytest.raises(RuntimeError, match="rows"):
        threads.over_rows(fail, lambda _: None, 64, 2**14, entries_per_block=2**14, threads=2)


def test_a_failure_waits_for_those_who_are_at_work():
    both_are_here, done = threading.Barrier(2), []

    def work(_, begin, end):
        del end
        both_are_here.wait(timeout=60)
        if begin == 0:
            raise RuntimeError("the first block")
        time.sleep(0.2)
        done.append(begin)

    with pytest.raises(RuntimeError, match="the first block"):
        threads.over_rows(work, lambda _: None, 2, 2**17, entries_per_block=2**17, threads=2)
    assert done == [1]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
def test_an_interrupt_waits_for_those_who_are_at_work():
    """They use memory that is lent again thereafter."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread")
    both_are_here, done = threading.Barrier(2), []

    def work(_, begin, end):
        del end
        both_are_here.wait(timeout=60)
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.5)
            done.append(begin)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            threads.over_rows(work, lambda _: None, 2, 2**17, entries_per_block=2**17, threads=2)
        assert len(done) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_failure_leaves_nothing_behind():
    """Without the collector of cycles: what the work held is let go with the exception."""

    class Memory:
        pass

    def failing(held):
        def fail(_, begin, end):
            raise RuntimeError(f"{held} from {begin} to {end}")

        return fail

    held = Memory()
    is_held = weakref.ref(held)
    gc.disable()
    try:
        with contextlib.suppress(RuntimeError):
            threads.over_rows(
                failing(held), lambda _: None, 8, 2**17, entries_per_block=2**17, threads=2
            )
        del held
        deadline = time.monotonic() + 60
        while is_held() is not None and time.monotonic() < deadline:
            time.sleep(0.01)  # a thread lets go of its work a moment after it has said the result
        assert is_held() is None
    finally:
        gc.enable()


def test_no_rows_are_no_work():
    threads.over_rows(pytest.fail, lambda _: None, 0, 5, entries_per_block=1, threads=2)


def test_eight_callers_at_once(rng):
    x = rng.normal(size=(64, 4000)).astype(np.float32)
    expected = gm.quantile_map(x)
    with ThreadPoolExecutor(8) as pool:
        for y in pool.map(gm.quantile_map, [x] * 32):
            np.testing.assert_array_equal(y, expected)


FORK = """
import os, sys
import array_api_compat.numpy
import numpy as np
import groupmap as gm
x = np.random.default_rng(0).normal(size=(64, 4000))
expected = gm.quantile_map(x)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(gm.quantile_map(x), expected) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_makes_its_own_threads():
    environment = dict(os.environ, OMP_NUM_THREADS="2")
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=120, env=environment)


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


@pytest.mark.parametrize("are_columns", [False, True])
def test_operators_keep_torchs_rules(rng, are_columns):
    torch = pytest.importorskip("torch")
    from groupmap.backends import torch_estimates, torch_kernels

    shape = (20, 3) if are_columns else (3, 20)
    x, y, grad = (torch.as_tensor(rng.normal(size=shape)) for _ in "xyg")
    if are_columns:
        x, y, grad = x.T, y.T, grad.T
    excluded = torch.as_tensor(rng.random((3, 20)) < 0.2)
    quantiles = torch.as_tensor(np.sort(rng.normal(size=20)))
    torch.library.opcheck(torch_kernels.count_less_operator, (x,))
    for absent in (None, excluded):
        torch.library.opcheck(torch_estimates.affine_operator, (x, y, grad, absent))
        rest = (None, absent, quantiles, 4, 1.0)
        torch.library.opcheck(torch_estimates.transport_operator, (x, grad, *rest))


DATA_LOADER = """
import torch, groupmap as gm
x = torch.randn(8, 20_000, generator=torch.Generator().manual_seed(0))
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return len(x)
    def __getitem__(self, i):
        return gm.quantile_map(x[i])
expected = gm.quantile_map(x)  # so that the workers are forked from a process with threads
loaded = torch.utils.data.DataLoader(Rows(), batch_size=4, num_workers=2)
assert torch.equal(torch.cat(list(loaded)), expected)
"""


def test_workers_of_a_data_loader():
    pytest.importorskip("torch")
    environment = dict(os.environ, OMP_NUM_THREADS="2")
    subprocess.run([sys.executable, "-c", DATA_LOADER], check=True, timeout=120, env=environment)


KNOTS = hnp.arrays("float64", st.integers(1, 30), elements=st.floats(-1e3, 1e3, width=16))


@given(
    KNOTS, hnp.arrays("float64", st.integers(1, 30), elements=st.floats(-2e3, 2e3)), st.booleans()
)
def test_interpolation_between_knots(knots, x, at_knots):
    from groupmap.backends.kernels.knots import ON_RUNS, Interpolator, bisect
    from groupmap.interpolation import interpolate

    knots = np.sort(knots)[None]
    values = np.cumsum(np.abs(knots), axis=-1)
    x = np.concatenate([knots[0] if at_knots else x, [np.nan, np.inf, -np.inf]])[None]
    xp, ops = np, ops_for(array_api_compat.numpy)
    for on_runs in ON_RUNS:
        with no_kernels():
            expected = interpolate(x, knots, values, on_runs=on_runs, xp=xp, ops=ops)
        found = Interpolator(knots, values, on_runs)(x, threads=1)
        np.testing.assert_array_equal(found, expected)
        found = bisect(x, knots, values, on_runs, threads=1)
        np.testing.assert_array_equal(found, expected)


HEAVY_TAILED = st.tuples(st.sampled_from([-1.0, 1.0]), st.floats(-40, 40)).map(
    lambda sign_and_log: sign_and_log[0] * math.exp(sign_and_log[1])
)


@given(
    hnp.arrays("float64", st.integers(1, 200), elements=HEAVY_TAILED),
    hnp.arrays("float64", st.integers(1, 30), elements=HEAVY_TAILED),
    st.sampled_from(["float32", "float64"]),
)
def test_buckets_of_knots_with_heavy_tails(knots, x, dtype):
    """They rise with what lies in them, and the steps suffice that are left."""
    from groupmap.backends.kernels.knot_buckets import Buckets, find_buckets, make_buckets

    knots, x = np.unique(knots.astype(dtype)), x.astype(dtype)
    x = np.sort(np.concatenate([x, knots, np.nextafter(knots, -np.inf), [-np.inf, np.inf]]))
    starts, line, _ = (each[0] for each in Buckets.for_knots(1, len(knots)))
    steps = from_python(make_buckets)(knots, starts, line)
    buckets = np.empty(len(x), dtype=np.int32)
    from_python(find_buckets)(x, line, len(starts) - 2, buckets)
    assert np.all(np.diff(buckets) >= 0)
    for side in ("left", "right"):
        rest = np.searchsorted(knots, x, side) - starts[buckets]
        assert np.all((rest >= 0) & (rest < 2**steps))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["normal", "lognormal", "reflected", "cauchy", "both"])
def test_few_steps_are_left_between_knots(kind, dtype):
    """Whichever way the tails are heavy; straight buckets would leave up to ten."""
    from groupmap.backends.kernels.knot_buckets import Buckets, make_buckets

    z = ndtri((np.arange(1000) + 0.5) / 1000)
    knots = {
        "normal": z,
        "lognormal": np.exp(2 * z),
        "reflected": -np.exp(-2 * z),
        "cauchy": np.tan(np.pi * (ndtr(z) - 0.5)),
        "both": np.sinh(3 * z),
    }[kind].astype(dtype)
    starts, line, _ = (each[0] for each in Buckets.for_knots(1, len(knots)))
    assert from_python(make_buckets)(knots, starts, line) <= 3


@given(
    hnp.arrays("float64", st.integers(5, 200), elements=HEAVY_TAILED),
    hnp.arrays("float64", st.integers(1, 600), elements=HEAVY_TAILED),
)
def test_interpolation_between_knots_with_heavy_tails(knots, x):
    from groupmap.backends.kernels.knots import Interpolator, bisect

    knots = np.sort(knots)[None]
    values = np.linspace(0, 1, knots.size)[None]
    x = np.concatenate([x, knots[0], [np.nan, np.inf, -np.inf]])[None]
    found = Interpolator(knots, values, "middle")(x, threads=1)
    np.testing.assert_array_equal(found, bisect(x, knots, values, "middle", threads=1))


@given(
    KNOTS, hnp.arrays("float64", st.integers(1, 30), elements=st.floats(-2e3, 2e3)), st.booleans()
)
def test_lines_through_knots_and_their_slopes(knots, x, is_continued):
    torch = pytest.importorskip("torch")
    from groupmap.nn._piecewise import middles_of_runs, through_knots

    knots = torch.as_tensor(np.sort(knots)[None])
    heights = torch.cumsum(knots.abs(), dim=-1)
    at_knots = middles_of_runs(knots, heights)
    x = torch.as_tensor(np.concatenate([x, knots[0], [np.nan, np.inf, -np.inf]])[None])
    found = []
    for context in (no_kernels, kernels_for_all_sizes):
        leaf = x.clone().requires_grad_()
        with context():
            y = through_knots(leaf, knots, heights, at_knots, is_continued=is_continued)
        y.sum().backward()
        found.append((y.detach(), leaf.grad))
    scale = heights.max().item() + 1.0
    torch.testing.assert_close(
        found[0][0], found[1][0], equal_nan=True, rtol=1e-9, atol=1e-12 * scale
    )
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-9, atol=0.0)


@given(
    hnp.arrays("float32", st.integers(2, 9), elements=st.floats(-20, 20, width=32)),
    st.floats(-1e4, 1e4, width=32),
)
def test_lines_of_single_precision_at_their_jumps(knots, offset):
    """A knot and its neighbour of one unit in the last place lie in the right segments."""
    torch = pytest.importorskip("torch")
    from groupmap.nn._piecewise import middles_of_runs, through_knots

    knots = np.sort(np.concatenate([knots, knots[-1:]])) + np.float32(offset)
    beside = np.concatenate([knots, np.nextafter(knots, -np.inf), np.nextafter(knots, np.inf)])
    knots, x = torch.as_tensor(knots)[None], torch.as_tensor(beside)[None]
    heights = torch.arange(knots.shape[1], dtype=torch.float32)[None]
    at_knots = middles_of_runs(knots, heights)
    with no_kernels():
        expected = through_knots(x, knots, heights, at_knots, is_continued=False)
    with kernels_for_all_sizes():
        found = through_knots(x, knots, heights, at_knots, is_continued=False)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("scale", [1.0, 1e300, 1e-310])
def test_knots_of_every_scale(rng, scale):
    from groupmap.backends.kernels.knots import Interpolator

    knots = np.sort(np.exp(5 * rng.normal(size=(3, 200))), axis=-1) * scale / 1e7
    values = np.broadcast_to(np.linspace(0, 1, 200), knots.shape)
    at_knots = Interpolator(knots, values, "middle")(knots, threads=2)
    np.testing.assert_allclose(at_knots, values, atol=1e-15 if scale > 1e-300 else 0.5)
    assert np.all(np.diff(at_knots, axis=-1) >= 0)


@pytest.mark.parametrize("target", ["uniform", "gaussian"])
def test_a_transformer_gives_the_same_bits_with_kernels_and_without(rng, target):
    pytest.importorskip("sklearn")
    X = rng.normal(size=(3000, 7))
    X[:, 2] = np.maximum(X[:, 2], 0)
    X[::50, 3] = np.nan
    results = []
    for context in (no_kernels, kernels_for_all_sizes):
        with context():
            fitted = gm.GroupMapTransformer(n_quantiles=100, target_quantiles=target).fit(X)
            y = fitted.transform(X)
            results.append((fitted.quantiles_, y, fitted.inverse_transform(y)))
    *exact, back = zip(*results, strict=True)
    for one, other in exact:
        np.testing.assert_array_equal(one, other)
    # The kernel of the normal cdf is another approximation than SciPy's.
    np.testing.assert_allclose(*back, rtol=1e-12 if target == "gaussian" else 0, atol=1e-14)


def test_inside_of_dask_workers(rng):
    da = pytest.importorskip("dask.array")
    x = rng.normal(size=(64, 4000)).astype(np.float32)
    lazy = gm.quantile_map(da.from_array(x, chunks=(4, 4000)))
    computed = lazy.compute(scheduler="threads", num_workers=8)
    np.testing.assert_array_equal(computed, gm.quantile_map(x))


def test_compiled_with_the_operator_inside_and_exported_without(rng):
    """Compiled code runs where groupmap is; a saved program need not."""
    torch = pytest.importorskip("torch")
    layer = gm.GroupMap(2, 4).eval()
    x = torch.as_tensor(rng.normal(size=(3, 4, 5)), dtype=torch.float32)
    graphs = []

    def backend(graph, inputs):
        del inputs
        graphs.append(str(graph.graph))
        return graph.forward

    batch = torch.export.Dim("batch", min=2, max=64)
    with kernels_for_all_sizes():
        torch._dynamo.reset()
        torch.compile(layer, fullgraph=True, backend=backend)(x)
        assert "groupmap.count_less" in graphs[0]
        program = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},))
        assert "groupmap" not in str(program.graph)
        for size in (3, 7):
            again = torch.as_tensor(rng.normal(size=(size, 4, 5)), dtype=torch.float32)
            torch.testing.assert_close(program.module()(again), layer(again))


def test_memory_is_laid_out_and_kept():
    with lent() as lend:
        first = lend()
        arrays = [first.empty((3, 5), np.float32), first.empty(7, "u8"), first.empty((), np.uint16)]
        for k, array in enumerate(arrays):
            array.fill(k)
        assert all(np.all(array == k) for k, array in enumerate(arrays))  # none lies in another
        other = lend().empty(7, np.uint8)  # a second one for the same thread
        assert not any(np.shares_memory(other, array) for array in arrays)
        assert first.empty(BYTES_KEPT, np.uint8).base is None  # too long to be kept
    with lent() as lend:
        again = lend().empty(3, np.float32)
        assert np.shares_memory(again, other) or np.shares_memory(again, arrays[0])


def test_memory_belongs_to_the_thread_that_asks():
    with lent() as lend, ThreadPoolExecutor(1) as pool:
        own, others = lend().empty(5, np.uint8), pool.submit(lambda: lend().empty(5, np.uint8))
        assert not np.shares_memory(own, others.result())
