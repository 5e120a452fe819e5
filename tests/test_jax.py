"""JAX: with and without jit, with and without float64, and what passes back."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

import groupmap as gm
from tests.backends import without_numpy

jax = pytest.importorskip("jax")
jnp = jax.numpy
compiled = importlib.import_module("groupmap.backends.jax").compiled

TARGETS = ["gaussian", "uniform", "cauchy", "sparse", "laplace", "logistic"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32"])
def test_jit_agrees_with_eager(rng, target, dtype):
    data = rng.normal(size=(4, 19)) * 10
    x = jnp.asarray(data.round() if dtype == "int32" else data, dtype=dtype)
    if dtype != "int32":
        x = x.at[1, :4].set(jnp.nan)
    eager = gm.quantile_map(x, target)
    jitted = jax.jit(lambda x: gm.quantile_map(x, target))(x)
    assert jitted.dtype == eager.dtype
    tolerance = 4 * float(jnp.finfo(eager.dtype).eps)
    np.testing.assert_allclose(
        np.asarray(jitted, dtype=np.float64),
        np.asarray(eager, dtype=np.float64),
        rtol=tolerance,
        atol=1e-7 if dtype in {"float32", "int32"} else 1e-15,
    )


@pytest.mark.parametrize("ties", ["average", "min", "max", "ordinal"])
def test_jit_of_ties_and_masks(rng, ties):
    x = jnp.asarray(rng.normal(size=(4, 19)).round(1))
    where = jnp.asarray(rng.random((4, 19)) < 0.7)

    def f(x, where):
        return gm.quantile_map(x, "uniform", ties=ties, where=where)

    with without_numpy():
        np.testing.assert_array_equal(jax.jit(f)(x, where), f(x, where))
    np.testing.assert_allclose(f(x, where), jax.jit(f)(x, where), rtol=1e-15)


def test_calls_that_say_the_same_share_a_program(rng):
    x = jnp.asarray(rng.normal(size=(4, 19)))
    with without_numpy():
        gm.quantile_map(x, "laplace", positions="weibull")
        before = compiled.cache_info()
        gm.quantile_map(x + 1.0, gm.laplace.clamped(1e-5), positions=(0, 0))
        after = compiled.cache_info()
    assert (after.misses, after.currsize) == (before.misses, before.currsize)
    assert after.hits > before.hits


def test_what_a_caller_makes_anew_is_not_kept(rng):
    x = jnp.asarray(rng.normal(size=(2, 9)))
    before = compiled.cache_info()
    with without_numpy():
        for _ in range(3):
            gm.quantile_map(x, lambda p: 2.0 * p)
    assert compiled.cache_info() == before


@pytest.mark.parametrize("shape", [(4, 19), (2, 3000)], ids=["plain", "kernels"])
def test_what_lies_in_main_memory_is_mapped_by_numpy(rng, shape):
    data = rng.normal(size=shape).astype(np.float32)
    data[0, 3] = np.nan
    x, before = jnp.asarray(data), compiled.cache_info()
    mapped = gm.quantile_map(x), gm.match_quantiles(x, x[1], axis=1), gm.gaussian.cdf(x)
    assert compiled.cache_info() == before
    expected = (
        gm.quantile_map(data), gm.match_quantiles(data, data[1], axis=1), gm.gaussian.cdf(data)
    )  # fmt: skip
    for found, each in zip(mapped, expected, strict=True):
        assert isinstance(found, jax.Array)
        assert not found.committed
        np.testing.assert_array_equal(found, each)
    bound = gm.quantile_map(jax.device_put(x, jax.devices("cpu")[0]))
    assert bound.committed
    np.testing.assert_array_equal(bound, expected[0])


def test_groups_of_three_axes(rng):
    x = rng.normal(size=(2, 6, 3, 4)).round(1)
    found = gm.group_map(jnp.asarray(x), 2, jnp.arange(6.0), ties="max")
    np.testing.assert_allclose(found, gm.group_map(x, 2, np.arange(6.0), ties="max"), atol=1e-12)


@pytest.mark.parametrize("rows", [(), (3,)], ids=str)
def test_gradients_of_references_are_those_of_torch(rng, rows):
    torch = pytest.importorskip("torch")
    x, reference, g = (rng.normal(size=(*shape, 9)) for shape in ((3,), rows, (3,)))
    expected = torch.as_tensor(reference).requires_grad_()
    gm.match_quantiles(torch.as_tensor(x), expected, axis=-1).backward(torch.as_tensor(g))

    def f(reference):
        return jnp.sum(gm.match_quantiles(jnp.asarray(x), reference, axis=-1) * g)

    for grad in (jax.grad(f), jax.jit(jax.grad(f))):
        np.testing.assert_allclose(grad(jnp.asarray(reference)), expected.grad, atol=1e-12)


def test_masks_may_be_traced_alone(rng):
    x, masks = jnp.asarray(rng.normal(size=7)), jnp.asarray(rng.random((3, 7)) < 0.7)
    found = jax.vmap(lambda where: gm.EmpiricalCDF.fit(x, where=where).counts)(masks)
    np.testing.assert_array_equal(found[:, 0], masks.sum(axis=1))


def test_references_without_axes(rng):
    x, references = jnp.asarray(rng.normal(size=3)), jnp.asarray(rng.normal(size=3))
    np.testing.assert_array_equal(jax.vmap(gm.match_quantiles)(x, references), references)


@pytest.mark.parametrize("ties", ["average", "max", "ordinal"])
def test_a_users_target_of_what_jax_ranks(rng, ties):
    data = rng.normal(size=(2, 40)).round(1)
    x = jnp.asarray(data)

    def square(p):
        return p * p

    expected = gm.quantile_map(data, square, ties=ties)
    np.testing.assert_allclose(gm.quantile_map(x, square, ties=ties), expected, atol=1e-15)
    with without_numpy():
        np.testing.assert_allclose(gm.quantile_map(x, square, ties=ties), expected, atol=1e-15)


def test_floats_of_8_bits():
    x = jnp.asarray([3.0, 1.0, jnp.nan, 2.0], dtype=jnp.float8_e5m2)
    found = np.asarray(gm.quantile_map(x, "uniform"), dtype=np.float32)
    np.testing.assert_array_equal(found, [1.0, 0.0, np.nan, 0.5])


@pytest.mark.filterwarnings("error")
def test_overflow_is_silent_as_in_jax():
    x = jnp.asarray([[1.0, 2.0, 3.0]], dtype=jnp.float32)
    found = gm.layer_map(x, 3, weight=jnp.full(3, 3e38, dtype=jnp.float32))
    np.testing.assert_array_equal(found, [[-np.inf, 0.0, np.inf]])


def test_extremes_are_certain_wherever_they_were_mapped(rng):
    x = jnp.asarray(rng.normal(size=50))
    for mapped in (gm.quantile_map(x), jax.jit(gm.quantile_map)(x)):
        for p in (gm.gaussian.cdf(mapped), jax.jit(gm.gaussian.cdf)(mapped)):
            assert (float(p.min()), float(p.max())) == (0.0, 1.0)


def test_fitted_cdfs_read_by_kernels(rng):
    data = rng.normal(size=(3000, 3))
    found = gm.GroupMapTransformer(n_quantiles=100).fit_transform(jnp.asarray(data))
    expected = gm.GroupMapTransformer(n_quantiles=100).fit_transform(data)
    np.testing.assert_array_equal(found, expected)


def test_vmap(rng):
    x = jnp.asarray(rng.normal(size=(3, 4, 10)))
    with without_numpy():
        np.testing.assert_array_equal(jax.vmap(gm.quantile_map)(x), gm.quantile_map(x))


def test_without_float64(rng):
    data = rng.normal(size=(4, 19))
    with jax.enable_x64(False):
        x = jnp.asarray(data)
        assert x.dtype == jnp.float32
        for f in (gm.quantile_map, jax.jit(gm.quantile_map)):
            y = f(x)
            assert y.dtype == jnp.float32
            np.testing.assert_allclose(y, gm.quantile_map(data), rtol=2e-5, atol=1e-6)


def test_a_table_made_inside_jit_does_not_outlive_it():
    constant = jnp.arange(37.0)

    @jax.jit
    def f(x):
        return x + gm.quantile_map(constant)

    f(jnp.zeros(37))
    np.testing.assert_allclose(gm.quantile_map(constant), gm.quantile_map(np.arange(37.0)))


def test_keys_are_its_source_of_randomness():
    x = jnp.arange(12.0)

    @jax.jit
    def f(x, key):
        return gm.quantile_map(x, eps=5.0, rng=key)

    one, two = f(x, jax.random.key(1)), f(x, jax.random.key(2))
    np.testing.assert_array_equal(f(x, jax.random.key(1)), one)
    assert np.any(np.asarray(one) != np.asarray(two))
    zeros = jnp.zeros(8)
    broken = gm.quantile_map(zeros, "uniform", ties="random", rng=jax.random.PRNGKey(0))
    np.testing.assert_allclose(np.sort(broken), np.linspace(0, 1, 8))


def test_host_generators_are_refused_while_tracing():
    with pytest.raises(ValueError, match=r"jax\.random\.key"):
        gm.quantile_map(jnp.arange(4.0), ties="random")
    with pytest.raises(TypeError, match=r"jax\.random\.key"):
        jax.jit(lambda x: gm.quantile_map(x, eps=1.0, rng=3))(jnp.arange(4.0))


def test_scipy_targets_cannot_be_traced():
    from scipy import stats

    x = jnp.arange(4.0)
    assert gm.quantile_map(x, stats.gamma(2.0), positions="hazen").shape == (4,)
    with pytest.raises(TypeError, match="cannot be traced"):
        jax.jit(lambda x: gm.quantile_map(x, stats.gamma(2.0)))(x)


@pytest.mark.parametrize("gradient", ["transport", "affine", "straight_through"])
def test_gradients_are_those_of_torch(rng, gradient):
    torch = pytest.importorskip("torch")
    x, g = rng.normal(size=(3, 25)).round(1), rng.normal(size=(3, 25))
    x[1, 3], x[2, 4] = np.nan, np.inf
    expected = torch.as_tensor(x).requires_grad_()
    gm.quantile_map(expected, gradient=gradient).backward(torch.as_tensor(g))

    def f(x):
        return jnp.nansum(gm.quantile_map(x, gradient=gradient) * g)

    for grad in (jax.grad(f), jax.jit(jax.grad(f))):
        np.testing.assert_allclose(grad(jnp.asarray(x)), expected.grad, atol=1e-10)


def test_straight_through():
    x = jnp.asarray([3.0, 1.0, jnp.nan, 2.0])

    def f(x):
        return jnp.nansum(gm.quantile_map(x, gradient="straight_through") * jnp.arange(4.0))

    for grad in (jax.grad(f), jax.jit(jax.grad(f))):
        np.testing.assert_array_equal(grad(x), [0.0, 1.0, 0.0, 3.0])


def test_the_greatest_unsigned_integer_may_be_beside_missing_ones():
    with jax.enable_x64(True):
        x = jnp.asarray(np.array([[2**64 - 1], [3]], dtype=np.uint64))
        where = jnp.asarray([[True], [False]])
        y = gm.quantile_map(x, "uniform", axis=0, where=where)
    np.testing.assert_array_equal(np.asarray(y), [[0.5], [np.nan]])


def test_what_a_jitted_function_closes_over_is_as_what_it_is_given(rng):
    x = jnp.asarray(rng.normal(size=(3, 9)), dtype=jnp.float32)
    reference, where = jnp.asarray([3.0, 1.0, 2.0]), x > -0.5
    for call in (
        lambda x, reference, where: gm.quantile_map(x, reference),
        lambda x, reference, where: gm.match_quantiles(x, reference, axis=1),
        lambda x, reference, where: gm.quantile_map(x, jnp.sqrt, where=where),
        lambda x, reference, where: gm.group_map(x[..., None], 3, target_quantiles=[reference] * 3),
        lambda x, reference, where: gm.EmpiricalCDF.fit(where * x, axis=1).cdf(x),
    ):
        closed = jax.jit(lambda x, call=call: call(x, reference, where))(x)
        np.testing.assert_array_equal(closed, jax.jit(call)(x, reference, where))
    _, scanned = jax.lax.scan(lambda _, row: (_, gm.quantile_map(row, reference)), 0, x)
    np.testing.assert_allclose(scanned, gm.quantile_map(x, reference), rtol=1e-6)


@pytest.mark.parametrize("gradient", ["transport", "affine"])
def test_a_second_derivative_takes_the_jacobian_as_constant(rng, gradient):
    x, w = jnp.asarray(rng.normal(size=(2, 20)))

    def inner(x):
        return jax.grad(lambda x: jnp.sum(w * gm.quantile_map(x, gradient=gradient)))(x)

    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(inner(x) ** 2))(x), 0.0)


@pytest.mark.parametrize("gradient", ["straight_through", "transport", "affine"])
def test_a_second_derivative_of_what_is_made_of_the_map(rng, gradient):
    """With J as constant: of Σ q² it is 2 Jᵀ J, of Σ q x it is J + Jᵀ."""
    x = jnp.asarray(rng.normal(size=7))

    def mapped(x):
        return gm.quantile_map(x, gradient=gradient)

    jacobian = np.asarray(jax.jacrev(mapped)(x))
    for loss, expected in (
        (lambda x: jnp.sum(mapped(x) ** 2), 2.0 * jacobian.T @ jacobian),
        (lambda x: jnp.sum(mapped(x) * x), jacobian + jacobian.T),
    ):
        found = jax.jacrev(jax.grad(loss))(x)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        with pytest.raises(TypeError, match="forward-mode"):
            jax.hessian(loss)(x)


SPREAD = """
import jax, jax.numpy as jnp, numpy as np, groupmap as gm
from jax.sharding import Mesh, NamedSharding, PartitionSpec
assert len(jax.devices()) == 2
x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8)), dtype=jnp.float32)
spread = jax.device_put(x, NamedSharding(Mesh(np.array(jax.devices()), ("a",)), PartitionSpec("a")))
for target in ("uniform", jnp.sqrt, jnp.asarray([1.0, 2.0, 5.0])):
    np.testing.assert_allclose(gm.quantile_map(spread, target), gm.quantile_map(x, target), 1e-6)
targets = ["uniform", "gaussian"]
np.testing.assert_allclose(
    gm.group_map(spread, 2, target_quantiles=targets), gm.group_map(x, 2, target_quantiles=targets),
    rtol=1e-5, atol=1e-6,
)
"""


def test_arrays_that_are_spread_over_devices():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = dict(os.environ, XLA_FLAGS=flags)
    subprocess.run([sys.executable, "-c", SPREAD], check=True, env=environment)


@pytest.mark.parametrize("context", [contextlib.nullcontext, without_numpy])
def test_nan_among_many_values_are_found(rng, context):
    """On a CPU XLA leaves them out of the greatest of a thousand."""
    data = rng.normal(size=(3000, 4))
    data[rng.random(data.shape) < 0.1] = np.nan
    x = jnp.asarray(data)
    with context():
        found = gm.normalize_quantiles(x, axis=0)
        fitted = gm.EmpiricalCDF.fit(x, axis=0, n_quantiles=50)
        with pytest.raises(ValueError, match="reference"):
            gm.match_quantiles(x[:, 0], x[:, 1])
    np.testing.assert_allclose(found, gm.normalize_quantiles(data, axis=0), rtol=1e-12)
    expected = gm.EmpiricalCDF.fit(data, axis=0, n_quantiles=50)
    np.testing.assert_allclose(fitted.values, expected.values, rtol=1e-12, atol=1e-12)
