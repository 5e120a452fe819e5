"""Targets as objects: they compare, print, pickle, and invert."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from scipy import special, stats

import groupmap as gm
from groupmap.backends import _normal
from groupmap.targets import Sparse
from groupmap.user_targets import as_target

NAMED = ["uniform", "gaussian", "cauchy", "sparse", "laplace", "logistic"]


@pytest.mark.parametrize("name", NAMED)
def test_value_semantics(name):
    target = getattr(gm, name)
    for twin in (copy.deepcopy(target), pickle.loads(pickle.dumps(target)), as_target(name)):
        assert twin == target
        assert hash(twin) == hash(target)
    assert repr(target).startswith(name.capitalize() + "(")


def test_normal_is_gaussian():
    assert as_target("normal") is as_target("gaussian") is gm.gaussian


def test_the_clamp_is_a_parameter():
    wide = gm.gaussian.clamped(1e-7)
    assert wide != gm.gaussian
    np.testing.assert_allclose(wide(np.array([0.0, 1.0])), stats.norm.ppf([1e-7, 1 - 1e-7]))
    assert gm.quantile_map(np.arange(3.0), wide)[2] > gm.quantile_map(np.arange(3.0))[2]


def test_sparse_has_most_values_near_zero():
    assert gm.sparse.exponent == 28
    assert gm.sparse.with_ninety_quantile(0.9).exponent == 1
    np.testing.assert_allclose(gm.sparse(0.9), 0.9**28)
    for k in range(1, 60):
        assert gm.sparse.with_ninety_quantile(0.9**k).exponent == k
    for impossible in (0.0, 1.0, 0.95, -1.0):
        with pytest.raises(ValueError, match="ninety_quantile"):
            Sparse(impossible)


@pytest.mark.parametrize("name", NAMED)
def test_the_probabilities_stay_the_caller_s(name):
    target, p = as_target(name), np.linspace(0.0, 1.0, 5)
    target = target.with_ninety_quantile(0.9) if name == "sparse" else target
    for function in (target, target.ppf, target.cdf):
        assert not np.shares_memory(function(p), p)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extremes_map_back_to_the_ends(name, dtype):
    target = getattr(gm, name)
    ends = target(np.array([0.0, 1e-6, 0.5, 1 - 1e-6, 1.0], dtype=dtype))
    p = target.cdf(ends)
    assert p.dtype == dtype
    assert p[0] == 0.0
    assert p[4] == 1.0
    np.testing.assert_allclose(p[2], 0.5, rtol=1e-6)


def test_floats_and_integers_are_probabilities_too():
    assert gm.gaussian(0.5) == 0.0
    assert gm.uniform(1) == 1.0
    np.testing.assert_array_equal(gm.uniform(np.array([0, 1])), [0.0, 1.0])
    with pytest.raises(TypeError, match="not a supported array type"):
        gm.gaussian([0.5])
    with pytest.raises(TypeError, match="bool"):
        gm.gaussian(np.array([True]))


@pytest.mark.parametrize("name", NAMED)
def test_nan_stays_nan(name):
    target = getattr(gm, name)
    assert np.isnan(target(np.array([np.nan]))[0])
    assert np.isnan(target.cdf(np.array([np.nan]))[0])


def test_a_clamp_that_is_an_array_is_a_number():
    target = gm.gaussian.clamped(np.asarray(1e-4))
    assert target == gm.gaussian.clamped(1e-4)
    np.testing.assert_array_equal(target.cdf(np.array([-9.0, 0.0, 9.0])), [0.0, 0.5, 1.0])
    gm.quantile_map(np.arange(5.0), target)


def test_elementary_normal_quantiles_against_scipy():
    p = np.concatenate(
        [np.linspace(0, 1, 20001), 10.0 ** -np.arange(1, 300), 1 - 10.0 ** -np.arange(1, 16)]
    )
    np.testing.assert_allclose(_normal.ndtri(p, np), special.ndtri(p), rtol=3e-15)
    assert np.all(np.isnan(_normal.ndtri(np.array([-0.1, 1.1, np.nan]), np)))


def test_elementary_normal_cdf_against_scipy():
    x = np.concatenate([np.linspace(-37, 37, 20001), [-np.inf, np.inf, -100.0, 100.0]])
    np.testing.assert_allclose(_normal.ndtr(x, np), special.ndtr(x), rtol=1e-12, atol=1e-300)
    assert np.isnan(_normal.ndtr(np.array([np.nan]), np)[0])


def test_repeated_calls_give_the_same_bits(rng):
    x = rng.normal(size=(20, 513)).astype(np.float32)
    first = gm.quantile_map(x, "cauchy")
    for _ in range(3):
        np.testing.assert_array_equal(gm.quantile_map(x, "cauchy"), first)


# --- a target a group ---------------------------------------------------------------------------


def test_each_group_its_own_target(backend, rng):
    data = rng.normal(size=(3, 6, 5))
    x = backend.asarray(data)
    reference = np.array([5.0, -1.0, 9.0])
    if backend.module == "dask":
        with pytest.raises(TypeError, match="target_quantiles holds a sample, which no block"):
            gm.group_map(x, 1, target_quantiles=[backend.asarray(reference)])
        reference, targets = gm.uniform, ["uniform"] * 3
    else:
        targets = ["uniform", backend.asarray(reference), "uniform"]
    expected = [gm.group_map(data[:, c : c + 2], 1, target_quantiles=target) for c, target in
                ((0, "uniform"), (2, reference), (4, "uniform"))]  # fmt: skip
    found = backend.to_numpy(gm.group_map(x, 3, target_quantiles=targets))
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-12)
    channels = ["gaussian", "cauchy", "uniform", "gaussian", "sparse", "laplace"]
    found = backend.to_numpy(gm.instance_map(x, target_quantiles=channels))
    for c, target in enumerate(channels):
        np.testing.assert_allclose(found[:, c], gm.quantile_map(data[:, c], target), atol=1e-12)


def test_targets_and_masks_a_group(rng):
    x, where = rng.normal(size=(3, 4, 9)), rng.random((3, 4, 9)) < 0.6
    found = gm.instance_map(x, target_quantiles=["uniform", "gaussian"] * 2, where=where)
    for c, target in enumerate(["uniform", "gaussian"] * 2):
        expected = gm.quantile_map(x[:, c], target, where=where[:, c])
        np.testing.assert_array_equal(found[:, c], expected)


def test_as_many_targets_as_groups(rng):
    x = rng.normal(size=(3, 6, 5))
    with pytest.raises(ValueError, match="a sequence of 2 targets for 3 groups"):
        gm.group_map(x, 3, target_quantiles=["uniform"] * 2)
    with pytest.raises(ValueError, match="a sequence of 0 targets for 6 groups"):
        gm.instance_map(x, target_quantiles=[])
    with pytest.raises(TypeError, match="says no quantile function"):
        gm.quantile_map(x, ["uniform"] * 6)
    with pytest.raises(TypeError, match=r"target_quantiles=1\.5 says no quantile function"):
        gm.group_map(x, 2, target_quantiles=[1.5, 2.5])


def test_names_may_be_strings_of_numpy(rng):
    x = rng.normal(size=(2, 9))
    for name in np.array(["uniform", "cauchy"]):
        np.testing.assert_array_equal(gm.quantile_map(x, name), gm.quantile_map(x, str(name)))
    with pytest.raises(TypeError, match="says no quantile function"):
        gm.quantile_map(x, np.float32)


def test_distributions_whose_support_has_no_end_are_clamped(rng):
    from scipy import stats

    if not hasattr(stats, "Mixture"):
        pytest.skip("this SciPy has no mixtures")
    mixture = stats.Mixture([stats.Normal(), stats.Normal(mu=5.0)])
    y = gm.quantile_map(rng.normal(size=(1, 5)), mixture)
    expected = mixture.icdf(np.array([1e-5, 1 - 1e-5]))
    np.testing.assert_allclose([y.min(), y.max()], expected, rtol=1e-9)


def test_torch_distributions_without_bounds_are_clamped():
    """Also where torch rounds an infinite end to a number; and those that have bounds are not."""
    torch = pytest.importorskip("torch")
    from torch import distributions as dist

    x = torch.arange(5.0, dtype=torch.float64)
    clamped = torch.tensor([1e-5, 1 - 1e-5], dtype=torch.float64)
    doubled = dist.AffineTransform(1.0, 2.0)
    for unbounded in (
        dist.Normal(0.0, 1.0), dist.Cauchy(0.0, 1.0), dist.HalfCauchy(1.0), dist.Pareto(1.0, 0.5),
        dist.TransformedDistribution(dist.Cauchy(0.0, 1.0), doubled),
    ):  # fmt: skip
        y = gm.quantile_map(x, unbounded)
        torch.testing.assert_close(y[[0, -1]], unbounded.icdf(clamped))
    bounded = {
        dist.Uniform(2.0, 5.0): [2.0, 5.0],
        dist.TransformedDistribution(dist.Uniform(0.0, 1.0), doubled): [1.0, 3.0],
        dist.Kumaraswamy(0.01, 100.0): [0.0, 1.0],
    }
    for distribution, ends in bounded.items():
        assert gm.quantile_map(x, distribution)[[0, -1]].tolist() == ends


@pytest.mark.parametrize("name", ["gaussian", "cauchy", "laplace", "logistic"])
def test_derivatives_in_the_middle_are_whole(name):
    torch = pytest.importorskip("torch")
    target = getattr(gm, name)
    for function, at in ((target.ppf, 0.5), (target.cdf, 0.0)):
        x = torch.tensor([at, at + 1e-9], dtype=torch.float64, requires_grad=True)
        function(x).sum().backward()
        assert x.grad[0] > 0.2
        torch.testing.assert_close(x.grad[0], x.grad[1], rtol=1e-6, atol=0.0)


def test_the_lower_tail_keeps_its_digits(eager_backend):
    """However small the clamp: it is no difference of numbers near one."""
    x = np.linspace(-9.0, 0.0, 50)
    found = gm.gaussian.clamped(1e-20).cdf(eager_backend.asarray(x))
    single = eager_backend.to_numpy(found).dtype == np.float32
    expected = special.ndtr(x)
    np.testing.assert_allclose(
        eager_backend.to_numpy(found), expected, rtol=1e-4 if single else 1e-12
    )


@pytest.mark.filterwarnings("error")
def test_ends_that_half_precision_cannot_hold():
    x = np.array([-np.inf, -60000, 0, 60000, np.inf], dtype=np.float16)
    p = gm.cauchy.clamped(1e-7).cdf(x)
    np.testing.assert_allclose(p, [0, 5.3e-6, 0.5, 1, 1], rtol=0.01)
    rounded_down = gm.cauchy.clamped(1 / (np.pi * 65510))  # to 65504
    np.testing.assert_array_equal(rounded_down.cdf(np.array([-65504, 65504], np.float16)), [0, 1])
