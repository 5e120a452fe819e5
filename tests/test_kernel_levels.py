"""The compiled kernels of rows with few values, or with some that many entries share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from groupmap.backends._bits import INFINITY, as_bits, code_of, for_reading, limit_of
from groupmap.ranks import COUNTING_TIES

pytest.importorskip("numba")

from groupmap.backends.kernels import common, levels, rank
from groupmap.backends.kernels.memory import lent
from groupmap.backends.kernels.task import Task
from tests.kernel_calls import (
    BUCKETS,
    all_in_buckets,
    bits_to_read,
    check_ranks_and_order,
)
from tests.rows import counted_ranks

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
    asked = (for_reading(rows), bits_to_read(rows), code_of(rows.dtype))
    levels.find_few(*asked, is_done)
    levels.count_places(*asked, table, rank.tie_of(rule), out, order.view(np.int32), is_done)
    assert is_done[0] == is_apart
    if is_apart:
        np.testing.assert_array_equal(out, counted_ranks(rows, ties))
        np.testing.assert_array_equal(order, np.argsort(rows, stable=True))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int64", "float16"])
def test_keys_that_span_few_levels_are_counted(rng, dtype):
    for spread, is_few in ((30, True), (140, True), (160, False)):
        x = np.linspace(0, spread, 100).round().astype(dtype)[None]
        if dtype == "float16":
            x = (x.astype(np.uint16) + np.uint16(0x3C00)).view(np.float16)
        rng.shuffle(x, axis=1)
        out, order = np.empty((2, *x.shape), dtype=np.uint32)
        is_done = np.zeros(1, dtype=np.bool_)
        levels.count_keys(
            bits_to_read(x), code_of(x.dtype), np.arange(2 * x.size - 1, dtype=np.uint32),
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
        bits_to_read(x), code_of(x.dtype), np.arange(2 * x.size - 1, dtype=np.uint32),
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
    bits, no_order = bits_to_read(x), np.empty((0, 0), dtype=np.int32)
    levels.count_keys(bits, code_of(x.dtype), table, rule, out, no_order, is_done)
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
    bits, code = bits_to_read(x), code_of(x.dtype)
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
    some = bits_to_read(x.reshape(-1))[common.sampled_indices(x.size)]
    assert not common.find_common(some, code_of(x.dtype), patterns)


def test_where_little_would_be_set_aside_the_row_stays_whole(rng):
    n = 2000
    x, table = rng.random((1, n)), np.arange(2 * n - 1, dtype=np.uint64)
    x[:, common.sampled_indices(n)] = 0.5  # and nothing else
    task = Task(x, code_of(x.dtype), table, (0, 1, 1), table.dtype, np.empty_like(x))
    with lent() as lend:
        rest = common.Rest.for_rows_of(task, np.empty_like(as_bits(x)), lend())
        common.set_aside_in_rows(bits_to_read(x), task.code, table, task.tie, rest)
        assert rest.sizes[0] == common.WHOLE
        x[:, : n // 5] = 0.5
        common.set_aside_in_rows(bits_to_read(x), task.code, table, task.tie, rest)
        assert rest.sizes[0] == np.sum(x != 0.5)
    with all_in_buckets("in batches"):
        check_ranks_and_order(x, n_threads=1)
    x[:, : n // 5] = rng.random(n // 5)
    x[:, common.sampled_indices(n)] = 0.5
    for how in BUCKETS:
        with all_in_buckets(how):
            check_ranks_and_order(x, n_threads=2)


def test_numbers_among_many_zeros_are_not_few(rng):
    few, zeros = rng.integers(0, 30, size=1024) / 32, rng.random(1024)
    zeros[: 1024 * 9 // 10] = 0
    for x, are_few in ((few, True), (rng.permutation(zeros), False)):
        assert levels.may_be_few(for_reading(x), bits_to_read(x), code_of(x.dtype)) == are_few
