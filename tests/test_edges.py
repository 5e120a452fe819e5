"""What bad and odd input gets, on the core: a clear error or a defined result."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
from scipy import sparse, stats

import groupmap as gm
from tests.backends import pairs_of_library_and_dtype

X = np.array([[3.0, 1.0, 2.0], [4.0, 4.0, 9.0]])


# --- values -------------------------------------------------------------------------------------


@pairs_of_library_and_dtype("float16", "float32", "float64")
def test_great_values_do_not_overflow(typed_backend):
    backend, dtype = typed_backend
    big = {"float64": 1.7e308, "float32": 3e38, "float16": 60000.0}[dtype]
    x = backend.asarray(np.array([[big, -big, 1.0], [big, big, -big]]), dtype)
    y = backend.to_numpy(gm.quantile_map(x, "uniform"))
    np.testing.assert_array_equal(y, [[1.0, 0.0, 0.5], [0.75, 0.75, 0.0]])
    matched = backend.to_numpy(gm.match_quantiles(x, x[0, :], axis=1)).astype(np.float64)
    assert np.all(np.isfinite(matched))


@pytest.mark.parametrize("dtype", ["float64", "uint8"])
def test_no_groups_follow_no_references(backend, dtype):
    x, reference = (backend.asarray(np.zeros((0, 8)), dtype) for _ in "xr")
    assert gm.match_quantiles(x, reference, axis=1).shape == (0, 8)


def test_two_infinities_tie(backend):
    x = backend.asarray(np.array([[np.inf, -np.inf, np.inf, 0.0]]))
    y = backend.to_numpy(gm.quantile_map(x, "uniform"))
    np.testing.assert_allclose(y, [[2.5 / 3, 0.0, 2.5 / 3, 1 / 3]])


@pytest.mark.parametrize("ties", ["average", "min", "max", "ordinal"])
def test_negative_zero_ties_with_zero(backend, ties):
    with_sign, without = (
        backend.to_numpy(gm.quantile_map(backend.asarray(np.array([row])), "uniform", ties=ties))
        for row in ([0.0, -0.0, 1.0, -0.0], [0.0, 0.0, 1.0, 0.0])
    )
    np.testing.assert_array_equal(with_sign, without)


def test_subnormals_are_distinct(backend):
    if backend.name == "jax":
        pytest.skip("XLA flushes subnormals to zero")
    x = backend.asarray(np.array([[0.0, 5e-324, 1e-323, -5e-324]]))
    y = backend.to_numpy(gm.quantile_map(x, "uniform"))
    np.testing.assert_allclose(y, [[1 / 3, 2 / 3, 1.0, 0.0]])


@pytest.mark.parametrize("target", ["gaussian", "uniform", "sparse", "laplace"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_constant_groups_sit_at_one_half(backend, target, n):
    y = backend.to_numpy(gm.quantile_map(backend.asarray(np.full((2, n), 7.0)), target))
    np.testing.assert_allclose(y, np.full((2, n), getattr(gm, target)(0.5)))


@pairs_of_library_and_dtype("int64", "uint64")
def test_great_integers_are_distinct(typed_backend):
    backend, dtype = typed_backend
    top = np.iinfo(dtype).max
    values = np.array([[2**53, 2**53 + 1, top, top - 1, 0]], dtype=dtype)
    y = backend.to_numpy(gm.quantile_map(backend.asarray(values, dtype), "uniform"))
    np.testing.assert_array_equal(y, [[0.25, 0.5, 1.0, 0.75, 0.0]])


# --- dtypes and libraries -----------------------------------------------------------------------


def test_bool_names_itself(backend):
    with pytest.raises(TypeError, match="bool"):
        gm.quantile_map(backend.asarray(np.array([[True, False]])))


def test_dtypes_that_numpy_only_carries():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.raises(TypeError, match=r"x has dtype bfloat16, which numpy .* such as float32"):
        gm.quantile_map(X.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize(
    ("x", "name"),
    [
        (X + 1j, "complex128"),
        (X.astype(object), "object"),
        (X.astype(str), "<U"),
        (X.astype("M8[s]"), r"datetime64.*to int64 .*numpy\.isnat\("),
        (sparse.eye(3), r"x\.toarray\(\)"),
        (np.ma.masked_array(X, X > 3), "masked array"),
    ],
)
def test_dtypes_without_an_order(x, name):
    with pytest.raises(TypeError, match=name):
        gm.quantile_map(x)
    with pytest.raises(TypeError, match=name):
        gm.group_map(x, 1)
    with pytest.raises(TypeError, match=name):
        gm.match_quantiles(x, np.array([1.0]))
    with pytest.raises(TypeError, match=name):
        gm.EmpiricalCDF.fit(x)


def test_what_comes_with_x_is_checked_as_x_is():
    masked = np.ma.masked_array(X, X > 3)
    row = masked[0]
    for name, call in {
        "reference": lambda: gm.match_quantiles(X, masked, axis=1),
        "weight": lambda: gm.layer_map(X, X.shape[1], row),
        "bias": lambda: gm.layer_map(X, X.shape[1], None, row),
        "where": lambda: gm.quantile_map(X, where=masked > 1),
    }.items():
        with pytest.raises(TypeError, match=f"{name} is a masked array"):
            call()
    for dtype in ("complex128", "bool", "<U3"):
        with pytest.raises(TypeError, match=f"weight has dtype {dtype}"):
            gm.layer_map(X, X.shape[1], np.ones(X.shape[1], dtype=dtype))


@pytest.mark.parametrize("x", [[1.0, 2.0], 3.0, None, "abc", np.float32, np.str_("abc")])
def test_what_is_no_array(x):
    with pytest.raises(TypeError, match="not a supported array type"):
        gm.quantile_map(x)


def test_two_libraries_mixed():
    xp = pytest.importorskip("array_api_strict")
    other = xp.asarray([1.0, 2.0])
    for call in (
        lambda: gm.match_quantiles(X, other),
        lambda: gm.quantile_map(X, other),
        lambda: gm.quantile_map(X, where=other > 0),
        lambda: gm.group_map(X, 1, xp.ones(3)),
        lambda: gm.EmpiricalCDF.fit(X[0]).cdf(other),
    ):
        with pytest.raises(
            TypeError, match=r"of numpy and \w+ of array_api_strict.*same namespace; convert one"
        ):
            call()


# --- memory -------------------------------------------------------------------------------------


def test_any_memory_layout_and_no_aliasing(tmp_path, rng):
    data = rng.normal(size=(4, 6, 5))
    expected = gm.quantile_map(data)
    path = tmp_path / "x.npy"
    np.save(path, data)
    padded = np.empty((4, 6, 10))
    padded[..., ::2] = data
    layouts = {
        "memmap": np.load(path, mmap_mode="r"),
        "fortran": np.asfortranarray(data),
        "strided": padded[..., ::2],
        "negative stride": np.ascontiguousarray(data[:, ::-1, ::-1])[:, ::-1, ::-1],
        "transposed": np.ascontiguousarray(data.T).T,
    }
    for name, x in layouts.items():
        y = gm.quantile_map(x)
        np.testing.assert_array_equal(y, expected, err_msg=name)
        assert type(y) is np.ndarray, name
        np.testing.assert_array_equal(x, data, err_msg=name)
        assert not np.shares_memory(x, y), name
    again = gm.quantile_map(data)
    again += 1
    np.testing.assert_array_equal(gm.quantile_map(data), expected)


def test_eight_threads_at_once(rng):
    # Lengths that no other test maps: all threads build tables that none has built before.
    inputs = [rng.normal(size=(50, 1301 + i // 2)) for i in range(8)]
    found = [None] * 8
    start = threading.Barrier(8)

    def work(i):
        start.wait()
        for _ in range(20):
            found[i] = gm.quantile_map(inputs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each, x in zip(found, inputs, strict=True):
        np.testing.assert_array_equal(each, gm.quantile_map(x))


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"target_quantiles": "normall"}, ValueError, "'normall' is not known; use one of"),
        ({"target_quantiles": 3}, TypeError, "target_quantiles=3 says no quantile function"),
        ({"target_quantiles": float}, TypeError, "says no quantile function"),
        ({"target_quantiles": "cuda:0"}, TypeError, "device=.* target_quantiles="),
        ({"target_quantiles": "cpu"}, TypeError, "device=.* target_quantiles="),
        ({"ties": "mean"}, ValueError, "ties='mean' is not known; use one of"),
        ({"positions": "bloom"}, ValueError, "positions='bloom' is not known; use one of"),
        ({"positions": (1.5, 0)}, ValueError, r"positions=\(1.5, 0\)"),
        ({"positions": (1, 0, 1)}, ValueError, "a pair of floats"),
        ({"positions": 0.5}, TypeError, "positions=0.5"),
        ({"gradient": "backprop"}, ValueError, "gradient='backprop' is not known; use one of"),
        ({"eps": -1.0}, ValueError, "eps=-1.0"),
        ({"eps": np.nan}, ValueError, "eps=nan"),
        ({"eps": "small"}, TypeError, "eps='small'"),
        ({"eps": True}, TypeError, "eps=True"),
        ({"eps": 1.0}, ValueError, "rng=None.*need a generator"),
        ({"ties": "random"}, ValueError, "rng=None.*need a generator"),
        ({"eps": 1.0, "rng": "seed"}, TypeError, "rng='seed' is no generator"),
        ({"eps": 1.0, "rng": True}, TypeError, "rng=True is no generator"),
        ({"eps": 1.0, "rng": -1}, ValueError, "rng=-1 is negative.*or the seed itself"),
        ({"axis": 2}, ValueError, "axis=2 is out of bounds"),
        ({"axis": 0.5}, TypeError, "axis=0.5"),
        ({"axis": (0, -2)}, ValueError, "names an axis twice"),
        ({"where": np.ones(3)}, TypeError, "where has dtype float64; it must be bool"),
        ({"where": np.ones(4, dtype=bool)}, ValueError, r"where has shape \(4,\)"),
    ],
)
def test_options_are_checked(options, error, text):
    with pytest.raises(error, match=text):
        gm.quantile_map(X, **options)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: gm.group_map(np.ones((2, 10, 3)), 3),
            ValueError,
            r"num_channels \(10\) must be divisible by num_groups \(3\)",
        ),
        (lambda: gm.group_map(X, 0), ValueError, "num_groups=0 must be an integer ≥ 1"),
        (lambda: gm.match_quantiles(X, None), TypeError, "reference is None; pass an array"),
        (lambda: gm.EmpiricalCDF.fit(X).cdf(None), TypeError, "x is None; pass an array"),
        (lambda: gm.gaussian.clamped("a"), TypeError, "clamp='a' is no number"),
        (lambda: gm.group_map(X, -2), ValueError, "num_groups=-2 must be an integer ≥ 1"),
        (lambda: gm.group_map(X, 2.5), TypeError, "num_groups=2.5 must be an integer ≥ 1"),
        (lambda: gm.group_map(X, True), TypeError, "num_groups=True must be an integer ≥ 1"),
        (lambda: gm.group_map(X[0], 1), ValueError, r"at least 2 dimensions.*x\[None\]"),
        (lambda: gm.group_map(X, 1, channel_axis=0), ValueError, "channel_axis=0 is the batch"),
        (lambda: gm.group_map(X, 1, np.ones(2)), ValueError, "Expected weight to be a vector"),
        (lambda: gm.instance_map(X, None, np.ones(2)), ValueError, "Expected bias to be a vector"),
        (lambda: gm.layer_map(X, 4), ValueError, r"normalized_shape=\[4\].*\[\*, 4\].*\[2, 3\]"),
        (lambda: gm.layer_map(X, ()), ValueError, "at least one axis"),
        (lambda: gm.layer_map(X, 3, np.ones(2)), ValueError, "of same shape as normalized_shape"),
        (lambda: gm.layer_map(X, 1.5), TypeError, "normalized_shape=1.5"),
        (lambda: gm.match_quantiles(X, np.empty(0)), ValueError, "the reference sample is empty"),
        (
            lambda: gm.match_quantiles(X, np.array([1.0, np.nan])),
            ValueError,
            "the reference sample holds NaN or infinite values",
        ),
        (
            lambda: gm.match_quantiles(X, np.ones((3, 3)), axis=1),
            ValueError,
            r"reference has shape \(3, 3\)",
        ),
        (lambda: gm.quantile_map(X, np.ones((2, 2))), ValueError, "a reference sample is 1-D"),
        (lambda: gm.quantile_map(X, np.array([])), ValueError, "sample is empty"),
        (lambda: gm.EmpiricalCDF.fit(X, n_quantiles=0), ValueError, "n_quantiles=0"),
        (lambda: gm.EmpiricalCDF.fit(X, n_quantiles=2.5), TypeError, "n_quantiles=2.5"),
        (lambda: gm.EmpiricalCDF.fit(X, tails="wrap"), ValueError, "tails='wrap'"),
        (lambda: gm.EmpiricalCDF.fit(X[:, :0]), ValueError, r"0 sample\(s\)"),
        (lambda: gm.EmpiricalCDF.fit(np.array([1.0, np.inf])), ValueError, "infinity"),
        (lambda: gm.EmpiricalCDF.fit(X).cdf(X[:1, 0]), ValueError, r"groups of shape \(2,\)"),
        (lambda: gm.EmpiricalCDF.fit(X).merge(X), TypeError, "no EmpiricalCDF"),
        (
            lambda: gm.EmpiricalCDF.fit(X).merge(gm.EmpiricalCDF.fit(X[:1])),
            ValueError,
            "the groups differ",
        ),
        (
            lambda: gm.EmpiricalCDF.fit(np.eye(3)).merge(gm.EmpiricalCDF.fit(np.eye(3), axis=0)),
            ValueError,
            "the pooled axes differ",
        ),
        (
            lambda: gm.EmpiricalCDF.fit(X, n_quantiles=2).merge(
                gm.EmpiricalCDF.fit(X, n_quantiles=2), n_quantiles=0
            ),
            ValueError,
            "n_quantiles=0",
        ),
        (
            lambda: gm.normalize_quantiles(np.array([[1.0, -np.inf]]), axis=1),
            ValueError,
            "infinity",
        ),
        (lambda: gm.normalize_quantiles(X, axis=None), TypeError, "axis=None"),
        (lambda: gm.quantile_map(X, axis=True), TypeError, "axis=True is no axis"),
        (lambda: gm.quantile_map(X, stats.norm(0.0, -1.0)), ValueError, r"has the median \[nan\]"),
        (lambda: gm.quantile_map(np.array(3.0)), ValueError, "pass axis=None"),
        (lambda: gm.quantile_map(X, stats.gamma), TypeError, r"as in scipy\.stats\.gamma"),
        (lambda: gm.match_quantiles(X, [1.0, 2.0]), TypeError, "reference is of type list"),
        (lambda: gm.group_map(X, 1, "uniform"), TypeError, "weight is of type str"),
        (lambda: gm.quantile_map(X, gm.sparse(0.1)), ValueError, "is a single number"),
        (lambda: gm.quantile_map(X, stats.norm([0, 1, 2])), ValueError, "is 3 distributions"),
        (
            lambda: gm.GroupMapTransformer([["a"], ["b"]]).fit(np.ones((3, 2))),
            ValueError,
            "'a', but X has no column names; give a data frame",
        ),
        (lambda: gm.gaussian.clamped(0.5), ValueError, "clamp=0.5"),
        (lambda: gm.gaussian.clamped(0.0), ValueError, "clamp=0.0"),
    ],
)
def test_arguments_are_checked(call, error, text):
    with pytest.raises(error, match=text):
        call()


# --- targets that users bring -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "error", "text"),
    [
        (lambda p: p[1:], ValueError, r"returned shape \(4,\) for probabilities of shape \(5,\)"),
        (lambda p: p + 0j, TypeError, r"returned dtype complex128 .* of shape \(5,\)"),
        (lambda p: 3.0, TypeError, "returned float"),
        (lambda p: p.tolist(), TypeError, "returned list"),
    ],
)
def test_what_a_target_returns_is_checked(target, error, text):
    with pytest.raises(error, match=text):
        gm.quantile_map(X, target)


def test_normalizing_great_values_and_nothing():
    great = np.array([[1.7e308, -1.7e308], [-1.7e308, 1.7e308]])
    np.testing.assert_array_equal(gm.normalize_quantiles(great, axis=1), great)
    assert gm.normalize_quantiles(np.empty((3, 0)), axis=1).shape == (3, 0)


@pytest.mark.parametrize("rows", [3, 9, 17, 39])
@pytest.mark.parametrize("missing", [False, True])
def test_the_mean_of_equal_rows_is_what_they_are(eager_backend, rows, missing):
    """Also of the greatest number of all, which a sum of shares is rounded beyond."""
    backend = eager_backend
    x = backend.asarray(np.full((rows, 4), 1.0))
    greatest = float(np.finfo(np.float32 if "float32" in str(x.dtype) else np.float64).max)
    table = np.tile([greatest, 0.1, 0.7, -greatest], (rows, 1))
    if missing:
        table = np.concatenate([table, np.full((1, 4), np.nan)])
    x = backend.asarray(table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = gm.normalize_quantiles(x, axis=1)
    np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(x))


def test_an_unsorted_reference_is_sorted():
    np.testing.assert_array_equal(
        gm.match_quantiles(X[0], np.array([30.0, 10.0, 20.0])), [30.0, 10.0, 20.0]
    )


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_reference_of_16_bits_with_many_equals_is_sorted(rng, library):
    """NumPy 2.4 does not sort it on all processors."""
    asarray = pytest.importorskip(library).asarray
    x = rng.normal(size=(9, 3072))
    reference = np.round(rng.normal(size=(9, 3072))).astype(np.float16)  # with zeros of both signs
    found = gm.match_quantiles(asarray(x), asarray(reference), axis=-1)
    expected = gm.match_quantiles(x, reference.astype(np.float64), axis=-1)
    np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize(
    "distribution",
    [stats.norm(), stats.expon(), stats.Normal(), stats.t(3)],
    ids=["norm", "expon", "Normal", "t"],
)
def test_infinite_ends_are_clamped(distribution):
    ppf = getattr(distribution, "ppf", None) or distribution.icdf
    y = gm.quantile_map(np.array([0.0, 1.0, 2.0]), distribution)
    np.testing.assert_allclose(y, ppf(np.array([1e-5, 0.5, 1 - 1e-5])), rtol=1e-12)


def test_finite_ends_are_not_clamped():
    y = gm.quantile_map(np.array([0.0, 1.0, 2.0]), stats.beta(2, 3))
    np.testing.assert_allclose(y[[0, 2]], [0.0, 1.0])


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("kind", ["named", "scipy", "callable", "reference"])
def test_random_ties_with_every_kind_of_target(missing, kind):
    x = np.repeat(np.arange(4.0), 5)[None]
    if missing:
        x = np.concatenate([x, [[np.nan]]], axis=1)
    target = {
        "named": "uniform",
        "scipy": stats.uniform(),
        "callable": lambda p: p,
        "reference": np.linspace(0, 1, 20),
    }[kind]
    y = gm.quantile_map(x, target, ties="random", rng=1)
    np.testing.assert_allclose(np.sort(y[~np.isnan(y)]), np.linspace(0, 1, 20), atol=1e-15)


def test_half_precision_is_one_rounding_from_exact(rng):
    x = rng.permutation(2000).astype(np.float16)[None]
    exact = gm.quantile_map(x.astype(np.float64))
    np.testing.assert_array_equal(gm.quantile_map(x), exact.astype(np.float16))


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda torch: torch.eye(3).to_sparse(), "to_dense"),
        (lambda torch: torch.eye(3).to(torch.float8_e4m3fn), "bfloat16"),
        (
            lambda torch: torch.nested.nested_tensor(
                [torch.ones(2), torch.ones(3)], layout=torch.jagged
            ),
            "nested tensor",
        ),
    ],
)
def test_tensors_without_dense_groups(make, remedy):
    x = make(pytest.importorskip("torch"))
    with pytest.raises(TypeError, match=remedy):
        gm.quantile_map(x)
    with pytest.raises(TypeError, match=remedy):
        gm.match_quantiles(x, x)


@pytest.mark.parametrize("n", [10, 5000])
@pytest.mark.parametrize("has_nan", [False, True])
def test_no_gradient_passes_where_none_is_promised(n, has_nan):
    torch = pytest.importorskip("torch")
    x = torch.randn(3, n, generator=torch.Generator().manual_seed(1))
    if has_nan:
        x[0, 0] = torch.nan
    x.requires_grad_()
    assert not gm.normalize_quantiles(x, axis=1).requires_grad
    assert not gm.match_quantiles(x, torch.linspace(0.0, 1.0, 7)).requires_grad


def test_random_ties_of_matching_take_a_generator():
    x = np.zeros(50)
    target = np.arange(50.0)
    one, other = (gm.match_quantiles(x, target, ties="random", rng=seed) for seed in (1, 2))
    np.testing.assert_array_equal(np.sort(one), target)
    assert np.any(one != other)
    rows = np.stack([x, target])
    y = gm.normalize_quantiles(rows, axis=1, ties="random", rng=1)
    np.testing.assert_array_equal(np.sort(y, axis=1), np.tile(target / 2, (2, 1)))
