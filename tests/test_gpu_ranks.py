"""Ranks and order by the kernels for GPUs, run by an emulation that needs none."""

from __future__ import annotations

import numpy as np
import pytest

import groupmap as gm
from groupmap.backends.cuda import programs, ranking
from groupmap.ranks import COUNTING_TIES
from tests import cuda_emulation
from tests.emulated_gpu import LIMITS, emulated_gpu
from tests.gpu_launches import (
    ENTRIES_OF_A_WARP,
    HARD_BITS,
    HARD_VALUES,
    KINDS,
    LONGEST_SORTED,
    NO_ROOM,
    TIES,
    bytes_of,
    dtype_of,
    half_zeros,
    hard_rows,
    kernels_of,
    launches,
    map_with_order,
    numbers_in,
    one_far_away,
    several_clusters,
)
from tests.rows import counted_ranks

pytest.importorskip("torch")
import torch

from groupmap.backends import torch_cuda

if not cuda_emulation.AVAILABLE:
    pytest.skip("there is no g++ to compile kernels with", allow_module_level=True)

# Ranks and order.

LENGTHS = {
    "float32": (1, 31, 33, 129, 512, 513, 2049, 9000, 15_000, 17_000),
    "float64": (2, 129, 257, 513, 5000, 17_000),
    "float16": (31, 512, 513, 4096),
    "bfloat16": (32, 129, 4500),
    "int8": (700, 600),
    "uint8": (5000, 700),
    "int16": (33, 20_000),
    "int32": (31, 513),
    "int64": (2, 17_000),
    "uint16": (512, 27_000),
    "uint32": (129, 257),
    "uint64": (33, 2049),
}


def check_ranks(rng, dtype, shape, kinds, limits=LIMITS, *, with_order):
    """Against counting; the kernels that were launched come back."""
    n = shape[-1]
    table = torch.arange(2 * n - 1, dtype=torch.float32)  # which holds them exactly
    launched = []
    for number, kind in enumerate(kinds):
        x = hard_rows(kind, dtype, shape, rng)
        values, ties = numbers_in(x), TIES[(number + n) % 4]
        with launches(limits=limits) as of_kind:
            less, less_equal = torch_cuda.count_less(x)
            y, order = torch_cuda.map_rows(
                x, None, table, COUNTING_TIES.get(ties), with_order=with_order
            )
        launched += of_kind
        np.testing.assert_array_equal(2 * less, counted_ranks(values, "min"), str(kind))
        np.testing.assert_array_equal(2 * less_equal - 2, counted_ranks(values, "max"), str(kind))
        np.testing.assert_array_equal(y, counted_ranks(values, ties), str(kind))
        if with_order:
            expected = np.argsort(values + values.dtype.type(0), axis=-1, stable=True)
            np.testing.assert_array_equal(order, expected, str(kind))
    return kernels_of(launched)


@pytest.mark.parametrize(
    ("dtype", "n", "with_order"),  # of every other length: kernels that write it are others
    [
        *(
            (dtype, n, number % 2 == 1)
            for dtype, lengths in LENGTHS.items()
            for number, n in enumerate(lengths)
        ),
        ("int16", 20_000, False),
        ("uint16", 27_000, False),
    ],
)
def test_ranks_and_order(rng, dtype, n, with_order):
    shape = (5 if n <= ENTRIES_OF_A_WARP else 2, n)
    kernels = check_ranks(rng, dtype, shape, KINDS, with_order=with_order)
    is_counted = programs.numbers_of(dtype_of(dtype)).bits <= 16 and n > ENTRIES_OF_A_WARP
    own = {"map_rows_of_16_bits"} if is_counted else set()
    own |= {"map_rows_sorted"} if n <= LONGEST_SORTED else set()
    assert kernels == {"map_rows"} | own


@pytest.mark.parametrize("dtype", ["float32", "int16"])
@pytest.mark.parametrize(("n", "with_order"), [(100, True), (4097, False), (10_000, True)])
def test_ranks_of_rows_beyond_shared_memory(rng, dtype, n, with_order):
    kernels = check_ranks(rng, dtype, (3, n), KINDS, NO_ROOM, with_order=with_order)
    assert len(kernels) == 8
    assert "rank_segments" in kernels


@pytest.mark.parametrize(("dtype", "with_order"), [("float32", True), ("float64", False)])
def test_ranks_of_long_rows(rng, dtype, with_order):
    """Some buckets of them are too large to be sorted in shared memory."""
    kinds = [*HARD_VALUES, *((draw, "as drawn") for draw in HARD_BITS)]
    kernels = check_ranks(rng, dtype, (1, 70_000), kinds, with_order=with_order)
    assert "rank_hard_segments" in kernels


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("n", [100, 700, 5000])
def test_all_tie_rules_of_all_hard_rows(rng, ties, n):
    table = torch.arange(2 * n - 1, dtype=torch.float32)
    for kind in KINDS:
        x = hard_rows(kind, "float32", (3, n), rng)
        with launches():
            y, _ = torch_cuda.map_rows(x, None, table, COUNTING_TIES.get(ties), with_order=False)
        np.testing.assert_array_equal(y, counted_ranks(x.numpy(), ties), str(kind))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ordered", [False, True])
def test_the_longest_row_that_fits(rng, dtype, ordered):
    numbers = programs.numbers_of(dtype_of(dtype))
    with emulated_gpu():
        fitting = [
            n for n in range(2**14, 2**16, 2) if ranking.fits(n, numbers, 0, ordered=ordered)
        ]
    n = max(fitting)
    assert n < 2**16 - 2
    x = hard_rows((several_clusters, "as drawn"), dtype, (1, n), rng)
    table = torch.arange(2 * n - 1, dtype=torch.float32)
    with launches():
        y, _ = torch_cuda.map_rows(x, None, table, COUNTING_TIES["average"], with_order=ordered)
    np.testing.assert_array_equal(y, counted_ranks(x.numpy(), "average"))


def check_order_of_what_counts(rng, dtype, n, kinds, ties="average", limits=LIMITS):
    for kind in kinds:
        x = hard_rows(kind, dtype, (4, n), rng)
        where = torch.as_tensor(rng.random((4, n)) < 0.8)
        where[3] = False
        if x.is_floating_point():
            x[torch.as_tensor(rng.random((4, n)) < 0.2)] = torch.nan
            x[1] = torch.nan
        with launches(limits=limits):
            y, order = map_with_order(x, where, ties)
        values = numbers_in(x)
        counts = where.numpy() & ~torch.isnan(x).numpy()
        np.testing.assert_array_equal(torch.isnan(y), ~counts)
        for row in range(4):
            valid = np.flatnonzero(counts[row])
            ascending = valid[np.argsort(values[row, valid], stable=True)]
            np.testing.assert_array_equal(order[row, : len(valid)], ascending)
            assert bool((order[row, len(valid) :] == -1).all())


@pytest.mark.parametrize("n", [1, 40, 600])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int16"])
@pytest.mark.parametrize("ties", ["average", "ordinal"])
def test_the_order_ends_with_what_is_missing(rng, n, dtype, ties):
    check_order_of_what_counts(rng, dtype, n, KINDS, ties)


def test_so_does_that_of_long_rows(rng):
    kinds = ("constant", "one far away", (half_zeros, "as drawn"), (one_far_away, "descending"))
    check_order_of_what_counts(rng, "float32", 15_000, kinds, limits=NO_ROOM)


# Nothing depends on which thread is first.

SEEDS = ((1, False), (17, False), (0, True), (5, True), (2, False), (3, False), (2026, False))


def all_results(x, where, grad, seed=0, **options):
    leaf = x.clone().requires_grad_()
    with launches(seed, **options) as launched:
        values = gm.quantile_map(x, where=where)
        y = gm.quantile_map(leaf, where=where, target_quantiles="logistic")
        y.backward(grad)
        order = map_with_order(x, where)[1]
        less, _ = torch_cuda.count_less(x.nan_to_num())
    return [bytes_of(each) for each in (values, y, order, less, leaf.grad)], kernels_of(launched)


def hard_rows_with_nan(rng, dtype, n):
    kinds = (*HARD_VALUES, *((draw, "as drawn") for draw in HARD_BITS))
    x = torch.cat([hard_rows(kind, dtype, (1, n), rng) for kind in kinds])
    x[1::2, ::7] = torch.nan
    return x


def check_order_of_threads(rng, dtype, n, seeds=SEEDS, limits=LIMITS):
    x = hard_rows_with_nan(rng, dtype, n)
    grad = torch.as_tensor(rng.normal(size=x.shape)).to(x.dtype)
    for where in (None, torch.as_tensor(rng.random(x.shape) < 0.9)):
        expected, kernels = all_results(x, where, grad, limits=limits)
        for seed, switch_at_atomics in seeds:
            found, _ = all_results(
                x, where, grad, seed, switch_at_atomics=switch_at_atomics, limits=limits
            )
            assert found == expected, (seed, switch_at_atomics)
    return kernels


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("n", [40, 700, 2500])
def test_the_order_of_threads_changes_no_bit(rng, dtype, n):
    kernels = check_order_of_threads(rng, dtype, n)
    has_bits = dtype == "float16" and n > ENTRIES_OF_A_WARP
    own = {"map_rows_of_16_bits"} if has_bits else set()
    own |= {"map_rows_sorted"} if n <= LONGEST_SORTED else set()
    assert kernels == {"fill_table", "map_rows", "transport"} | own


def test_nor_where_keys_are_counted(rng):
    assert "map_rows_of_16_bits" in check_order_of_threads(rng, "float16", 4100)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nor_that_of_blocks(rng, dtype):
    """Where several of them have to do with one row."""
    assert "rank_segments" in check_order_of_threads(rng, dtype, 9000, SEEDS[:3], NO_ROOM)
