"""Quantile normalisation by one ranking, and rows each with its own reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import groupmap as gm
from tests.backends import kernels_for_all_sizes, with_kernels_and_without

pytest.importorskip("numba")


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


@given(TABLES, st.data(), st.sampled_from(["average", "min", "max", "ordinal"]))
def test_quantile_normalisation_of_rows_that_miss_entries(x, data, ties):
    is_missing = data.draw(
        hnp.arrays(bool, x.shape, elements=st.integers(0, 5).map(lambda k: k == 0))
    )
    alphap = data.draw(st.sampled_from([1.0, 0.5, 0.0]))
    x = np.where(is_missing, np.nan, x)
    for axis, table in ((0, x), (1, x), (1, np.asfortranarray(x))):
        found, expected = with_kernels_and_without(
            lambda axis=axis, table=table: gm.normalize_quantiles(
                table, axis=axis, ties=ties, positions=(alphap, 1.0 - alphap / 2)
            )
        )
        precision = 1e-6 if x.dtype == "float32" else 1e-14
        np.testing.assert_allclose(found, expected, rtol=precision, atol=8 * precision)


@pytest.mark.parametrize("n", [9000, 2**15 + 1, 2**17 + 1])
def test_quantile_normalisation_of_long_rows_that_miss_entries(rng, n):
    """Crowded, of few levels, of none, complete, and with values that many share."""
    levels, close = rng.integers(0, 9, size=n), rng.integers(0, n, size=n) / n
    crowd = np.where(rng.random(size=n) < 0.6, 0.25 + 1e-9 * close, close)
    x = np.stack([levels + close, crowd, levels, levels + close, close, crowd])
    x[:4, ::7] = np.nan
    x[2, 1::7] = np.nan
    x[1] = np.nan
    found, expected = with_kernels_and_without(lambda: gm.normalize_quantiles(x, axis=1))
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


def test_quantile_normalisation_of_what_is_not_finite(rng):
    x = rng.normal(size=(50, 7))
    x[3, 2] = np.nan
    x[4, 1] = -np.inf
    with kernels_for_all_sizes(), pytest.raises(ValueError, match="infinity"):
        gm.normalize_quantiles(x, axis=0)


def test_quantile_normalisation_of_great_values():
    x = 1.7e308 * np.linspace(-1, 1, 5000)[:, None] * np.ones(9)
    np.testing.assert_allclose(gm.normalize_quantiles(x, axis=0), x, rtol=1e-14)


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
