"""What NumPy arrays and tensors in main memory share: orders, incomplete rows, fitted tables."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import groupmap as gm
from groupmap import interpolation, mapping
from groupmap.backends import namespace_and_ops, numpy_incomplete
from groupmap.ranks import gather_by_rank
from tests.backends import kernels_for_all_sizes, no_kernels

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

LIBRARIES = {
    "numpy": (np.asarray, no_kernels),
    "numpy-kernels": (np.asarray, kernels_for_all_sizes),
    "torch": (torch.from_numpy, no_kernels),
    "torch-kernels": (torch.from_numpy, kernels_for_all_sizes),
}
with_libraries = pytest.mark.parametrize(("made", "context"), LIBRARIES.values(), ids=LIBRARIES)
DTYPES = ("float16", "float32", "float64", "int8", "uint8", "int64")
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 30))
ROWS = hnp.arrays(st.sampled_from(DTYPES), SHAPES, elements=st.integers(0, 9))


@with_libraries
@given(rows=ROWS)
def test_orders_are_those_of_a_stable_sort(made, context, rows):
    if rows.dtype.kind == "f":  # 4 becomes −0, 5 becomes 0
        rows = np.where(rows == 4, -0.0, rows - 5).astype(rows.dtype)
    x = made(rows)
    xp, ops = namespace_and_ops(x=x)
    with context():
        order = ops.stable_argsort(x, xp)
        again = ops.unsort(xp.take_along_axis(x, order, axis=-1), order, xp)
    np.testing.assert_array_equal(order, np.argsort(rows, axis=-1, stable=True))
    np.testing.assert_array_equal(again, rows)


@with_libraries
@given(rows=ROWS, seed=st.integers(0, 9))
def test_random_ties_are_in_the_order_of_random_keys(made, context, rows, seed):
    keys = np.random.default_rng(seed).random(rows.shape).round(1)  # of which some are equal
    n = rows.shape[-1]
    x = made(rows)
    xp, ops = namespace_and_ops(x=x)
    with context():
        found, _ = gather_by_rank(
            x, made(np.arange(2.0 * n - 1)), "random", made(keys), with_order=False, xp=xp, ops=ops
        )
    for row, own_keys, h in zip(rows, keys, found, strict=True):
        np.testing.assert_array_equal(h[np.lexsort((own_keys, row))], 2 * np.arange(n))


# With the greatest number of its dtype nothing could be put above it.
ENTRIES = {
    "f": st.integers(-3, 3) | st.sampled_from([np.nan, np.inf, -np.inf, 0.5, -0.0]),
    "i": st.integers(0, 5) | st.sampled_from([127, -128]),
    "u": st.integers(0, 5) | st.just(255),
}
SAMPLE = np.asarray([3.0, -1.0, 0.5, 0.5, 7.0])
INCOMPLETE = st.sampled_from(DTYPES).flatmap(
    lambda dtype: st.tuples(
        hnp.arrays(dtype, (6, 9), elements=ENTRIES[np.dtype(dtype).kind]),
        hnp.arrays("bool", (6, 9)) | st.just(np.ones((6, 9), dtype=bool)),
        st.booleans(),
    )
)


@with_libraries
@given(
    incomplete=INCOMPLETE,
    ties=st.sampled_from(["average", "min", "max", "ordinal"]),
    target=st.sampled_from(["gaussian", "uniform", "cauchy", "a sample"]),
    longest=st.sampled_from([0, numpy_incomplete.LONGEST_LOOKED_UP]),
    at_once=st.sampled_from([1, 20, numpy_incomplete.ENTRIES_AT_ONCE]),
)
def test_what_is_missing_is_as_if_it_were_not_there(
    made, context, incomplete, ties, target, longest, at_once
):
    rows, where, are_great = incomplete
    if are_great:
        limits = np.finfo(rows.dtype) if rows.dtype.kind == "f" else np.iinfo(rows.dtype)
        rows = np.where(rows == 1, limits.max, np.where(rows == np.inf, 0, rows))
    with (
        context(),
        patch.object(numpy_incomplete, "LONGEST_LOOKED_UP", longest),
        patch.object(numpy_incomplete, "ENTRIES_AT_ONCE", at_once),
    ):
        target = made(SAMPLE) if target == "a sample" else target
        options = {"target_quantiles": target, "ties": ties, "positions": "hazen"}
        y = np.asarray(gm.quantile_map(made(rows), where=made(where), **options))
        counts = where if rows.dtype.kind != "f" else where & ~np.isnan(rows)
        for row, own, found in zip(rows, counts, y, strict=True):
            assert np.isnan(found[~own]).all()
            if own.any():
                alone = gm.quantile_map(made(row[own]), **options)
                np.testing.assert_array_equal(found[own], alone)


@pytest.mark.parametrize(
    ("shape", "share"),
    [((40, 3000), 0.1), ((300, 400), 0.1), ((300, 400), 0.0003), ((5, 9000), 0.1),
     ((20, 9000), 0.1)],
)  # fmt: skip
@pytest.mark.parametrize("order", "CF")
def test_many_rows_that_miss_entries(rng, shape, share, order, monkeypatch):
    """On several threads, and without the way that asks Q at each entry's own rank."""
    x = np.asarray(rng.normal(size=shape), order=order)
    x[rng.random(shape) < share] = np.nan
    x[1] = np.nan
    asked, map_rows = [], numpy_incomplete.map_rows

    def counted(*arguments):
        asked.append(len(arguments[0]))
        return map_rows(*arguments)

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(numpy_incomplete, "map_rows", counted)
    y = gm.quantile_map(x)
    assert asked
    on_torch = gm.quantile_map(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    np.testing.assert_array_equal(on_torch, y)
    for r in (0, 2, shape[0] - 1):
        valid = ~np.isnan(x[r])
        np.testing.assert_array_equal(y[r, valid], gm.quantile_map(x[r, valid]))


@pytest.mark.parametrize("m", [37, 20])
def test_tensors_that_miss_entries_get_the_bits_that_they_get_alone_from_a_sample(rng, m):
    """Whatever the other rows miss; and a sample of as many values comes back as it is."""
    x = torch.as_tensor(rng.normal(size=(200, 40)))
    lengths = rng.integers(1, 41, size=200)
    lengths[:5] = m
    mask = torch.arange(40) < torch.as_tensor(lengths)[:, None]
    sample = torch.as_tensor(rng.normal(size=m))
    with kernels_for_all_sizes():
        y = gm.quantile_map(x, sample, where=mask)
        for r, length in enumerate(lengths):
            alone = gm.quantile_map(x[r, :length], sample)
            assert torch.equal(y[r, :length], alone)
    assert torch.equal(y[0, :m].sort().values, sample.sort().values)


def test_a_table_of_a_long_row_is_made_once_for_all_that_miss_as_many(rng, monkeypatch):
    x = rng.normal(size=(6, 9000))
    x[:, ::9] = np.nan
    made, make = [], mapping.new_tables

    def counted(target, counts, **options):
        made.append(counts)
        return make(target, counts, **options)

    monkeypatch.setattr(mapping, "new_tables", counted)
    monkeypatch.setattr(numpy_incomplete, "ENTRIES_AT_ONCE", 2 * 9000)
    gm.quantile_map(x, "cauchy")
    assert made == [[8000]]


def test_incomplete_rows_of_bfloat16(rng):
    """Which NumPy takes for other numbers."""
    x = torch.as_tensor(rng.normal(size=(30, 400))).bfloat16()
    x[torch.as_tensor(rng.random((30, 400)) < 0.1)] = torch.nan
    with no_kernels():
        expected = gm.quantile_map(x)
    torch.testing.assert_close(gm.quantile_map(x), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tails", ["clip", "linear"])
@pytest.mark.parametrize("target", ["gaussian", "uniform"])
def test_tables_of_tensors_get_the_bits_of_arrays(rng, dtype, tails, target):
    pytest.importorskip("sklearn")
    X = rng.normal(size=(3000, 9)).astype(dtype)
    X[:, 2] = np.maximum(X[:, 2], 0)
    X[::50, 3], X[:, 4] = np.nan, np.nan
    new = 1.5 * X[::-1]
    on_numpy = gm.GroupMapTransformer(n_quantiles=100, tails=tails, target_quantiles=target).fit(X)
    found = []
    for fitted, made in ((on_numpy, np.asarray), (on_numpy.move_to(torch), torch.from_numpy)):
        y = fitted.transform(made(new.copy()))
        found.append((y, fitted.inverse_transform(y)))
    for array, tensor in zip(*found, strict=True):
        assert tensor.dtype == getattr(torch, dtype)
        np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", ["gaussian", "cauchy", "uniform"])
def test_extremes_come_back_from_linear_tails(rng, dtype, target):
    """Where what they were mapped to has been rounded, too."""
    pytest.importorskip("sklearn")
    X = rng.normal(size=(3000, 3)).astype(dtype)
    fitted = gm.GroupMapTransformer(n_quantiles=100, tails="linear", target_quantiles=target)
    back = fitted.fit(X).inverse_transform(fitted.transform(X))
    for extreme in (np.min, np.max):
        np.testing.assert_allclose(extreme(back, axis=0), extreme(X, axis=0), rtol=1e-6)


def test_a_sample_gets_its_gradient_from_many_rows_that_miss_entries(rng):
    pytest.importorskip("sklearn")
    x = torch.as_tensor(rng.normal(size=(40, 300)))
    x[:, ::9] = torch.nan
    sample = torch.as_tensor(rng.normal(size=50)).requires_grad_()
    fitted = gm.GroupMapTransformer(n_quantiles=30, target_quantiles=sample).fit(x)
    maps = (lambda: gm.quantile_map(x, sample), lambda: gm.match_quantiles(x, sample, axis=1),
            lambda: fitted.transform(x))  # fmt: skip
    for mapped in maps:
        (found,) = torch.autograd.grad(mapped().nansum(), sample)
        with no_kernels():
            (expected,) = torch.autograd.grad(mapped().nansum(), sample)
        torch.testing.assert_close(found, expected)
        assert torch.any(found != 0)


@pytest.mark.parametrize("layout", ["rows", "columns", "every other one", "one row"])
@pytest.mark.parametrize("made", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_order_statistics_of_any_layout(rng, made, layout):
    ascending, index = np.sort(rng.normal(size=50)), rng.uniform(-1.0, 51.0, size=(70, 90))
    index = {
        "rows": index, "columns": np.asfortranarray(index), "every other one": index[::2, ::2],
        "one row": index[0],
    }[layout]  # fmt: skip
    values, at = made(ascending), made(index)
    xp, ops = namespace_and_ops(x=at)
    with no_kernels():
        expected = interpolation.order_statistics(values, at, xp, ops)
    with kernels_for_all_sizes():
        assert ops.order_statistics(values, at) is not None
        found = interpolation.order_statistics(values, at, xp, ops)
    assert found.shape == index.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("layout", ["rows", "columns", "a cube"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("made", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_order_statistics_of_rows_of_their_own(rng, made, dtype, layout):
    ascending = np.sort(10.0 * rng.normal(size=(60, 50))).astype(dtype)
    index = rng.uniform(-1.0, 51.0, size=(60, 90))
    index[:, ::3] = np.round(index[:, ::3])
    ascending, index = {
        "rows": (ascending, index), "columns": (np.asfortranarray(ascending), index.copy("F")),
        "a cube": (ascending.reshape(3, 20, 50), index.reshape(3, 20, 90)),
    }[layout]  # fmt: skip
    values, at = made(ascending), made(index)
    xp, ops = namespace_and_ops(x=at)
    with no_kernels():
        expected = interpolation.order_statistics(values, at, xp, ops)
    with kernels_for_all_sizes():
        assert ops.order_statistics(values, at) is not None
        found = interpolation.order_statistics(values, at, xp, ops)
    np.testing.assert_array_equal(found, expected)


def test_what_is_missing_stays_above_where_subnormal_numbers_are_zero():
    x = -torch.rand(30, 400)
    x[:, ::7], x[:, 1] = torch.nan, 0.0
    expected = gm.quantile_map(x)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    try:
        found = gm.quantile_map(x)
    finally:
        torch.set_flush_denormal(False)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_tables_of_bfloat16(rng):
    pytest.importorskip("sklearn")
    X = torch.as_tensor(rng.normal(size=(2000, 5))).bfloat16()
    X[::9, 1] = torch.nan
    fitted = gm.GroupMapTransformer(n_quantiles=100).fit(X)
    with no_kernels():
        expected = fitted.transform(X)
    torch.testing.assert_close(fitted.transform(X), expected, rtol=0, atol=0, equal_nan=True)


@with_libraries
def test_many_rows_that_miss_entries_are_matched_to_samples_of_their_own(made, context, rng):
    x, reference = rng.normal(size=(2, 6, 20_000))
    x[rng.random(x.shape) < 0.1] = np.nan
    with context():
        found = np.asarray(gm.match_quantiles(made(x), made(reference), axis=1))
        for r in range(6):
            valid = ~np.isnan(x[r])
            alone = gm.match_quantiles(made(x[r, valid]), made(reference[r]))
            np.testing.assert_allclose(found[r, valid], alone, rtol=1e-12, atol=1e-12)
