"""What training needs around the gradient: autocast, targets that learn, fitted cdfs."""

from __future__ import annotations

import pytest

import groupmap as gm

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


def test_autocast_trains():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), gm.GroupMap(2, 8), torch.nn.ReLU())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(torch.randn(4, 1, 8, 8))
        assert y.dtype == torch.bfloat16
        loss = y.float().square().mean()
    loss.backward()
    for parameter in model.parameters():
        assert parameter.grad.dtype == torch.float32
        assert torch.all(torch.isfinite(parameter.grad))
    assert model[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("gradient", ["transport", "affine", "straight_through", None])
def test_a_learnable_target_is_differentiated_exactly(gradient):
    x = torch.randn(3, 11, dtype=torch.float64)

    def f(scale, shift):
        return gm.quantile_map(x, lambda p: torch.sinh(scale * p) + shift, gradient=gradient)

    scale, shift = (torch.rand(1, dtype=torch.float64, requires_grad=True) for _ in "ab")
    assert torch.autograd.gradcheck(f, (scale, shift))


def test_a_fitted_cdf_is_differentiated_exactly():
    fitted = gm.EmpiricalCDF.fit(torch.randn(50, dtype=torch.float64))
    between_knots = (fitted.values[5:40] + fitted.values[6:41]) / 2
    assert torch.autograd.gradcheck(fitted.cdf, between_knots.clone().requires_grad_())
    p = torch.rand(20, dtype=torch.float64) * 0.9 + 0.05
    assert torch.autograd.gradcheck(fitted.ppf, p.requires_grad_())
