"""What training needs around the gradient: autocast, several processes, targets that learn."""

from __future__ import annotations

import os
import sys
from pathlib import Path

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


def _model():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(6, 12), gm.LayerMap(12), torch.nn.ReLU(), torch.nn.Linear(12, 3)
    ).double()


def _batch():
    return torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _one_of_two(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    grads = _gradients_of_half_the_batch(rank)
    if rank == 0:
        torch.save(grads, Path(folder) / "grads.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    # What is tested is done. Gloo's threads at times outlive their group, and then abort the
    # process on its way out.
    os._exit(0)


def _gradients_of_half_the_batch(rank):
    model = torch.nn.parallel.DistributedDataParallel(_model())
    model(_batch()[4 * rank : 4 * rank + 4]).square().mean().backward()
    return [parameter.grad.clone() for parameter in model.module.parameters()]


def test_two_processes_get_the_gradient_of_the_whole_batch(tmp_path):
    if not torch.distributed.is_available() or sys.platform == "win32":
        pytest.skip("no gloo processes here")
    torch.multiprocessing.spawn(_one_of_two, args=(str(tmp_path),), nprocs=2)
    model = _model()
    model(_batch()).square().mean().backward()
    found = torch.load(tmp_path / "grads.pt", weights_only=True)
    for parameter, grad in zip(model.parameters(), found, strict=True):
        torch.testing.assert_close(grad, parameter.grad)
