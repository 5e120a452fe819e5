"""Fitted cdfs: knots, evaluation, inversion, merging."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import groupmap as gm
from tests import oracle

METHODS = ["linear", "hazen", "weibull", "median_unbiased", "normal_unbiased"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_quantiles", [1, 2, 11, 300])
def test_knots_are_numpy_quantiles(eager_backend, rng, method, n_quantiles):
    data = rng.normal(size=(40, 3))
    fitted = gm.EmpiricalCDF.fit(
        eager_backend.asarray(data), axis=0, n_quantiles=n_quantiles, positions=method
    )
    p = np.linspace(0, 1, n_quantiles) if n_quantiles > 1 else [0.5]
    expected = np.quantile(data, p, axis=0, method=method).T
    np.testing.assert_allclose(eager_backend.to_numpy(fitted.values), expected, atol=1e-14)


def test_missing_values_are_left_out(eager_backend, rng):
    data = rng.normal(size=(30, 3))
    data[:10, 0] = np.nan
    data[:, 2] = np.nan
    fitted = gm.EmpiricalCDF.fit(eager_backend.asarray(data), axis=0, n_quantiles=7)
    values = eager_backend.to_numpy(fitted.values)
    np.testing.assert_allclose(values[0], np.quantile(data[10:, 0], np.linspace(0, 1, 7)))
    assert np.all(np.isnan(values[2]))
    p = eager_backend.to_numpy(fitted.cdf(eager_backend.asarray(data)))
    np.testing.assert_array_equal(np.isnan(p), np.isnan(data))
    everything = gm.EmpiricalCDF.fit(eager_backend.asarray(data), axis=0)
    p = eager_backend.to_numpy(everything.cdf(eager_backend.asarray(data)))
    expected = gm.quantile_map(data, "uniform", axis=0)
    np.testing.assert_allclose(p, expected, atol=1e-15)


def test_a_run_of_equal_values_takes_its_middle(eager_backend):
    zero_inflated = np.concatenate([np.zeros(60), np.arange(1.0, 41.0)])
    fitted = gm.EmpiricalCDF.fit(eager_backend.asarray(zero_inflated), n_quantiles=101)
    p = fitted.cdf(eager_backend.asarray(np.array([-1.0, 0.0, 40.0, 41.0])))
    np.testing.assert_allclose(eager_backend.to_numpy(p), [0.0, 0.295, 1.0, 1.0], atol=0.011)
    np.testing.assert_allclose(eager_backend.to_numpy(p)[[0, 2, 3]], [0.0, 1.0, 1.0])


@pytest.mark.parametrize("method", METHODS)
def test_whole_weights_are_repeated_entries(eager_backend, rng, method):
    data, weights = rng.normal(size=(30, 3)), rng.integers(1, 5, size=(30, 1))
    data[4, 0], data[:, 2] = np.nan, np.nan
    there = rng.random((30, 3)) < 0.8
    options = {"axis": 0, "n_quantiles": 11, "positions": method}
    fitted = gm.EmpiricalCDF.fit(
        eager_backend.asarray(data), where=eager_backend.asarray(there),
        sample_weight=eager_backend.asarray(weights), **options,
    )  # fmt: skip
    repeated = np.where(there, data, np.nan).repeat(weights[:, 0], axis=0)
    expected = gm.EmpiricalCDF.fit(eager_backend.asarray(repeated), **options)
    for name in ("values", "probabilities", "counts"):
        found, wanted = (eager_backend.to_numpy(getattr(each, name)) for each in (fitted, expected))
        np.testing.assert_allclose(found, wanted, rtol=1e-14)
    both = fitted.merge(gm.EmpiricalCDF.fit(eager_backend.asarray(data), **options))
    counts = eager_backend.to_numpy(both.counts)[:, 0]
    of_weights = np.sum(weights * (there & ~np.isnan(data)), axis=0)
    np.testing.assert_array_equal(counts, of_weights + np.array([29, 30, 0]))


def test_weights_that_are_true_or_not():
    data, counts = np.arange(6.0), np.array([True, True, False, True, False, True])
    fitted = gm.EmpiricalCDF.fit(data, n_quantiles=4, sample_weight=counts)
    np.testing.assert_array_equal(fitted.values, data[counts])


def test_weights_by_scipys_definition(rng):
    data, weights = rng.normal(size=50), rng.random(50) * 4
    fitted = gm.EmpiricalCDF.fit(data, n_quantiles=9, sample_weight=weights)
    expected = stats.quantile(data, np.linspace(0, 1, 9), weights=weights)
    np.testing.assert_allclose(fitted.values, np.sort(expected), rtol=1e-13)


@pytest.mark.parametrize(
    ("sample_weight", "n_quantiles", "error", "text"),
    [
        (np.ones(4), None, ValueError, "pass a number of quantiles"),
        (-np.ones(4), 3, ValueError, "negative or not finite"),
        (np.full(4, np.nan), 3, ValueError, "negative or not finite"),
        (np.full(4, 0.1), 3, ValueError, "sums to 0.4"),
        (np.ones(3), 3, ValueError, r"shape \(3,\), which does not broadcast to the shape \(4,\)"),
        (np.ones(4) + 1j, 3, TypeError, "sample_weight has dtype complex"),
        (np.ma.ones(4), 3, TypeError, r"sample_weight\.filled\(0\)"),
        ([1.0] * 4, 3, TypeError, "sample_weight is of type list"),
    ],
)
def test_weights_are_checked(sample_weight, n_quantiles, error, text):
    with pytest.raises(error, match=text):
        gm.EmpiricalCDF.fit(np.arange(4.0), n_quantiles=n_quantiles, sample_weight=sample_weight)


def test_one_knot_is_the_median(eager_backend):
    fitted = gm.EmpiricalCDF.fit(eager_backend.asarray(np.array([3.0, 3.0])), n_quantiles=1)
    p = fitted.cdf(eager_backend.asarray(np.array([2.0, 3.0, 4.0])))
    np.testing.assert_array_equal(eager_backend.to_numpy(p), [0.5, 0.5, 0.5])


@pytest.mark.parametrize("positions", [*oracle.POSITIONS])
def test_round_trip(eager_backend, rng, positions):
    data = eager_backend.asarray(rng.normal(size=(3, 50)))
    fitted = gm.EmpiricalCDF.fit(data, positions=positions)
    p = fitted.cdf(data)
    np.testing.assert_allclose(
        eager_backend.to_numpy(fitted.ppf(p)), eager_backend.to_numpy(data), rtol=1e-12
    )


def test_shapes(rng):
    data = rng.normal(size=(4, 50, 3))
    fitted = gm.EmpiricalCDF.fit(data, axis=1)
    assert fitted.values.shape == (4, 3, 50)
    assert fitted.cdf(rng.normal(size=(4, 7, 3))).shape == (4, 7, 3)
    assert fitted.ppf(np.linspace(0, 1, 5).reshape(1, 5, 1)).shape == (4, 5, 3)
    pooled = gm.EmpiricalCDF.fit(data, axis=None)
    assert pooled.cdf(data).shape == data.shape
    assert pooled.ppf(np.array(0.5)).shape == ()
    assert pooled.ppf(0.5) == np.median(data)
    np.testing.assert_allclose(fitted.ppf(0.5), np.median(data, axis=1, keepdims=True))


def test_linear_tails_continue_the_outermost_segment():
    fitted = gm.EmpiricalCDF.fit(np.array([0.0, 1.0, 3.0]), tails="linear")
    np.testing.assert_allclose(fitted.cdf(np.array([-1.0, 5.0])), [-0.5, 1.5])
    np.testing.assert_allclose(fitted.ppf(np.array([-0.5, 1.5])), [-1.0, 5.0])
    clipped = gm.EmpiricalCDF.fit(np.array([0.0, 1.0, 3.0]))
    np.testing.assert_array_equal(clipped.cdf(np.array([-1.0, 5.0, -np.inf, np.inf])), [0, 1, 0, 1])


def test_linear_tails_with_missing_values_ties_and_great_values(eager_backend):
    def read(data, at, name):
        fitted = gm.EmpiricalCDF.fit(eager_backend.asarray(np.array(data)), tails="linear")
        return eager_backend.to_numpy(getattr(fitted, name)(eager_backend.asarray(np.array(at))))

    np.testing.assert_allclose(read([0.0, 1.0, 3.0, np.nan], [-1.0, 5.0], "cdf"), [-0.5, 1.5])
    np.testing.assert_allclose(read([0.0, 1.0, 3.0, np.nan], [-0.5, 1.5], "ppf"), [-1.0, 5.0])
    # A run at the end has no slope to go on along.
    np.testing.assert_allclose(read([0.0, 1.0, 1.0], [1.0, 2.0], "cdf"), [0.75, 1.0])
    np.testing.assert_allclose(
        read([-1.7e308, 1.7e308], [0.25, 0.5, 0.75], "ppf"), [-8.5e307, 0.0, 8.5e307]
    )


def test_masks(eager_backend):
    data = np.array([[1.0, np.inf, 2.0, 4.0], [3.0, 3.0, -np.inf, 9.0]])
    x = eager_backend.asarray(data)
    fitted = gm.EmpiricalCDF.fit(x, where=eager_backend.asarray(np.isfinite(data)))
    np.testing.assert_array_equal(eager_backend.to_numpy(fitted.counts), [[3], [3]])
    np.testing.assert_array_equal(eager_backend.to_numpy(fitted.ppf(1.0)), [[4.0], [9.0]])
    with pytest.raises(TypeError, match="must be bool"):
        gm.EmpiricalCDF.fit(x, where=eager_backend.asarray(np.ones((2, 4))))
    with pytest.raises(ValueError, match="does not broadcast"):
        gm.EmpiricalCDF.fit(x, where=eager_backend.asarray(np.ones(3, dtype=bool)))


def test_dtype_is_that_of_the_argument(rng):
    fitted = gm.EmpiricalCDF.fit(rng.normal(size=100))
    assert fitted.cdf(np.zeros(3, dtype=np.float32)).dtype == np.float32
    assert fitted.cdf(np.zeros(3, dtype=np.int32)).dtype == np.float64


def test_merging_all_values_is_pooling(eager_backend, rng):
    one, two = rng.normal(size=(3, 20)), rng.normal(size=(3, 31)).round(1)
    one[0, :5] = np.nan
    one[1, :] = np.nan
    fits = [gm.EmpiricalCDF.fit(eager_backend.asarray(each)) for each in (one, two)]
    merged, pooled = fits[0].merge(fits[1]), np.concatenate([one, two], axis=1)
    direct = gm.EmpiricalCDF.fit(eager_backend.asarray(pooled))
    for name in ("values", "probabilities", "counts"):
        np.testing.assert_array_equal(
            eager_backend.to_numpy(getattr(merged, name)),
            eager_backend.to_numpy(getattr(direct, name)),
        )
    assert merged.keeps_all


@given(
    st.integers(2, 150), st.integers(2, 150), st.integers(2, 50), st.integers(2, 50),
    st.integers(2, 50), st.integers(0, 2), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_merging_knots_keeps_its_bound(n1, n2, k1, k2, k, decimals, seed):
    rng = np.random.default_rng(seed)
    one, two = rng.normal(size=n1).round(decimals), rng.normal(size=n2).round(decimals)
    merged = gm.EmpiricalCDF.fit(one, n_quantiles=k1).merge(
        gm.EmpiricalCDF.fit(two, n_quantiles=k2), n_quantiles=k
    )
    pooled = np.concatenate([one, two])
    at = np.concatenate([pooled, rng.normal(size=50)])
    error = np.abs(merged.cdf(at) - gm.EmpiricalCDF.fit(pooled).cdf(at)).max()
    n = n1 + n2
    assert error <= n1 / n / (k1 - 1) + n2 / n / (k2 - 1) + 1 / (k - 1) + 4 / n


def test_merging_with_groups_that_had_nothing(eager_backend):
    one = np.array([[1.0, 2.0, 3.0], [np.nan] * 3, [np.nan] * 3])
    two = np.array([[4.0, 5.0, 6.0], [1.0, 2.0, 4.0], [np.nan] * 3])
    fits = [gm.EmpiricalCDF.fit(eager_backend.asarray(e), n_quantiles=5) for e in (one, two)]
    for merged in (fits[0].merge(fits[1]), fits[1].merge(fits[0])):
        values = eager_backend.to_numpy(merged.values)
        np.testing.assert_allclose(values[0, [0, -1]], [1.0, 6.0])
        np.testing.assert_allclose(values[1], np.quantile(two[1], np.linspace(0, 1, 5)))
        assert np.all(np.isnan(values[2]))
        np.testing.assert_array_equal(eager_backend.to_numpy(merged.counts)[:, 0], [6, 3, 0])


def test_dask_says_how():
    da = pytest.importorskip("dask.array")
    with pytest.raises(TypeError, match="map_blocks"):
        gm.EmpiricalCDF.fit(da.ones(3))


def test_under_jit():
    jax = pytest.importorskip("jax")
    data = np.array([1.0, 5.0, 2.0, 2.0])

    @jax.jit
    def f(x):
        return gm.EmpiricalCDF.fit(x).cdf(x)

    np.testing.assert_allclose(f(data), gm.EmpiricalCDF.fit(data).cdf(data))


def test_no_groups(eager_backend):
    for dtype, n_quantiles in (("float32", None), ("float32", 4), ("int32", None), ("int32", 4)):
        x = eager_backend.asarray(np.zeros((0, 3)), dtype)
        fitted = gm.EmpiricalCDF.fit(x, axis=1, n_quantiles=n_quantiles)
        assert tuple(fitted.cdf(x).shape) == (0, 3)


def test_a_number_of_numpy_is_a_number():
    fitted = gm.EmpiricalCDF.fit(np.array([[3.0, 1.0, 2.0], [4.0, 4.0, 9.0]]), axis=1)
    for number in (np.float32(3), np.int64(3), np.float64(3)):
        np.testing.assert_array_equal(fitted.cdf(number), fitted.cdf(3))
