"""One table over all array libraries: the same ranks, the same values, the same kind of array."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from array_api_compat import device

import groupmap as gm
from groupmap.backends import namespace_and_ops
from groupmap.ranks import doubled_midranks
from tests import oracle
from tests.backends import pairs_of_library_and_dtype

ROWS = {
    "distinct": np.arange(35).reshape(5, 7)[:, [3, 0, 6, 1, 5, 2, 4]] * 3,
    "tied": np.array([[1, 2, 2, 3], [7, 7, 7, 7], [0, 5, 0, 5], [9, 8, 8, 8]]),
    "single": np.array([[5], [6], [7]]),
    "pair": np.array([[5, 6], [6, 5], [5, 5]]),
}
TIES = ("average", "min", "max", "ordinal")


def default_real(backend):
    xp = backend.xp
    if backend.module == "dask":
        return np.dtype("float64")
    return xp.__array_namespace_info__().default_dtypes()["real floating"]


def expected_dtype(backend, x, dtype):
    return default_real(backend) if dtype in {"int32", "int64", "uint64"} else x.dtype


def rounding(y):
    """One unit in the last place of y's dtype, relative."""
    bits = {"float64": 52, "float32": 23, "bfloat16": 7, "float16": 10}
    return 2.0 ** -bits[str(y.dtype).removeprefix("torch.").rpartition(".")[2]]


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("target", ["gaussian", "uniform", "cauchy"])
def test_values_and_kind(typed_backend, name, target):
    backend, dtype = typed_backend
    rows = ROWS[name]
    x = backend.asarray(rows, dtype)
    y = gm.quantile_map(x, target)
    backend.check_like(y, x, expected_dtype(backend, x, dtype))
    found = backend.to_numpy(y).astype(np.float64)
    expected = oracle.map_rows(rows, target)
    ulps = 1 if "16" in dtype else 4
    np.testing.assert_allclose(found, expected, rtol=ulps * rounding(y), atol=1e-15)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("ties", TIES)
def test_integer_ranks_are_identical(typed_backend, name, ties):
    backend, dtype = typed_backend
    if backend.module == "dask":
        pytest.skip("Dask has its blocks' library rank")
    rows = ROWS[name]
    x = backend.asarray(rows, dtype)
    xp, ops = namespace_and_ops(x=x)
    h, n = doubled_midranks(x, None, ties=ties, random_keys=None, xp=xp, ops=ops)
    assert xp.isdtype(h.dtype, "integral")
    assert n == rows.shape[-1]
    expected = [oracle.doubled_ranks(row, ties=ties)[0] for row in rows]
    np.testing.assert_array_equal(backend.to_numpy(h), expected)


@pytest.mark.parametrize("ties", TIES)
def test_ranks_with_missing_values_are_identical(eager_backend, ties):
    backend = eager_backend
    rows = np.array([[3.0, np.nan, np.inf, 3.0, -np.inf, np.inf], [1.0, 2.0, 3.0, np.nan, 0, -0.0]])
    x = backend.asarray(rows)
    xp, ops = namespace_and_ops(x=x)
    h, n = doubled_midranks(x, xp.isnan(x), ties=ties, random_keys=None, xp=xp, ops=ops)
    for row, found, count in zip(rows, backend.to_numpy(h), backend.to_numpy(n), strict=True):
        expected, n_valid = oracle.doubled_ranks(row, ties=ties)
        assert count.item() == n_valid
        assert [int(f) for f, e in zip(found, expected, strict=True) if e is not None] == [
            e for e in expected if e is not None
        ]


@pytest.mark.parametrize("positions", [*oracle.POSITIONS, (0.25, 0.7)])
@pytest.mark.parametrize("ties", TIES)
def test_positions_and_ties(backend, positions, ties):
    rows = ROWS["tied"].astype(float)
    x = backend.asarray(rows)
    y = gm.quantile_map(x, "gaussian", positions=positions, ties=ties)
    backend.check_like(y, x)
    np.testing.assert_allclose(
        backend.to_numpy(y),
        oracle.map_rows(rows, "gaussian", positions=positions, ties=ties),
        rtol=1e-14,
        atol=1e-15,
    )


@pytest.mark.parametrize("target", oracle.QUANTILES)
def test_missing_and_masked(backend, rng, target):
    rows = rng.normal(size=(4, 9))
    rows[0, :3], rows[1, :], rows[2, 4], rows[2, 5] = np.nan, np.nan, np.inf, -np.inf
    where = rng.random(rows.shape) < 0.7
    x = backend.asarray(rows)
    y = gm.quantile_map(x, target, where=backend.asarray(where))
    backend.check_like(y, x)
    np.testing.assert_allclose(
        backend.to_numpy(y), oracle.map_rows(rows, target, where=where), rtol=1e-13, atol=1e-15
    )


def test_masked_integers(backend):
    rows = np.array([[5, 2**62, -(2**62), 7]])
    where = np.array([[True, True, False, True]])
    y = gm.quantile_map(backend.asarray(rows), "uniform", where=backend.asarray(where))
    np.testing.assert_array_equal(backend.to_numpy(y), [[0.0, 1.0, np.nan, 0.5]])


@pytest.mark.parametrize("layout", ["group", "instance", "layer"])
def test_layouts_with_parameters(backend, rng, layout):
    data = rng.normal(size=(3, 4, 5, 2))
    shape = (5, 2) if layout == "layer" else (4,)
    weight, bias = rng.normal(size=shape), rng.normal(size=shape)
    x, w, b = (backend.asarray(each) for each in (data, weight, bias))
    if layout == "group":
        rows, y = data.reshape(3, 2, 20), gm.group_map(x, 2, w, b)
    elif layout == "instance":
        rows, y = data.reshape(3, 4, 10), gm.instance_map(x, w, b)
    else:
        rows, y = data.reshape(3, 4, 10), gm.layer_map(x, (5, 2), w, b)
    backend.check_like(y, x)
    if layout != "layer":
        weight, bias = weight[:, None, None], bias[:, None, None]
    expected = oracle.map_rows(rows, "gaussian").reshape(data.shape) * weight + bias
    np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("axis", [-1, 1, (1, 2), (2, 1), (1, 3)])
def test_free_axes(backend, rng, axis):
    data = rng.normal(size=(3, 4, 5, 2))
    x = backend.asarray(data)
    y = gm.quantile_map(x, axis=axis)
    backend.check_like(y, x)
    axes = (axis,) if isinstance(axis, int) else axis
    moved = np.moveaxis(data, axes, range(-len(axes), 0))
    flat = oracle.map_rows(moved.reshape(*moved.shape[: -len(axes)], -1), "gaussian")
    expected = np.moveaxis(flat.reshape(moved.shape), range(-len(axes), 0), axes)
    np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=1e-13, atol=1e-14)


def test_all_axes(backend, rng):
    data = rng.normal(size=(2, 3, 4))
    x = backend.asarray(data)
    y = gm.quantile_map(x, axis=None)
    np.testing.assert_allclose(
        backend.to_numpy(y),
        oracle.map_rows(data.reshape(1, -1), "gaussian").reshape(data.shape),
        rtol=1e-13,
        atol=1e-14,
    )


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (2, 0, 3), (3, 2, 0)])
def test_empty(backend, shape):
    x = backend.asarray(np.empty(shape))
    backend.check_like(gm.quantile_map(x), x)


def test_input_is_never_changed(backend, rng):
    data = rng.normal(size=(3, 8)).round(1)
    x = backend.asarray(data)
    gm.quantile_map(x, ties="ordinal")
    gm.quantile_map(x)
    gm.quantile_map(x, where=x > 0)
    np.testing.assert_array_equal(backend.to_numpy(x), data)


def test_a_reference_of_the_same_size_is_reproduced(backend, rng):
    data, reference = rng.normal(size=(4, 11)), rng.normal(size=11)
    for positions in oracle.POSITIONS:
        y = gm.quantile_map(backend.asarray(data), backend.asarray(reference), positions=positions)
        order = data.argsort(axis=-1).argsort(axis=-1)
        np.testing.assert_array_equal(backend.to_numpy(y), np.sort(reference)[order])


@pytest.mark.parametrize("positions", oracle.POSITIONS)
def test_a_reference_of_any_size(backend, rng, positions):
    data, reference = rng.normal(size=(3, 6)), rng.normal(size=17)
    y = gm.quantile_map(backend.asarray(data), backend.asarray(reference), positions=positions)
    expected = oracle.map_rows(
        data, lambda p: oracle.quantile(reference, p, positions), positions=positions
    )
    np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [(3, 7), (1, 7), (7,)])
def test_match_quantiles(backend, rng, shape):
    data, reference = rng.normal(size=(3, 6)), rng.normal(size=shape)
    x, r = backend.asarray(data), backend.asarray(reference)
    y = gm.match_quantiles(x, r, axis=1)
    backend.check_like(y, x)
    samples = np.broadcast_to(reference, (3, 7))
    for row, sample, found in zip(data, samples, backend.to_numpy(y), strict=True):
        expected = oracle.map_row(row, lambda p, sample=sample: oracle.quantile(sample, p))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("ties", ["average", "min", "max"])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_match_quantiles_of_8_bits(backend, rng, dtype, ties):
    """Rows so long that their levels are counted where there are kernels."""
    n, smallest = 2100, np.iinfo(dtype).min
    data, reference = (rng.integers(smallest, smallest + 40, (2, n)).astype(dtype) for _ in "xr")
    data[0, :1000] = 7
    y = gm.match_quantiles(
        backend.asarray(data, dtype), backend.asarray(reference, dtype), axis=1, ties=ties
    )
    for row, sample, found in zip(data, reference, backend.to_numpy(y), strict=True):
        _, at, inverse = np.unique(row, return_index=True, return_inverse=True)
        entries, values = row.tolist(), sample.tolist()
        ranks = [oracle.doubled_rank(entries, i, ties) for i in at]
        expected = np.array([oracle.quantile(values, oracle.position(h, n, (1, 1))) for h in ranks])
        np.testing.assert_allclose(found, expected[inverse], rtol=1e-6)


def test_normalize_quantiles(backend, rng):
    data = rng.normal(size=(4, 6)) * np.array([[1.0], [2.0], [3.0], [4.0]])
    x = backend.asarray(data)
    y = gm.normalize_quantiles(x, axis=1)
    backend.check_like(y, x)
    mean = np.sort(data, axis=1).mean(axis=0)
    expected = mean[data.argsort(axis=1).argsort(axis=1)]
    np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=1e-13)


def test_normalize_quantiles_with_missing_values(backend):
    data = np.array([[1.0, 3.0, np.nan], [10.0, 30.0, 20.0], [np.nan, np.nan, np.nan]])
    y = gm.normalize_quantiles(backend.asarray(data), axis=1)
    # The first row's quantiles at 0, ½, 1 are 1, 2, 3; the last row takes no part.
    np.testing.assert_allclose(
        backend.to_numpy(y), [[5.5, 16.5, np.nan], [5.5, 16.5, 11.0], [np.nan] * 3]
    )


def test_noise_and_random_ties_are_repeatable(backend):
    if backend.module == "dask":
        import dask.array as da

        seeds = [da.random.default_rng(3), da.random.default_rng(3)]
    else:
        seeds = [3, 3]
    x = backend.asarray(np.tile(np.arange(6.0) // 2, (4, 5)))
    noisy = [backend.to_numpy(gm.quantile_map(x, eps=0.5, rng=seed)) for seed in seeds]
    np.testing.assert_array_equal(*noisy)
    assert np.any(noisy[0] != backend.to_numpy(gm.quantile_map(x)))
    seeds = [da.random.default_rng(4) for _ in "ab"] if backend.module == "dask" else [4, 4]
    broken = [
        backend.to_numpy(gm.quantile_map(x, "uniform", ties="random", rng=seed)) for seed in seeds
    ]
    np.testing.assert_array_equal(*broken)
    np.testing.assert_allclose(np.sort(broken[0]), np.tile(np.linspace(0, 1, 30), (4, 1)))
    assert np.any(broken[0] != backend.to_numpy(gm.quantile_map(x, "uniform", ties="ordinal")))


@pairs_of_library_and_dtype("float16", "bfloat16", "float32")
@pytest.mark.parametrize("name", ["gaussian", "cauchy", "laplace", "logistic", "sparse"])
def test_named_targets_round_once(typed_backend, name):
    backend, dtype = typed_backend
    p = backend.asarray(np.array([0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.99, 1.0]), dtype)
    values = getattr(gm, name)(p)
    backend.check_like(values, p)
    exact = backend.to_numpy(p).astype(np.float64)
    expected = [oracle.QUANTILES[name](each, 1 - each) for each in exact]
    np.testing.assert_allclose(
        backend.to_numpy(values).astype(np.float64),
        expected,
        rtol=rounding(values),
        atol=6e-8 if dtype == "float16" else 1e-16,  # its least number; what tan(π/2) is off by
    )


@pytest.mark.parametrize("target", sorted(oracle.QUANTILES))
@pairs_of_library_and_dtype("float16", "bfloat16", "float32", "float64")
def test_missing_values_change_nothing_elsewhere(typed_backend, rng, target):
    """To the last bit: in other rows, and in their own as if they were not there."""
    backend, dtype = typed_backend
    # JAX compiles every operation anew for every length.
    cases = product((1, 2, 7, 27, 38, 100), ("linear", (0.25, 0.75)))
    if backend.module == "jax":
        cases = ((27, "linear"), (2, (0.25, 0.75)))[: 2 if dtype == "float32" else 1]
    for n, positions in cases:

        def mapped(data, positions=positions):
            x = backend.asarray(data, dtype)
            return backend.to_numpy(gm.quantile_map(x, target, positions=positions))

        data = rng.normal(size=(3, n)).astype(np.float32)
        whole = mapped(data)
        holed = np.concatenate([data, np.full((3, 2), np.nan)], axis=1)
        holed[2, -1] = 0.5
        np.testing.assert_array_equal(mapped(holed)[:2, :n], whole[:2])


def test_named_targets_are_callables_of_every_library(backend):
    p = np.array([0.0, 1e-7, 1e-5, 0.1, 0.25, 0.5, 0.6, 0.9, 1 - 1e-5, 1.0])
    given = backend.asarray(p)
    for name in ("uniform", "gaussian", "cauchy", "sparse", "laplace", "logistic"):
        target = getattr(gm, name)
        values = target(given)
        backend.check_like(values, given)
        expected = [oracle.QUANTILES[name](each, 1 - each) for each in p]
        np.testing.assert_allclose(backend.to_numpy(values), expected, rtol=1e-10, atol=1e-15)
        inside = backend.asarray(np.array([-3.0, -0.7, 0.0, 0.2, 0.999]))
        probabilities = backend.to_numpy(target.cdf(inside))
        again = backend.to_numpy(target.ppf(backend.asarray(probabilities)))
        clipped = backend.to_numpy(inside).clip(0 if name in {"uniform", "sparse"} else None, None)
        np.testing.assert_allclose(again, clipped, rtol=1e-13, atol=1e-14)


def test_a_user_callable_gets_its_own_library(backend):
    x = backend.asarray(np.array([[3.0, 1.0, 2.0], [5.0, 5.0, np.nan]]))
    seen = []

    def target(p):
        seen.append(type(p))
        return p * 10.0 - 5.0

    y = backend.to_numpy(gm.quantile_map(x, target))
    np.testing.assert_array_equal(y, [[5.0, -5.0, 0.0], [0.0, 0.0, np.nan]])
    blocks = np.ndarray if backend.module == "dask" else type(x)
    assert set(seen) == {blocks}


def test_scipy_distributions(backend):
    if not backend.reads_host:
        pytest.skip("the counts of the rows with missing values are behind another device")
    from scipy import stats

    data = np.array([[3.0, 1.0, 2.0, 7.0], [5.0, 5.0, np.nan, 1.0], [np.nan] * 4])
    x = backend.asarray(data)
    for distribution in (stats.gamma(2.0), stats.Normal(mu=1.0, sigma=2.0)):
        ppf = getattr(distribution, "ppf", None) or distribution.icdf
        y = gm.quantile_map(x, distribution, positions="hazen")
        backend.check_like(y, x)
        expected = oracle.map_rows(data, ppf, positions="hazen")
        np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=1e-13)


def test_results_stay_on_a_device_that_is_not_the_default():
    import array_api_strict as xp

    x = xp.asarray([[3.0, 1.0, 2.0]], device=xp.Device("device1"))
    assert device(gm.quantile_map(x)) == xp.Device("device1")
    fitted = gm.EmpiricalCDF.fit(x)
    assert device(fitted.cdf(x)) == device(fitted.values) == xp.Device("device1")
