"""The estimates of the gradient, held against their formulas as dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import groupmap as gm
from groupmap.gradients import GRADIENTS

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("with_and_without_kernels")

ROWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "tied": lambda rng, n: rng.normal(size=n).round(),
    "lognormal": lambda rng, n: np.exp(2 * rng.normal(size=n)),
    "cauchy": lambda rng, n: rng.standard_cauchy(size=n),
    "relu 50 %": lambda rng, n: np.maximum(rng.normal(size=n), 0),
    "relu 95 %": lambda rng, n: np.maximum(rng.normal(size=n) - 1.645, 0),
    "huge": lambda rng, n: 1e30 * rng.normal(size=n),
    "tiny": lambda rng, n: 1e-30 * rng.normal(size=n),
    "far from zero": lambda rng, n: 1e4 + rng.normal(size=n),
}


def jacobian(x, **options):
    x = torch.as_tensor(x)
    return torch.func.jacrev(lambda x: gm.quantile_map(x, **options))(x).numpy()


def vjp(x, grad, **options):
    x = torch.as_tensor(x).clone().requires_grad_()
    gm.quantile_map(x, **options).backward(torch.as_tensor(grad))
    return x.grad.numpy()


def transport_matrix(x, window=None, floor=1.0):
    """J = B Aᵀ T′ A B as docs/method.md and the estimate's docstring define it."""
    n = len(x)
    order = np.argsort(x, kind="stable")
    ascending = x[order] / (np.abs(x).max() or 1)
    m = gm.gaussian((np.arange(n) + 0.5) / n)
    w = max(1, round(np.sqrt(n))) if window is None else window
    i = np.arange(n)
    a, b = np.maximum(i - w, 0), np.minimum(i + w, n - 1)
    centred = ascending - ascending.mean()
    quantiles = np.quantile(ascending, [0.16, 0.84])
    spread = max((quantiles[1] - quantiles[0]) / 2, np.abs(centred).mean() / 4)
    run = np.maximum(ascending[b] - ascending[a], floor * (b - a) / n * spread)
    slope = np.divide(m[b] - m[a], run, out=np.zeros(n), where=run > 0)
    if len(np.unique(x)) < 3:
        slope[:] = 0
    k = np.minimum(w, np.minimum(i, n - 1 - i))
    smooth = (np.abs(i[:, None] - i) <= k[:, None]) / (2 * k[:, None] + 1)
    affine = np.stack([np.ones(n), centred / (np.abs(centred).max() or 1)], axis=1)
    project = affine @ np.linalg.pinv(affine)
    A = (np.eye(n) - smooth) @ (np.eye(n) - project)
    B = (ascending[:, None] == ascending).astype(float)
    B /= B.sum(axis=1, keepdims=True)
    J = np.zeros((n, n))
    J[np.ix_(order, order)] = B @ A.T @ np.diag(slope) @ A @ B
    return J / (np.abs(x).max() or 1)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 17, 64, 301])
@pytest.mark.parametrize("options", [{}, {"gradient_window": 3, "gradient_floor": 0.1}], ids=str)
def test_transport_is_its_formula(rng, name, n, options):
    x = ROWS[name](rng, n)
    expected = transport_matrix(
        x, options.get("gradient_window"), options.get("gradient_floor", 1.0)
    )
    size = np.abs(expected).max()
    # What is far from zero loses digits when it is centred, in the matrix as well.
    tolerance = 1e-6 if name == "far from zero" else 1e-10
    np.testing.assert_allclose(jacobian(x, **options), expected, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 40, 200])
def test_identities(rng, name, n):
    x = ROWS[name](rng, n)
    J = jacobian(x)
    size = np.abs(J).max() or 1.0
    assert np.all(np.isfinite(J))
    assert np.abs(J - J.T).max() <= 1e-12 * size
    assert np.abs(J.sum(axis=1)).max() <= 1e-12 * n * size
    assert np.abs(J @ x).max() <= 1e-12 * n * size * np.abs(x).max()
    assert np.linalg.eigvalsh((J + J.T) / 2).min() >= -1e-12 * n * size
    order = rng.permutation(n)
    permuted = jacobian(x[order])
    assert np.abs(permuted - J[np.ix_(order, order)]).max() <= 1e-12 * size
    if len(np.unique(x)) < 3:
        assert np.all(J == 0)


@pytest.mark.parametrize("n", [1000, 5000])
@pytest.mark.parametrize("name", ROWS)
def test_identities_of_long_rows(rng, name, n):
    x, g, h = ROWS[name](rng, n), rng.normal(size=n), rng.normal(size=n)
    Jg, Jh = vjp(x, g), vjp(x, h)
    size = np.linalg.norm(Jg) * np.linalg.norm(h)
    assert np.all(np.isfinite(Jg))
    assert abs(h @ Jg - g @ Jh) <= 1e-12 * size
    assert g @ Jg >= 0
    assert abs(Jg.sum()) <= 1e-12 * np.abs(Jg).sum()
    assert np.abs(vjp(x, np.ones(n))).max() <= 1e-12 * np.abs(Jg).max() * n
    values, first = np.unique(x, return_inverse=True)
    one_each = np.zeros(len(values))
    one_each[first] = Jg
    np.testing.assert_array_equal(Jg, one_each[first])  # equal inputs, equal gradients


@pytest.mark.parametrize("name", ["normal", "tied", "relu 50 %"])
@pytest.mark.parametrize("gradient", ["transport", "affine"])
def test_scale_and_shift(rng, name, gradient):
    x, g = ROWS[name](rng, 500), rng.normal(size=500)
    plain = vjp(x, g, gradient=gradient)
    np.testing.assert_array_equal(8 * vjp(8 * x, g, gradient=gradient), plain)
    moved = 7 * vjp(7 * x + 3 * np.abs(x).max(), g, gradient=gradient)
    np.testing.assert_allclose(moved, plain, rtol=0, atol=1e-9 * np.abs(plain).max())


@pytest.mark.parametrize("zeros", [0.5, 0.8, 0.95])
def test_sparse_rows_do_not_blow_up(rng, zeros):
    for _ in range(5):
        x = np.maximum(rng.normal(size=400) - stats.norm.ppf(zeros), 0)
        assert np.linalg.norm(jacobian(x), 2) * x.std() <= 5


def test_a_vanishing_quantile_range_does_not_blow_up(rng):
    x = np.concatenate([np.full(335, 0.0), np.full(8, 1e-9), np.abs(rng.normal(size=57)) + 0.1])
    assert np.quantile(x, 0.84) < 1e-8
    assert np.linalg.norm(jacobian(x), 2) * x.std() <= 5


@pytest.mark.parametrize("gradient", ["transport", "affine"])
def test_missing_masked_and_infinite_entries_get_nothing_and_change_nothing(rng, gradient):
    x, g = rng.normal(size=60).round(1), rng.normal(size=60)
    plain = vjp(x, g, gradient=gradient)
    order = rng.permutation(64)
    holed = np.concatenate([x, [np.nan, np.inf, -np.inf, np.nan]])[order]
    seeds = np.concatenate([g, rng.normal(size=4)])[order]
    found = np.empty(64)
    # ±inf take part in the map, and so move Q at the others; affine sees that in y.
    found[order] = vjp(holed, seeds, gradient=gradient)
    assert np.all(found[60:] == 0)
    if gradient == "transport":
        np.testing.assert_allclose(found[:60], plain, rtol=0, atol=1e-12 * np.abs(plain).max())
    marked = np.concatenate([x, rng.normal(size=4)])[order]
    where = torch.as_tensor((np.arange(64) < 60)[order])
    found[order] = vjp(marked, seeds, gradient=gradient, where=where)
    assert np.all(found[60:] == 0)
    np.testing.assert_allclose(found[:60], plain, rtol=0, atol=1e-12 * np.abs(plain).max())


def test_rows_do_not_see_each_other(rng):
    x, g = rng.normal(size=(3, 50)), rng.normal(size=(3, 50))
    x[1, 4], x[2, :2] = np.nan, np.inf
    together = vjp(x, g)
    for row in range(3):
        alone = vjp(x[row], g[row])
        np.testing.assert_allclose(together[row], alone, atol=1e-13 * np.abs(alone).max())


@pytest.mark.parametrize("n", [3, 10, 333])
def test_affine_is_layer_norm(rng, n):
    y = gm.gaussian((rng.permutation(n) + 0.5) / n)
    x = 3.0 * y + 2.0
    g = rng.normal(size=n)
    normed = torch.as_tensor(x).requires_grad_()
    torch.nn.functional.layer_norm(normed, (n,), eps=0.0).backward(torch.as_tensor(g))
    found = vjp(x, g, gradient="affine", positions="hazen")
    np.testing.assert_allclose(found, y.std() * normed.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "distribution",
    [
        stats.norm(),
        stats.lognorm(1.0),
        stats.t(3),
        "mixture",
    ],
    ids=["normal", "lognormal", "t(3)", "mixture"],
)
def test_the_population(rng, distribution):
    """On the central 90 %, against T′(x)(v − E v) for a velocity that is independent of x."""
    n = 4096
    if distribution == "mixture":
        x = rng.choice([-2.0, 2.0], size=n) + 0.5 * rng.normal(size=n)
        pdf = (stats.norm(-2, 0.5).pdf(x) + stats.norm(2, 0.5).pdf(x)) / 2
        p = (stats.norm(-2, 0.5).cdf(x) + stats.norm(2, 0.5).cdf(x)) / 2
    else:
        x = distribution.rvs(size=n, random_state=rng)
        pdf, p = distribution.pdf(x), distribution.cdf(x)
    v = rng.normal(size=n)
    exact = pdf / stats.norm.pdf(stats.norm.ppf(p)) * v
    found = vjp(x, v)  # J is symmetric
    central = (p > 0.05) & (p < 0.95)
    slope = found[central] @ exact[central] / (exact[central] @ exact[central])
    error = np.linalg.norm(found[central] - exact[central]) / np.linalg.norm(exact[central])
    assert 0.85 <= slope <= 1.15
    assert error <= 0.2


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_lower_precisions(rng, gradient, dtype):
    x = torch.as_tensor(rng.normal(size=(2, 100))).to(dtype).requires_grad_()
    y = gm.quantile_map(x, gradient=gradient)
    if gradient is None:
        assert not y.requires_grad
        return
    g = torch.as_tensor(rng.normal(size=(2, 100))).to(dtype)
    y.backward(g)
    assert x.grad.dtype == dtype
    exact = vjp(x.detach().double(), g.double(), gradient=gradient)
    tolerance = 40 * torch.finfo(dtype).eps * np.abs(exact).max()
    np.testing.assert_allclose(x.grad.double().numpy(), exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("gradient", ["transport", "affine"])
def test_second_derivatives_take_the_estimate_as_constant(rng, gradient):
    x = torch.as_tensor(rng.normal(size=20)).requires_grad_()
    v = torch.as_tensor(rng.normal(size=20))

    def f(x):
        return (gm.quantile_map(x, gradient=gradient) ** 3 * v).sum()

    (grad,) = torch.autograd.grad(f(x), x, create_graph=True)
    (second,) = torch.autograd.grad(grad @ v, x)
    J = torch.as_tensor(jacobian(x.detach(), gradient=gradient))
    y = gm.quantile_map(x.detach())
    expected = J.T @ (6 * y * v * (J @ v))
    torch.testing.assert_close(second, expected)


@pytest.mark.parametrize("gradient", ["transport", "affine"])
def test_checkpointing_and_vmap(rng, gradient):
    from torch.utils.checkpoint import checkpoint

    x = torch.as_tensor(rng.normal(size=(4, 30)))

    def f(x):
        return (gm.quantile_map(x, gradient=gradient) ** 2).sum()

    expected = torch.func.grad(f)(x)
    torch.testing.assert_close(torch.vmap(torch.func.grad(f))(x), expected)
    again = x.clone().requires_grad_()
    checkpoint(f, again, use_reentrant=False).backward()
    torch.testing.assert_close(again.grad, expected)


@pytest.mark.parametrize(
    ("gradient", "backend"),
    [("transport", "aot_eager"), ("affine", "aot_eager"), ("transport", "inductor")],
)
def test_compiled(rng, gradient, backend):
    torch._dynamo.reset()
    layer = gm.GroupMap(2, 4, gradient=gradient)
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    data = torch.as_tensor(rng.normal(size=(3, 4, 9)), dtype=torch.float32)
    grads = []
    for module in (layer, compiled):
        x = data.clone().requires_grad_()
        (module(x) ** 2).sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gradient", ["transport", "affine", "straight_through"])
def test_forward_mode_raises_and_gives_no_silent_zeros(rng, gradient):
    x = torch.as_tensor(rng.normal(size=9))
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.func.jvp(lambda x: gm.quantile_map(x, gradient=gradient), (x,), (torch.ones_like(x),))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises((RuntimeError, NotImplementedError)):
            gm.quantile_map(dual, gradient=gradient)


def test_the_noisy_point_is_differentiated(rng):
    x = torch.as_tensor(rng.normal(size=40))
    g = torch.as_tensor(rng.normal(size=40))
    noise = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = vjp(x, g, eps=0.3, rng=5)
    np.testing.assert_allclose(found, vjp(x + 0.3 * noise, g))


def test_default_layers_train_what_is_before_them():
    torch.manual_seed(0)
    for layer in (gm.GroupMap(2, 4), gm.LayerMap(6), gm.InstanceMap1d(4), gm.Map(2, 4)):
        x = torch.randn(3, 4, 6, requires_grad=True)
        (layer(x) ** 3).sum().backward()
        assert x.grad.abs().max() > 0


@pytest.mark.parametrize("n", [12, 700, 20_000])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("gradient", [each for each in GRADIENTS if each is not None])
def test_columns_have_the_gradient_of_rows(gradient, dtype, n):
    """And x's layout, in which the layer before wants it."""
    x = torch.randn(n, 21, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[:, 3:9] = x[:, 3:9].clamp(min=0)
    grad = torch.randn_like(x)

    def mapped(x, grad, dim):
        x = x.clone().requires_grad_()
        y = gm.quantile_map(x, "gaussian", axis=dim, gradient=gradient)
        y.backward(grad)
        assert x.grad.stride() == y.stride() == x.stride()
        return y, x.grad

    y, found = mapped(x, grad, 0)
    y_of_rows, expected = mapped(x.T.contiguous(), grad.T.contiguous(), 1)
    assert torch.equal(y, y_of_rows.T)
    torch.testing.assert_close(found, expected.T)  # torch adds up columns in another order
