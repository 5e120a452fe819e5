"""Rows beyond shared memory on an emulated GPU, with segments small enough to reach everything."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from groupmap.backends._ops import Scale
from groupmap.backends.cuda import long_rows, partitions, plans, programs
from groupmap.backends.cuda.requests import Request
from groupmap.ranks import COUNTING_TIES
from tests import cuda_emulation
from tests.emulated_gpu import LIMITS, emulated_gpu
from tests.gpu_launches import (
    KINDS,
    NO_ROOM,
    TIES,
    bytes_of,
    dtype_of,
    hard_rows,
    kernels_of,
    launches,
)
from tests.rows import counted_ranks
from tests.test_gpu_ranks import check_order_of_threads, check_order_of_what_counts, check_ranks
from tests.test_gpu_values import check_as_if_not_there

pytest.importorskip("torch")
import torch

from groupmap.backends import torch_cuda

if not cuda_emulation.AVAILABLE:
    pytest.skip("there is no g++ to compile kernels with", allow_module_level=True)

DEALING = {
    "find_extremes", "fill_bins", "sum_up_bins", "count_partitions", "sum_up_tiles",
    "fill_partitions", "rank_segments", "rank_hard_segments",
}  # fmt: skip
COUNTING = {"count_keys", "sum_up_keys", "write_by_keys"}
PLAN_AT = plans.plan_at
SHORT_NUMBERS = ("float16", "bfloat16", "int16", "uint16", "int8", "uint8")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """No row is taken for a short one; and segments, and what a block looks at, are small."""
    monkeypatch.setattr(plans, "plan_at", lambda *_, **__: None)
    monkeypatch.setattr(partitions, "LEAST_LOG_SEGMENT", 10)
    monkeypatch.setattr(partitions, "LOG_SEGMENT", 10)
    monkeypatch.setattr(partitions, "LOG_SEGMENT_OF_DOUBLES", 10)
    monkeypatch.setattr(partitions, "LONGEST_OF_WARP", 64)
    monkeypatch.setattr(long_rows, "LEAST_STRETCH", 1024)
    monkeypatch.setattr(long_rows, "MOST_COUNTED", 1500)
    partitions.plan_for.cache_clear()
    yield
    partitions.plan_for.cache_clear()


@pytest.mark.parametrize(
    ("dtype", "n", "with_order"),
    [("float32", 1, True), ("float32", 1024, False), ("float32", 1025, True),
     ("float32", 6000, False), ("float32", 6000, True), ("float64", 6000, False),
     ("int32", 6000, True), ("uint64", 1, True), ("uint64", 1025, False), ("uint64", 6000, True)],
)  # fmt: skip
def test_ranks_by_partitions(rng, dtype, n, with_order):
    assert check_ranks(rng, dtype, (2, n), KINDS, with_order=with_order) == DEALING


def test_partitions_of_more_than_a_segment(rng, monkeypatch):
    """As the longest rows have; those that hold little all the same are ranked by fewer buckets."""
    monkeypatch.setattr(partitions, "MOST_PARTITIONS", 4)
    assert check_ranks(rng, "float32", (2, 9400), KINDS, with_order=True) == DEALING


@pytest.mark.parametrize(
    ("dtype", "with_order"), [(each, k % 2 == 0) for k, each in enumerate(SHORT_NUMBERS)]
)
def test_ranks_by_counters(rng, dtype, with_order):
    kinds = ("random", *KINDS[:2], *KINDS[-2:])
    kernels = check_ranks(rng, dtype, (2, 4000), kinds, with_order=with_order)
    assert kernels == DEALING | COUNTING  # where the order is asked for or decides ties, and else


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("ties", ["average", "ordinal"])
def test_the_order_ends_with_what_is_missing(rng, dtype, ties):
    check_order_of_what_counts(rng, dtype, 3000, KINDS, ties)


@pytest.mark.parametrize("ties", TIES)
def test_tie_rules_of_few_values(rng, ties):
    """Values that fill more than a segment each, beside those that share one."""
    x = torch.as_tensor(rng.integers(0, 4, (1, 8000)) ** 9.0).float()
    x[0, rng.integers(0, 8000, 700)] = 1e9
    x[0, ::11] = torch.as_tensor(rng.normal(size=x[0, ::11].shape)).float()
    table = torch.arange(2 * 8000 - 1, dtype=torch.float32)
    for with_order in (False, True):
        with launches() as launched:
            y, order = torch_cuda.map_rows(
                x, None, table, COUNTING_TIES.get(ties), with_order=with_order
            )
        assert kernels_of(launched) == DEALING
        np.testing.assert_array_equal(y, counted_ranks(x.numpy(), ties))
        if with_order:
            np.testing.assert_array_equal(order, np.argsort(x.numpy(), axis=-1, stable=True))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("limits", [LIMITS, NO_ROOM], ids=["counted", "dealt"])
def test_what_is_missing_is_as_if_it_were_not_there(rng, dtype, limits):
    kernels = check_as_if_not_there(rng, "logistic", dtype, 3000, limits)
    is_counted = dtype == "float16" and limits == LIMITS
    assert (COUNTING if is_counted else DEALING) <= kernels


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_order_of_threads_changes_no_bit(rng, dtype):
    seeds = ((1, False), (0, True), (2026, False))
    assert check_order_of_threads(rng, dtype, 2600, seeds) >= DEALING


@pytest.mark.parametrize(
    ("dtype", "results"),
    [
        ("float32", "float32"),
        ("float32", "float16"),
        ("bfloat16", "float16"),
        ("float64", "float32"),
    ],
)
@pytest.mark.parametrize("spans", [(1, 3, 1, 2500), (2, 2, 50, 50)])
def test_weight_and_bias(rng, dtype, spans, results, monkeypatch):
    """As rows that fit have them; where each entry has its own, and the results hold what is not
    yet scaled, in a pass of its own. One without the other is a program more for each."""
    x = hard_rows("some ties", dtype, (4, 2500), rng)
    table = torch.linspace(-2, 2, 2 * 2500 - 1, dtype=torch.float32)
    size = spans[1] * spans[3]
    weight, bias = torch.as_tensor(rng.normal(size=(2, size))).float()
    found = []
    of_each_kind = (dtype, results) in {("float32", "float32"), ("bfloat16", "float16")}
    alone = ((True, False), (False, True)) if of_each_kind else ()
    for with_weight, with_bias in ((True, True), *alone):
        scale = Scale(
            weight if with_weight else None, bias if with_bias else None, spans, dtype_of(results)
        )
        for plan_at in (lambda *_, **__: None, PLAN_AT):
            monkeypatch.setattr(plans, "plan_at", plan_at)
            with launches() as launched:
                y, _ = torch_cuda.map_rows(
                    x, None, table, COUNTING_TIES["average"], with_order=False, scale=scale
                )
            found.append((bytes_of(y), kernels_of(launched)))
    for (long, of_long), (short, of_short) in zip(found[::2], found[1::2], strict=True):
        assert long == short
        assert not of_long & of_short
        is_apart = spans[2] == 1 and results == "float32" and dtype != "bfloat16"
        assert is_apart == ("scale_rows" in of_long)


def request_of(dtype, n_rows, n):
    numbers, table = programs.numbers_of(dtype_of(dtype)), programs.numbers_of(torch.float32)
    return Request(n_rows, n, numbers, table, table, None, None, (0.0, 0.0))


@pytest.mark.parametrize(
    ("dtype", "ordered", "most"),
    [("float32", False, 8.5), ("float64", True, 13), ("float16", True, 6.5), ("int8", False, 0.1)],
)
def test_memory_that_is_lent(dtype, ordered, most, monkeypatch):
    """Bytes an entry of long rows, and shared memory for two blocks on a multiprocessor."""
    monkeypatch.undo()
    partitions.plan_for.cache_clear()
    with emulated_gpu():
        lent = long_rows.scratch_bytes(request_of(dtype, 3, 10**6), 0, ordered=ordered)
        plan = partitions.plan_for(request_of(dtype, 1, 1).values, 0)
    assert sum(lent) <= 3 * 10**6 * most
    assert 2 * (plan.bytes_to_rank + 1024) <= 228 * 1024


def test_no_segment_of_normal_data_is_hard(rng):
    """As it is where a bin reaches into the next exponent, whose floats lie twice as far apart."""
    n = 125_000
    x, table = torch.as_tensor(rng.normal(size=(1, n))).float(), torch.zeros(2 * n - 1)
    zeroed = []

    def zeros(*arguments):
        zeroed.append(torch.zeros(arguments[0], dtype=torch.uint8))
        return zeroed[-1]

    with launches(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_cuda, "MEMORY", dataclasses.replace(torch_cuda.MEMORY, zeros=zeros))
        torch_cuda.map_rows(x, None, table, COUNTING_TIES["average"], with_order=False)
    n_hard, states = zeroed[0][:4], zeroed[0][16:48]
    assert n_hard.view(torch.int32) == 0
    assert states.any()
