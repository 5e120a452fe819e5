"""Calls that come again on an emulated GPU: as the first, by nothing but a launch."""

from __future__ import annotations

import pytest

import groupmap as gm
from groupmap import steps
from tests import cuda_emulation
from tests.emulated_gpu import emulated_gpu
from tests.gpu_launches import bytes_of, kernels_of, launches

pytest.importorskip("torch")
import torch

from groupmap.backends.cuda import steps as cuda_steps

if not cuda_emulation.AVAILABLE:
    pytest.skip("there is no g++ to compile kernels with", allow_module_level=True)

LAYERS = {
    "GroupMap": lambda **options: gm.GroupMap(2, 6, **options),
    "LayerMap": lambda **options: gm.LayerMap((6, 5), **options),
    "InstanceMap": lambda **options: gm.InstanceMap1d(6, affine=True, **options),
}


def with_random_parameters(layer):
    for each in layer.parameters():
        torch.nn.init.normal_(each)
    return layer.eval()


def steps_made():
    return steps.step_for.cache_info().misses


@torch.no_grad()
@pytest.mark.parametrize(
    ("layer", "of_x", "of_parameters", "ties"),
    [
        ("GroupMap", torch.float32, torch.float32, "average"),
        ("LayerMap", torch.bfloat16, torch.bfloat16, "average"),
        ("InstanceMap", torch.float64, torch.float32, "ordinal"),
        ("LayerMap", torch.float16, torch.float32, "min"),
    ],
    ids=str,
)
def test_a_step_does_what_is_done_otherwise(layer, of_x, of_parameters, ties):
    """As where a mask that has everything stands in its way; with parameters as they now are."""
    with launches() as launched:
        layer = with_random_parameters(LAYERS[layer](dtype=of_parameters, ties=ties))
        for _ in range(3):
            x = torch.randn(4, 6, 5).to(of_x)
            y = layer(x)
            expected = layer(x, torch.ones_like(x, dtype=torch.bool))
            assert bytes_of(y) == bytes_of(expected)
            assert (y.dtype, y.shape, y.stride()) == (of_x, x.shape, x.stride())
            with_random_parameters(layer)
        assert steps_made() == 1
    of_rows = "map_rows" if ties == "ordinal" else "map_rows_sorted"
    assert kernels_of(launched) == {"fill_table", of_rows}


@torch.no_grad()
def test_incomplete_rows_and_infinities():
    with emulated_gpu():
        x = torch.randn(3, 40)
        x[0, ::7], x[1, 3], x[1, 5], x[2] = torch.nan, torch.inf, -torch.inf, torch.nan
        y, again = gm.quantile_map(x), gm.quantile_map(x)
        expected = gm.quantile_map(x, where=torch.ones_like(x, dtype=torch.bool))
    assert bytes_of(y) == bytes_of(again) == bytes_of(expected)
    assert torch.equal(y.isnan(), x.isnan())


@pytest.mark.parametrize(
    "options",
    [{"eps": 0.1}, {"ties": "random"}, {"target_quantiles": lambda p: p},
     {"target_quantiles": torch.randn(9)}, {"where": torch.ones(3, 40, dtype=torch.bool)}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_what_depends_on_more_than_kinds_has_no_step(options, monkeypatch):
    with emulated_gpu():
        x = torch.randn(3, 40)
        asked = []
        monkeypatch.setattr(cuda_steps, "step", lambda *ask: asked.append(ask))
        gm.quantile_map(x, **options)
        assert not asked
        gm.quantile_map(x)
        assert len(asked) == 1


def test_what_learns_has_no_step():
    with emulated_gpu():
        layer, x = gm.LayerMap(40), torch.randn(3, 40)
        layer(x)
        assert steps_made() == 0
        with torch.no_grad():
            layer(x)
        assert steps_made() == 1
        layer.requires_grad_(False)
        layer(x)
        y = layer(x.requires_grad_())
        assert steps_made() == 1
        assert y.requires_grad


@torch.no_grad()
def test_what_does_not_lie_in_order_is_put_there_first():
    with emulated_gpu():
        x = torch.randn(4, 8, 5, 3)
        layer = with_random_parameters(gm.GroupMap(2, 8))
        expected = layer(x)
        made = steps_made()
        as_channels_last = x.to(memory_format=torch.channels_last)
        y = layer(as_channels_last)
        assert y.stride() == as_channels_last.stride()
        assert torch.equal(y, expected)
        assert torch.equal(layer(x[::2]), expected[::2])
        assert torch.equal(
            gm.quantile_map(x, axis=1), gm.quantile_map(x.movedim(1, -1)).movedim(-1, 1)
        )
        assert steps_made() > made


@torch.no_grad()
def test_bool_integers_and_empty_arrays():
    with emulated_gpu():
        assert gm.LayerMap(3)(torch.zeros(0, 3)).shape == (0, 3)
        with pytest.raises(TypeError, match="has no distribution"):
            gm.quantile_map(torch.zeros(3, dtype=torch.bool))
        for dtype in (torch.float32, torch.float64):
            torch.set_default_dtype(dtype)
            try:
                assert gm.quantile_map(torch.arange(5)).dtype == dtype
            finally:
                torch.set_default_dtype(torch.float32)
