"""y·weight + bias and its gradients on an emulated GPU, against torch's operations."""

from __future__ import annotations

import pytest

import groupmap as gm
from groupmap.pipeline import scaled
from tests import cuda_emulation
from tests.backends import no_kernels
from tests.emulated_gpu import emulated_gpu
from tests.gpu_launches import kernels_of, launches

pytest.importorskip("torch")
import array_api_compat.torch as xp
import torch

from groupmap.backends.cuda import scaling
from groupmap.backends.torch import OPS

if not cuda_emulation.AVAILABLE:
    pytest.skip("there is no g++ to compile kernels with", allow_module_level=True)

SHAPES = {
    "each entry": ((90, 40), (40,)),
    "many columns": ((3, 2, 600), (600,)),
    "two axes": ((70, 5, 8), (5, 8)),
    "channels": ((6, 8, 7, 5), (8, 1, 1)),
    "long channels": ((2, 3, 70, 90), (3, 1, 1)),
    "one for all": ((7, 9), (1, 1)),
}
DTYPES = {
    "float32": (torch.float32, torch.float32, torch.float32),
    "bfloat16": (torch.float32, torch.bfloat16, torch.bfloat16),
    "float16": (torch.float32, torch.float32, torch.float16),
    "float64": (torch.float64, torch.float32, torch.float64),
}
DEVIATION = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-7}


def leaf(shape, dtype, *, learns=True):
    return torch.randn(shape).to(dtype).requires_grad_(learns)


def outcome(arrays, dtype, grad):
    y, weight, bias = arrays
    result = scaled(y, weight, bias, dtype, xp, OPS).to(dtype)
    wanted = [each for each in arrays if each is not None and each.requires_grad]
    return result.detach(), torch.autograd.grad(result, wanted, grad)


@pytest.fixture(autouse=True)
def several_parts(monkeypatch):
    """Sums of several parts each."""
    monkeypatch.setattr(scaling, "LEAST_ROWS", 8)
    monkeypatch.setattr(scaling, "MOST_OF_WARP", 1000)
    monkeypatch.setattr(scaling, "ENTRIES_OF_BLOCK", 1500)


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    ("dtypes", "learning"),
    [*((each, "all") for each in DTYPES), ("float32", "weight alone"), ("float32", "y alone"),
     ("bfloat16", "bias alone")],
)  # fmt: skip
def test_as_by_torch(shapes, dtypes, learning):
    of_y, of_parameters, dtype = DTYPES[dtypes]
    y = leaf(shapes[0], of_y, learns=learning in ("all", "y alone"))
    weight = leaf(shapes[1], of_parameters, learns=learning in ("all", "weight alone"))
    bias = leaf(shapes[1], of_parameters, learns=learning not in ("weight alone", "y alone"))
    arrays = (y, weight, None if learning == "weight alone" else bias)
    y.data.view(-1)[::11] = torch.nan
    grad = torch.randn(shapes[0]).to(dtype)
    with launches() as launched:
        found, gradients = outcome(arrays, dtype, grad)
        again = outcome(arrays, dtype, grad)
    with no_kernels():
        without_nan = torch.where(y.isnan(), 0.0, grad)  # as torch leaves out, if weights learn
        expected, expected_gradients = outcome(arrays, dtype, without_nan)
    assert len(kernels_of(launched)) == 2
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    for one, same, other in zip(gradients, again[1], expected_gradients, strict=True):
        assert torch.equal(one, same)
        scale = other.abs().max().item() or 1.0
        deviation = DEVIATION[torch.bfloat16 if dtypes == "bfloat16" else one.dtype]
        torch.testing.assert_close(one, other, rtol=0, atol=scale * deviation)


def test_second_derivatives():
    """By torch's operations, which can be differentiated again."""
    y, weight, bias = leaf((5, 6), torch.float64), leaf(6, torch.float64), leaf(6, torch.float64)

    def apply(*arrays):
        return scaled(*arrays, torch.float64, xp, OPS)

    with emulated_gpu():
        assert torch.autograd.gradcheck(apply, (y, weight, bias))
        assert torch.autograd.gradgradcheck(apply, (y, weight, bias))


@pytest.mark.parametrize(
    ("y", "weight"),
    [(torch.randn(3, 4, 5).mT, torch.randn(4)), (torch.randn(3, 4), torch.randn(4).double()),
     (torch.randn(3, 4, 5), torch.randn(3, 1, 5)), (torch.randn(3, 4).half(),) * 2],
    ids=["strided", "wider", "apart", "half"],
)  # fmt: skip
def test_what_kernels_do_not_know_is_a_matter_of_torch(y, weight):
    with emulated_gpu():
        weight.requires_grad_()
        assert OPS.scale_learning(y, weight, None, y.dtype) is None
        expected = y * weight
        assert torch.equal(scaled(y, weight, None, y.dtype, xp, OPS), expected)


def test_a_training_step_is_a_handful_of_launches():
    """The tables, the map, its scale, and both ways back."""
    layer, x = gm.LayerMap(40, dtype=torch.bfloat16), leaf((8, 40), torch.bfloat16)
    grad = torch.randint(-4, 5, (8, 40)).bfloat16()
    with launches() as launched:
        layer(x).backward(grad)
    assert kernels_of(launched) == {
        "fill_table", "map_rows", "scale_learning", "unscale_columns", "transport"
    }  # fmt: skip
    assert x.grad.any()
    assert layer.weight.grad.any()
    assert torch.equal(layer.bias.grad, grad.sum(0))
