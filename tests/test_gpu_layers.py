"""Layers on an emulated GPU."""

from __future__ import annotations

import pytest

import groupmap as gm
from tests import cuda_emulation
from tests.backends import no_kernels
from tests.emulated_gpu import LIMITS
from tests.gpu_launches import (
    NO_ROOM,
    bytes_of,
    dtype_of,
    kernels_of,
    launches,
)

pytest.importorskip("torch")
import torch

if not cuda_emulation.AVAILABLE:
    pytest.skip("there is no g++ to compile kernels with", allow_module_level=True)

LAYERS = {
    "GroupMap": lambda: gm.GroupMap(2, 6),
    "LayerMap": lambda: gm.LayerMap((6, 5, 4)),
    "LayerMap of rows": lambda: gm.LayerMap(4, bias=False),
    "InstanceMap": lambda: gm.InstanceMap2d(6, affine=True),
    "GroupMap with noise": lambda: gm.GroupMap(3, 6, eps=0.1, target_quantiles="uniform"),
}
DEVIATION = {torch.float32: 1e-5, torch.bfloat16: 2**-7}
with_layers = pytest.mark.parametrize("name", LAYERS)
with_formats = pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels_last"]
)


def layer_and_input(rng, name, dtype, memory_format, has_nan):
    x = torch.as_tensor(rng.normal(size=(3, 6, 5, 4))).to(dtype).to(memory_format=memory_format)
    if has_nan:
        x[0, 2, 1] = torch.nan
    layer = LAYERS[name]().to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.as_tensor(rng.normal(size=parameter.shape)))
    return layer, x


@with_layers
@with_formats
@pytest.mark.parametrize("dtype", DEVIATION, ids=str)
@pytest.mark.parametrize("has_nan", [False, True])
def test_layers(rng, name, dtype, memory_format, has_nan):
    layer, data = layer_and_input(rng, name, dtype, memory_format, has_nan)
    grad = torch.as_tensor(rng.normal(size=data.shape)).to(dtype)
    found = []
    for context in (launches, no_kernels):
        layer.zero_grad()
        torch.manual_seed(0)
        x = data.clone(memory_format=torch.preserve_format).requires_grad_()
        with context():
            y = layer(x)
            y.backward(grad)
        assert y.is_contiguous(memory_format=memory_format)
        found.append((y, x.grad, *(parameter.grad for parameter in layer.parameters())))
    close = {"rtol": DEVIATION[dtype], "atol": DEVIATION[dtype], "equal_nan": True}
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **close)


@with_layers
@pytest.mark.parametrize(
    ("dtype", "limits", "memory_format"),
    [
        (torch.float16, LIMITS, torch.contiguous_format),
        (torch.bfloat16, LIMITS, torch.channels_last),
        (torch.float32, LIMITS, torch.contiguous_format),
        (torch.float64, LIMITS, torch.channels_last),
        (torch.bfloat16, NO_ROOM, torch.contiguous_format),
        (torch.float32, NO_ROOM, torch.channels_last),
    ],
)
def test_scaling_in_the_same_launch_changes_no_bit(rng, name, dtype, memory_format, limits):
    layer, x = layer_and_input(rng, name, dtype, memory_format, has_nan=True)
    found = []
    with launches(limits=limits):
        for learns in (True, False):
            torch.manual_seed(0)
            with torch.set_grad_enabled(learns):
                found.append(layer(x).detach())
    torch.testing.assert_close(*found, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("gradient", ["transport", "affine"])
@pytest.mark.parametrize("dtype", DEVIATION, ids=str)
def test_running_quantiles(rng, gradient, dtype):
    """By the order, where the kernels have found it, in which what is missing comes last."""
    x = torch.as_tensor(rng.normal(size=(9, 5, 8))).to(dtype)
    x[0, 1], x[2, 3, :2], x[4, 3, 5] = torch.nan, -torch.inf, torch.inf
    x[:, 4] = torch.tensor([-torch.inf, torch.inf, torch.nan] * 3).to(dtype)[:, None]
    learned = []
    for context in (launches, no_kernels):
        layer = gm.BatchMap(5, gradient=gradient)
        with context():
            layer(x.clone().requires_grad_())
        learned.append(layer.running_quantiles)
    torch.testing.assert_close(*learned, rtol=0, atol=0)


def test_scaling_keys_that_are_counted(rng):
    x = torch.as_tensor(rng.normal(size=(2, 4, 50, 50))).half()
    weight, bias = (torch.as_tensor(rng.normal(size=4)).float() for _ in "wb")
    with launches() as launched:
        found = gm.group_map(x, 2, weight, bias)
        apart = gm.group_map(x, 2, weight.clone().requires_grad_(), bias)
    assert "map_rows_of_16_bits" in kernels_of(launched)
    assert bytes_of(found) == bytes_of(apart)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_that_do_not_fit_get_the_same_bits_in_global_memory(rng, dtype):
    x = torch.as_tensor(rng.normal(size=(3, 20_000))).to(dtype_of(dtype))
    x[1], x[2, ::9] = x[1].relu(), torch.nan
    grad = torch.as_tensor(rng.normal(size=x.shape)).to(x.dtype)
    found, kernels = [], []
    for limits in (LIMITS, (48 * 1024, 2)):
        leaf = x.clone().requires_grad_()
        with launches(limits=limits) as launched:
            y = gm.quantile_map(leaf)
            y.backward(grad)
            found.append([bytes_of(each) for each in (y, gm.quantile_map(x), leaf.grad)])
        kernels.append(kernels_of(launched))
    assert found[0] == found[1]
    assert "map_rows" in kernels[0]
    assert "rank_segments" not in kernels[0]
    assert "rank_segments" in kernels[1]
    assert "map_rows" not in kernels[1]
    with no_kernels():
        expected = gm.quantile_map(x)
    eps = torch.finfo(x.dtype).eps
    torch.testing.assert_close(y, expected, rtol=4 * eps, atol=1e-7, equal_nan=True)


def test_arrays_on_two_devices_are_refused():
    layer = gm.GroupMap(2, 4).to("meta")
    with launches(), torch.no_grad(), pytest.raises(RuntimeError, match="on the same device"):
        layer(torch.randn(2, 4, 9))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_numbers_of_8_bits(rng, dtype):
    x = torch.as_tensor(rng.integers(0, 120, (3, 700))).to(dtype)
    with launches() as launched:
        found = gm.quantile_map(x)
    assert "map_rows_of_16_bits" in kernels_of(launched)
    torch.testing.assert_close(found, gm.quantile_map(x), rtol=1e-6, atol=1e-6)


def test_a_window_wider_than_any_row(rng):
    x, grad = torch.as_tensor(rng.normal(size=(2, 3, 50)))
    found = []
    for window in (10**12, 50):
        leaf = x.clone().requires_grad_()
        with launches():
            gm.quantile_map(leaf, gradient_window=window).backward(grad)
        found.append(leaf.grad)
    assert torch.equal(*found)
