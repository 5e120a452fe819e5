"""Rows of few different values, counted by kernels: as others without, to the last bit."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import groupmap as gm
from tests.backends import with_kernels_and_without

pytest.importorskip("numba")
from groupmap.backends._bits import as_bits
from groupmap.backends.kernels import eight_bits, few_values, places, threads


@contextlib.contextmanager
def counted():
    """A list that grows by the number of rows whose levels are counted."""
    with pytest.MonkeyPatch.context() as patch:
        calls = []
        count = eight_bits.count_levels
        patch.setattr(
            eight_bits, "count_levels",
            lambda rows, **options: calls.append(len(rows)) or count(rows, **options),
        )  # fmt: skip
        yield calls


@pytest.mark.parametrize("lie", ["rows", "columns", "one row"])
@pytest.mark.parametrize(
    ("x_dtype", "dtype"), [("uint8", "int8"), ("int8", "uint8"), ("uint8", "float64")]
)
@given(seed=st.integers(0, 9), n=st.integers(2000, 9000), n_levels=st.integers(1, 256),
       ties=st.sampled_from(["average", "min", "max"]),
       positions=st.sampled_from(["linear", "hazen"]))  # fmt: skip
def test_numbers_of_8_bits_are_counted(lie, x_dtype, dtype, seed, n, n_levels, ties, positions):
    rng = np.random.default_rng(seed)
    shape = {"rows": (3, n), "columns": (n, 3), "one row": (n,)}[lie]
    x, reference = (
        rng.integers(0, n_levels, shape).astype("uint8").astype(each) for each in (x_dtype, dtype)
    )
    axis = 0 if lie == "columns" else -1

    def match():
        return gm.match_quantiles(x, reference, axis=axis, ties=ties, positions=positions)

    with counted() as calls:
        found, expected = with_kernels_and_without(match)
    np.testing.assert_array_equal(found, expected)
    # Of the reference to sort it, of x to map it: where there are far fewer levels than entries.
    of_reference, of_x = int(dtype != "float64"), int(n >= 8 * 256)
    assert len(calls) == of_reference + of_x


@pytest.mark.parametrize("target", ["gaussian", "sparse", np.array([3.0, 1.0, 4.0, 1.0])])
@pytest.mark.parametrize("ties", ["average", "min", "max", "ordinal"])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_numbers_of_8_bits_are_mapped_as_wider_ones(rng, target, ties, dtype):
    x = rng.integers(0, 256, (60, 110, 2)).astype("uint8").astype(dtype)
    with counted() as calls:
        y = gm.quantile_map(x, target, axis=(0, 1), ties=ties)
    assert calls == ([] if ties == "ordinal" else [2])
    assert y.flags.c_contiguous  # as x is
    wider = gm.quantile_map(x.astype("int32"), target, axis=(0, 1), ties=ties)
    np.testing.assert_array_equal(y, wider)
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(x)
    if isinstance(target, np.ndarray):
        target = torch.from_numpy(target)
    y = gm.quantile_map(tensor, target, axis=(0, 1), ties=ties)
    wider = gm.quantile_map(tensor.int(), target, axis=(0, 1), ties=ties)
    assert torch.equal(y, wider)


@pytest.mark.parametrize("lie", ["rows", "columns"])
@pytest.mark.parametrize("n_rows", [eight_bits.MOST_BY_COLUMNS, 40])
def test_many_rows_of_8_bits(rng, n_rows, lie):
    shape, axis = ((n_rows, 2500), 1) if lie == "rows" else ((2500, n_rows), 0)
    x, reference = rng.integers(0, 256, (2, *shape)).astype("uint8")
    with counted() as calls:
        found, expected = with_kernels_and_without(
            lambda: gm.match_quantiles(x, reference, axis=axis)
        )
    assert calls == [n_rows, n_rows]
    np.testing.assert_array_equal(found, expected)
    assert found.strides == tuple(8 * each for each in x.strides)


def test_a_reference_of_8_bits_learns(rng):
    torch = pytest.importorskip("torch")
    for dtype in (torch.uint8, torch.int8):
        x = torch.from_numpy(rng.integers(0, 256, 9000).astype("uint8")).to(dtype)
        reference = torch.from_numpy(rng.normal(size=700)).requires_grad_()
        with counted() as calls:
            y = gm.quantile_map(x, reference)
        assert calls == [1]
        wider = gm.quantile_map(x.int(), reference)
        assert torch.equal(y, wider)
        weight = torch.from_numpy(rng.normal(size=9000))
        found, expected = (torch.autograd.grad(each @ weight.to(each), reference)[0]
                           for each in (y, wider))  # fmt: skip
        torch.testing.assert_close(found, expected)
        with torch.no_grad():
            assert torch.equal(gm.quantile_map(x, reference), wider)


@contextlib.contextmanager
def floats_of_all_lengths():
    """The same for rows however short, and as many threads as are asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few_values, "SHORTEST", 1)
        patch.setattr(few_values, "ENTRIES_PER_BLOCK", 300)
        patch.setattr(threads, "LEAST_ENTRIES_PER_THREAD", 1)
        patch.setattr(threads, "LEAST_ENTRIES_PER_BLOCK", 1)
        yield spied_shapes(patch)


def spied_shapes(patch):
    """A list that grows by the shape of rows of few floats that are counted."""
    shapes, known = [], few_values.FewValues
    patch.setattr(
        few_values, "FewValues", lambda rows, *rest: shapes.append(rows.shape) or known(rows, *rest)
    )
    return shapes


def counted_floats(rows, n_threads=2):
    return few_values.values_if_few(rows, threads=n_threads, with_places=True)


def laid(rows, lie):
    """The same rows, as they lie side by side, one after the other, or with gaps between."""
    if lie == "columns":
        return np.ascontiguousarray(rows.T).T
    return rows if lie == "rows" else np.repeat(rows, 2, axis=1)[:, ::2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lie", ["rows", "columns", "apart"])
@given(
    steps=st.lists(st.integers(-300, 300), min_size=1, max_size=40),
    step=st.sampled_from([1.0, 1 / 255, 0.3, 1e-30, 1e30]), start=st.sampled_from([0, -1, 1000]),
    n_rows=st.integers(1, 3), n=st.integers(1, 3000), n_threads=st.integers(1, 3),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_few_floats_are_counted(dtype, lie, steps, step, start, n_rows, n, n_threads, seed):
    rng = np.random.default_rng(seed)
    values = (np.asarray([start + each for each in steps]) * step).astype(dtype)
    rows = rng.choice(values, (n_rows, n))
    rows = laid(np.where(rows == 0, rng.choice([0.0, -0.0], rows.shape), rows).astype(dtype), lie)
    with floats_of_all_lengths(), counted_floats(rows, n_threads) as found:
        if n <= places.SAMPLE:  # else some may come too late
            assert found is not None
        if found is not None:
            check_counted(rows, found)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(
    values=st.lists(
        st.floats() | st.sampled_from([0.0, -0.0, 5e-324, 1e-45, 1, 2, 3e38, -1.7e308, 1.7e308]),
        min_size=1, max_size=8,
    ),
    n=st.integers(1, 3000), n_threads=st.integers(1, 3), seed=st.integers(0, 9),
)  # fmt: skip
def test_any_floats_are_counted_rightly_or_not_at_all(dtype, values, n, n_threads, seed):
    with np.errstate(over="ignore"):
        values = np.asarray(values).astype(dtype)
    rows = np.random.default_rng(seed).choice(values, (2, n))
    with (
        np.errstate(all="raise"), floats_of_all_lengths(), counted_floats(rows, n_threads) as found
    ):  # fmt: skip
        assert np.all(np.isfinite(rows)) or found is None
        if found is not None:
            check_counted(rows, found)


def check_counted(rows, found):
    """The values in ascending order, and how often each occurs, by NumPy."""
    k = found.numbers.shape[1]
    place = found.look_up(np.broadcast_to(np.arange(k), found.numbers.shape))
    assert place.flags.c_contiguous
    np.testing.assert_array_equal(np.take_along_axis(found.numbers, place, axis=1), rows)
    widest = 0
    for r, row in enumerate(rows):
        numbers, counts = np.unique(row, return_counts=True)
        less_equal, others = np.cumsum(counts), k - len(numbers)
        widest = max(widest, len(numbers))
        last = ((0, others), "edge")
        np.testing.assert_array_equal(found.numbers[r], np.pad(numbers, *last))
        np.testing.assert_array_equal(found.less_equal[r], np.pad(less_equal, *last))
        less = np.pad(less_equal - counts, (0, others), constant_values=len(row))
        np.testing.assert_array_equal(found.less[r], less)
    assert widest == k


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nearly_as_many_floats_as_there_are_places(rng, dtype):
    """Of which a sample sees few; others are found where only one of the threads looks."""
    most = int(0.9 * places.PLACES / places.APART)
    rows = np.full((2, 60_000), most // 2, dtype)  # which is between all of them
    rows[:, ::7] += 1  # so that it is seen how far they are apart
    rows[:, rng.permutation(60_000)[:most]] = rng.permutation(most)
    for n_threads in (1, 2):
        with floats_of_all_lengths(), counted_floats(rows, n_threads) as found:
            check_counted(rows, found)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf, 0.1, 1e6, -1e6])
@pytest.mark.parametrize("n", [10, 5000, 60_000])
def test_floats_without_a_place_of_their_own_are_not_counted(rng, dtype, value, n):
    """Of the others 0 stands in one half of the rows and 0.1 in the other, where two threads look
    for it."""
    for spot in rng.integers(n // 2, n, 5):
        rows = rng.integers(0, 3, (2, n)).astype(dtype)
        rows[1, n // 2 :] += 1
        rows[1, spot] = value
        for n_threads in (1, 2):
            with floats_of_all_lengths(), counted_floats(rows, n_threads) as found:
                if found is not None:  # a sample of few has seen it
                    assert n == 10
                    check_counted(rows, found)


@pytest.mark.parametrize("lie", ["rows", "columns", "one row"])
@given(
    of_x=st.integers(1, 90) | st.just(None), of_reference=st.integers(1, 90) | st.just(None),
    dtype=st.sampled_from(["float32", "float64"]), n=st.integers(6200, 9000),
    m=st.integers(6000, 9000) | st.just(None), ties=st.sampled_from(["average", "min", "max"]),
    positions=st.sampled_from(["linear", "hazen"]), is_one=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip
def test_few_floats_are_matched_as_many(
    lie, of_x, of_reference, dtype, n, m, ties, positions, is_one, seed
):
    """Also where only the data have few values, or only the reference."""
    rng = np.random.default_rng(seed)

    def sample(size, n_values):
        shape = {"rows": (3, size), "columns": (size, 3), "one row": (size,)}[lie]
        if n_values is None:
            return rng.normal(size=shape).astype(dtype)
        return (rng.integers(-3, n_values - 3, shape) / 255).astype(dtype)

    x, reference = sample(n, of_x), sample(n if m is None else m, of_reference)
    axis = 0 if lie == "columns" else -1
    reference = reference.reshape(-1)[:n] if is_one else reference

    def match():
        return gm.match_quantiles(x, reference, axis=axis, ties=ties, positions=positions)

    with floats_of_all_lengths() as shapes:
        found, expected = with_kernels_and_without(match)
    np.testing.assert_array_equal(found, expected)
    assert bool(shapes) == (of_x is not None)  # else the reference is sorted


@pytest.mark.parametrize("target", ["gaussian", "uniform", "sparse"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ties", ["average", "min", "max", "ordinal"])
def test_few_floats_are_mapped_to_named_targets(rng, target, dtype, ties):
    x = (rng.integers(0, 256, (100, 700, 3)) / 255).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        shapes = spied_shapes(patch)
        found, expected = with_kernels_and_without(
            lambda: gm.quantile_map(x, target, axis=(0, 1), ties=ties)
        )
    assert shapes == ([] if ties == "ordinal" else [(3, 70_000)])
    np.testing.assert_array_equal(found, expected)


def test_photographs_of_floats_are_counted(rng):
    """With everything as it is in use."""
    for few, shapes_of_few in ((True, [(3, 70_000)] * 2), (False, [])):
        x, reference = (rng.integers(0, 256, (2, 200, 350, 3)) / 255).astype("float32")
        if not few:
            x += rng.normal(size=x.shape).astype("float32")
        with pytest.MonkeyPatch.context() as patch:
            shapes = spied_shapes(patch)
            y = gm.match_quantiles(x, reference, axis=(0, 1))
        assert shapes == shapes_of_few
        for channel in range(3):
            alone = gm.match_quantiles(x[..., channel].astype("float64"), reference[..., channel])
            np.testing.assert_array_equal(y[..., channel], alone.astype(y.dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("shape", [(0, 2), (70_000, 2)])
def test_a_reference_of_few_floats_is_finite(rng, value, shape):
    x = rng.integers(0, 3, shape).astype("float32")
    reference = rng.integers(0, 3, (70_000, 2)).astype("float32")
    reference[69_000, 1] = value
    with pytest.raises(ValueError, match="holds NaN or infinite"):
        gm.match_quantiles(x, reference, axis=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_of_any_bits(rng, dtype):
    """All ones are what is written where there is nothing."""
    x, reference = (rng.integers(0, 256, (2, 70_000)) / 255).astype(dtype)
    every_bit = np.iinfo(as_bits(x).dtype).max
    as_bits(x)[69_000] = every_bit
    y = gm.match_quantiles(x, reference)
    assert np.flatnonzero(np.isnan(y)).tolist() == [69_000]
    as_bits(reference)[69_000] = every_bit
    with pytest.raises(ValueError, match="holds NaN or infinite"):
        gm.match_quantiles(np.round(y[:69_000], 2), reference)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
@pytest.mark.parametrize("of_x", [3, 90_000])
def test_between_values_there_are_no_others(dtype, of_x):
    """A mask has two of those that there might be."""
    reference = np.repeat([0, 100], 50_000).astype(dtype)
    x = np.repeat([1, 2, 3], of_x // 3).astype(dtype)
    found, expected = with_kernels_and_without(lambda: gm.match_quantiles(x, reference))
    np.testing.assert_array_equal(found, expected)
    assert np.unique(found).tolist() == [0.0, 50.0, 100.0] if of_x == 3 else len(set(found)) == 3


def test_a_reference_is_put_in_order_or_counted_but_not_both(rng):
    reference = (rng.integers(0, 256, 200_000) / 255).astype("float32")
    with pytest.MonkeyPatch.context() as patch:
        shapes = spied_shapes(patch)
        gm.match_quantiles(rng.normal(size=5000).astype("float32"), reference)
        assert shapes == []
        gm.match_quantiles(reference[:100_000], reference)
        assert shapes == [(100_000,), (200_000,)]


def test_tensors_of_few_floats(rng):
    torch = pytest.importorskip("torch")
    x, reference = (rng.integers(0, 256, (2, 70_000, 2)) / 255).astype("float32")
    expected = gm.match_quantiles(x, reference, axis=0)
    y = gm.match_quantiles(torch.from_numpy(x), torch.from_numpy(reference), axis=0)
    np.testing.assert_array_equal(y.numpy(), expected)


def test_tensors_that_are_negative_by_a_bit(rng):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy((rng.integers(0, 256, 70_000) / 255).astype("float32"))
    negative = torch.complex(torch.zeros(70_000), x).conj().imag
    assert negative.is_neg()
    for one, other in ((negative, x), (x, negative)):
        assert torch.equal(
            gm.match_quantiles(one, other), gm.match_quantiles(one.clone(), other.clone())
        )


def test_subnormals_where_threads_take_them_for_zero(rng):
    torch = pytest.importorskip("torch")
    x = np.repeat(np.asarray([0, 1e-40, 1, 2], "float32"), 20_000)
    reference = (rng.integers(0, 256, 80_000) / 255).astype("float32")
    expected = gm.match_quantiles(x, reference)
    try:
        if not torch.set_flush_denormal(True):
            pytest.skip("this processor has no such switch")
        found = gm.match_quantiles(x, reference)
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(found, expected)


def test_a_reference_of_many_floats_learns_from_few(rng):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(rng.integers(0, 9, 9000) / 8)
    reference = torch.from_numpy(rng.normal(size=700)).requires_grad_()
    weight = torch.from_numpy(rng.normal(size=9000))
    gradients = []

    def gradient():
        (of_reference,) = torch.autograd.grad(gm.quantile_map(x, reference) @ weight, reference)
        gradients.append(of_reference)

    reference.data[:300] = 0.5  # among equals it is one that learns
    with floats_of_all_lengths():
        with_kernels_and_without(gradient)
    torch.testing.assert_close(*gradients)


def test_few_floats_pass_a_gradient(rng):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(rng.integers(0, 9, 9000) / 8).requires_grad_()
    reference = torch.from_numpy(rng.normal(size=700))
    with floats_of_all_lengths() as shapes:
        y = gm.quantile_map(x, reference, gradient="transport")
        assert y.requires_grad
        assert shapes == []
        with torch.no_grad():
            assert torch.equal(gm.quantile_map(x, reference, gradient="transport"), y)
        assert len(shapes) == 1
