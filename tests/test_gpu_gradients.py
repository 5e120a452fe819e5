"""The gradients by the kernels for GPUs, against those by the library's operations."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import groupmap as gm
from groupmap.backends.cuda.estimating import Lent
from tests import cuda_emulation
from tests.backends import no_kernels
from tests.emulated_gpu import LIMITS
from tests.gpu_launches import (
    FLOATS,
    HALVES,
    bytes_of,
    dtype_of,
    kernels_of,
    launches,
)

pytest.importorskip("torch")
import torch

from groupmap.backends import torch_connection, torch_estimates, torch_kernels

if not cuda_emulation.AVAILABLE:
    pytest.skip("there is no g++ to compile kernels with", allow_module_level=True)

ROWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "relu": lambda rng, n: np.maximum(rng.normal(size=n), 0),
    "relu 95 %": lambda rng, n: np.maximum(rng.normal(size=n) - 1.645, 0),
    "tied": lambda rng, n: rng.normal(size=n).round(),
    "huge": lambda rng, n: 1e30 * rng.normal(size=n),
    "tiny": lambda rng, n: 1e-30 * rng.normal(size=n),
    "squares overflow": lambda rng, n: 1e200 * rng.normal(size=n),
    "squares vanish": lambda rng, n: 1e-200 * rng.normal(size=n),
    "two values": lambda rng, n: rng.choice([-1.0, 3.0], size=n),
    "constant": lambda rng, n: np.full(n, 2.0),
    "NaN": lambda rng, n: np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
    "infinite": lambda rng, n: np.where(
        rng.random(n) < 0.2, rng.choice([-np.inf, np.inf], size=n), rng.normal(size=n)
    ),
    "all of it": lambda rng, n: rng.choice([np.nan, np.inf, -np.inf, -1, 0, 0, 0.5, 1e3], size=n),
    "only NaN": lambda rng, n: np.full(n, np.nan),
}
OPTIONS = {
    "defaults": {},
    "window": {"gradient_window": 3},
    "no floor": {"gradient_floor": 0.0},
    "window and floor": {
        "gradient_window": 1, "gradient_floor": 0.25, "target_quantiles": "cauchy"
    },
    "sparse": {"target_quantiles": "sparse", "positions": "hazen", "ties": "ordinal"},
    "callable": {"target_quantiles": lambda p: torch.sin(3 * p)},
}  # fmt: skip
with_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def gradient_of(x, grad, **options):
    leaf = x.clone().requires_grad_()
    gm.quantile_map(leaf, **options).backward(grad)
    return leaf.grad


def check_gradient(x, grad, limits=LIMITS, **options):
    """Held against the library's operators; what was launched comes back."""
    with launches(limits=limits) as launched:
        found = gradient_of(x, grad, **options)
    assert "transport" in kernels_of(launched)
    assert found.dtype == x.dtype
    with no_kernels():
        expected = gradient_of(x.double(), grad.double(), **options)
    size = expected.abs().amax(dim=-1, keepdim=True)
    rounding = 0.0
    if x.dtype in (torch.float16, torch.bfloat16):
        limits_of_dtype = torch.finfo(x.dtype)
        rounding = limits_of_dtype.eps / 2 * expected.abs() + limits_of_dtype.tiny
    tolerance = 1e-12 if x.dtype == torch.float64 else 1e-6
    if callable(options.get("target_quantiles")) and x.dtype != torch.float64:
        tolerance = 1e-5  # it is called in single precision, whose differences are divided
    assert torch.all(torch.isfinite(found))
    error = (found.double() - expected).abs()
    assert torch.all(error <= tolerance * size + rounding), (error / size).nan_to_num().max()
    assert torch.all(found[(size == 0).expand(x.shape)] == 0)
    return launched


def rows_for_gradients(rng, names, n, dtype):
    x = torch.as_tensor(np.stack([ROWS[name](rng, n) for name in names])).to(dtype_of(dtype))
    return x, torch.as_tensor(rng.normal(size=x.shape)).to(x.dtype)


@with_options
@pytest.mark.parametrize("n", [1, 2, 3, 4, 40, 129, 700, 5000])
def test_gradient_in_double_precision(rng, options, n):
    x, grad = rows_for_gradients(rng, ROWS, n, "float64")
    check_gradient(x, grad, **options)
    check_gradient(x, grad, where=torch.as_tensor(rng.random(x.shape) < 0.7), **options)


@pytest.mark.parametrize(
    ("options", "dtype", "n"),
    [
        (options, dtype, (3, 129, 1500)[(i + k) % 3])  # either with all lengths
        for i, options in enumerate(OPTIONS.values())
        for k, dtype in enumerate(("float32", *HALVES))
    ],
)
def test_gradient_in_lower_precision(rng, options, dtype, n):
    x, grad = rows_for_gradients(rng, ROWS, n, dtype)
    check_gradient(x, grad, **options)
    check_gradient(x, grad, where=torch.as_tensor(rng.random(x.shape) < 0.7), **options)


@pytest.mark.parametrize(
    ("name", "dtype"), [*(("defaults", each) for each in FLOATS), ("callable", "float32")]
)
@pytest.mark.parametrize(("room", "lent"), [(40_000, Lent.ALL_BUT_SUMS), (20_000, Lent.ALL)])
def test_gradient_of_rows_beyond_shared_memory(rng, name, dtype, room, lent):
    """Few blocks take several rows each, one after the other, in memory that is lent to them."""
    x, grad = rows_for_gradients(rng, ROWS, 3000, dtype)
    launched = check_gradient(x, grad, (room, 2), **OPTIONS[name])
    (transport,) = (each for each in launched if each.kernel == "transport")
    assert dict(transport.program.names)["LENT"] == lent
    assert transport.shape.blocks < len(x)
    found = []
    for limits in (LIMITS, (room, 2)):
        with launches(limits=limits):
            found.append(bytes_of(gradient_of(x, grad, **OPTIONS[name])))
    assert found[0] == found[1]


def test_fewer_than_three_values_get_exact_zeros(rng):
    x = torch.as_tensor(rng.choice([-1.0, 3.0], size=(4, 60)))
    x[1, :9], x[2, :9], x[3, ::2] = torch.nan, torch.inf, -torch.inf
    with launches():
        assert torch.all(gradient_of(x, torch.ones_like(x)) == 0)


def second_derivative(x, v):
    leaf = x.clone().requires_grad_()
    y = gm.quantile_map(leaf) ** 3
    (first,) = torch.autograd.grad((y.nan_to_num() * v).sum(), leaf, create_graph=True)
    return torch.autograd.grad((first * v).sum(), leaf)[0]


def test_double_backward(rng):
    x, v = (torch.as_tensor(rng.normal(size=(3, 200))) for _ in range(2))
    x[1, ::9], x[2] = torch.nan, x[2].relu()
    with launches() as launched:
        found = second_derivative(x, v)
    assert [each.kernel for each in launched].count("transport") == 3
    with no_kernels():
        expected = second_derivative(x, v)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 * expected.abs().max().item())


@pytest.mark.parametrize("in_dims", [0, 1, -1])
@pytest.mark.parametrize("has_nan", [False, True])
def test_vmap_and_func_grad(rng, in_dims, has_nan):
    x = torch.as_tensor(rng.normal(size=(4, 3, 50))).movedim(0, in_dims)
    if has_nan:
        x[..., 2] = torch.nan

    def loss(x):
        return (gm.quantile_map(x, axis=0).nan_to_num() ** 2).sum()

    def outputs():
        batched = torch.vmap(torch.func.grad(loss), in_dims, in_dims)(x)
        return torch.func.grad(loss)(x), batched, torch.vmap(gm.quantile_map, in_dims, in_dims)(x)

    with launches() as launched:
        found = outputs()
    assert "transport" in kernels_of(launched)
    with no_kernels():
        expected = outputs()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12, equal_nan=True)


def test_jacobian(rng):
    x = torch.as_tensor(rng.normal(size=(2, 17)))
    with launches():
        found = torch.func.jacrev(gm.quantile_map)(x)
    with no_kernels():
        expected = torch.func.jacrev(gm.quantile_map)(x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gradient", ["affine", "straight_through"])
@pytest.mark.parametrize("masked", [False, True])
def test_other_estimates_where_entries_are_missing(rng, gradient, masked):
    x, grad = rows_for_gradients(
        rng, ("normal", "relu", "NaN", "infinite", "only NaN"), 80, "float64"
    )
    where = torch.as_tensor(rng.random(x.shape) < 0.8) if masked else None
    with launches():
        found = gradient_of(x, grad, gradient=gradient, where=where)
    with no_kernels():
        expected = gradient_of(x, grad, gradient=gradient, where=where)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_affine_gradients_of_constant_rows_are_zero(rng):
    x = torch.full((3, 80), 0.3, dtype=torch.float64)
    x[1, 7], x[2] = torch.inf, -0.1
    with launches():
        grad = torch.as_tensor(rng.normal(size=x.shape))
        found = gradient_of(x, grad, gradient="affine", ties="ordinal")
    assert not found.any()


def test_only_what_is_traced_or_transformed_meets_the_operator():
    called = torch_kernels.eager_or_traced(lambda *_: "function", lambda *_: "operator")
    x = torch.randn(2, 3)
    assert called(x, None, 1) == called(torch.nn.Parameter(x)) == "function"
    assert called(x, x.to("meta")) == "operator"
    seen = []
    torch.vmap(lambda row: seen.append(called(row)) or row)(x)
    assert seen == ["operator"]


@pytest.mark.parametrize("function", [torch_connection._Connection, torch_estimates._Symmetric])
def test_torch_finds_signatures_at_hand(function):
    """It asks for them at each call, and to make one takes as long as a launch."""
    assert inspect.signature(function.forward) is function.forward.__signature__
