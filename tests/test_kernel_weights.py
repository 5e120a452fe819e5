"""Kernels of rows with weights, held against NumPy."""

from __future__ import annotations

import array_api_compat.numpy as xp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import groupmap as gm
from groupmap.backends import numpy as backend
from tests.backends import kernels_for_all_sizes, no_kernels

pytest.importorskip("numba")

NUMBERS = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 1e-310, 2.0, np.inf, np.nan]) | st.floats(
    -3, 3
)


def rows_of(n_rows: int, lengths: st.SearchStrategy[int]) -> st.SearchStrategy[np.ndarray]:
    return lengths.flatmap(lambda n: hnp.arrays("float64", (n_rows, n), elements=NUMBERS))


@given(
    rows=rows_of(3, st.integers(1, 20)),
    values=rows_of(3, st.integers(1, 9)),
    side=st.sampled_from(["left", "right"]),
    are_columns=st.booleans(),
)
def test_rows_are_searched_as_numpy_does(rows, values, side, are_columns):
    rows = np.sort(rows, axis=-1)
    order = "F" if are_columns else "C"
    with kernels_for_all_sizes():
        found = backend.search_rows(rows.copy(order), values.copy(order), side, xp)
    expected = [np.searchsorted(*each, side=side) for each in zip(rows, values, strict=True)]
    np.testing.assert_array_equal(found, expected)


@given(
    values=hnp.arrays("float64", (2, 3, 7), elements=st.floats(0, 1e9)),
    seed=st.integers(0, 99),
    are_the_same=st.booleans(),
)
def test_sums_in_order_have_the_bits_of_numpys(values, seed, are_the_same):
    order = np.argsort(np.random.default_rng(seed).random(values.shape), axis=-1)
    if are_the_same:  # as weights of a table's rows are for all columns
        values = np.broadcast_to(values[:, :1], values.shape)
    with kernels_for_all_sizes():
        found = backend.sums_in_order(values, order)
    expected = np.cumsum(np.take_along_axis(values, order, axis=-1), axis=-1)
    np.testing.assert_array_equal(found, expected)


@given(
    X=hnp.arrays("float64", (30, 3), elements=st.integers(-5, 5) | st.just(np.nan)),
    weights=hnp.arrays("float64", 30, elements=st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.25])),
)
def test_weighted_quantiles_have_the_bits_that_they_have_without_kernels(X, weights):
    pytest.importorskip("sklearn")
    X, weights = np.vstack([X, np.zeros((1, 3))]), np.append(weights, 9.0)
    found = []
    for context in (no_kernels, kernels_for_all_sizes):
        with context():
            fitted = gm.GroupMapTransformer(n_quantiles=9).fit(X, sample_weight=weights)
        found.append(fitted.quantiles_)
    np.testing.assert_array_equal(*found)
