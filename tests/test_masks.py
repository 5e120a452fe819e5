"""Masks: a padded batch gives each sample exactly what it gets alone."""

from __future__ import annotations

import pytest

import groupmap as gm

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("with_and_without_kernels")

LENGTHS = (7, 1, 12, 0)
# Channels first, so that the lengths are those of the last axis.
LAYERS = {
    "GroupMap": lambda **k: gm.GroupMap(2, 6, **k),
    "Map": lambda **k: gm.Map(3, 6, **k),
    "InstanceMap": lambda **k: gm.InstanceMap(6, affine=True, **k),
    "InstanceMap1d": lambda **k: gm.InstanceMap1d(6, affine=True, **k),
}
BATCHED = {
    "BatchMap1d": lambda **k: gm.BatchMap1d(6, **k),
    "InstanceMap-tracking": lambda **k: gm.InstanceMap1d(6, track_running_stats=True, **k),
}


def generator():
    return torch.Generator().manual_seed(3)


def randomize(layer):
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator()))
    return layer


@pytest.fixture
def padded():
    x = torch.randn(len(LENGTHS), 6, max(LENGTHS), generator=generator())
    x[0, 2, :5] = 0.5  # ties
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None, None]  # (N, 1, L)
    return torch.where(mask, x, torch.nan), mask


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_each_sample_gets_what_it_gets_alone(name, dtype, padded):
    layer = randomize(LAYERS[name]()).to(dtype)
    x, mask = padded[0].to(dtype).requires_grad_(), padded[1]
    y = layer(x, where=mask)
    assert torch.equal(torch.where(mask, 0, y), torch.zeros_like(y))
    y.sum().backward()
    weight_grad = None if not list(layer.parameters()) else layer.weight.grad.clone()
    alone_grad = 0
    for i, length in enumerate(LENGTHS):
        alone = x.detach()[i : i + 1, :, :length].clone().requires_grad_()
        layer.zero_grad()
        expected = layer(alone)
        assert torch.equal(y[i : i + 1, :, :length], expected)
        expected.sum().backward()
        close = {"rtol": 1e-3, "atol": 1e-4} if dtype != torch.float64 else {}
        close = {"rtol": 0.05, "atol": 0.05} if dtype == torch.bfloat16 else close
        torch.testing.assert_close(x.grad[i : i + 1, :, :length], alone.grad, **close)
        if weight_grad is not None:
            alone_grad = alone_grad + layer.weight.grad
    assert torch.all(torch.where(mask, 0, x.grad) == 0)
    if weight_grad is not None:
        assert torch.all(weight_grad.isfinite())
        torch.testing.assert_close(weight_grad, alone_grad, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("gradient", ["transport", "affine"])
def test_samples_of_one_length_get_what_they_get_when_they_are_cut(gradient):
    whole = torch.randn(5, 6, 13, generator=generator(), dtype=torch.float64).requires_grad_()
    cut = whole.detach()[..., :9].clone().requires_grad_()
    mask = (torch.arange(13) < 9).expand(5, 1, 13)
    layer = randomize(gm.GroupMap(2, 6, gradient=gradient).double())
    y, expected = layer(whole, where=mask), layer(cut)
    torch.testing.assert_close(y[..., :9], expected)
    grad = torch.randn(expected.shape, generator=generator(), dtype=torch.float64)
    y[..., :9].backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(whole.grad[..., :9], cut.grad)
    assert not whole.grad[..., 9:].any()


def test_tokens_of_a_layer_map():
    layer = randomize(gm.LayerMap(5))
    x = torch.randn(3, 4, 5, generator=generator())
    tokens = torch.tensor([4, 2, 0])[:, None] > torch.arange(4)
    y = layer(x, where=tokens[..., None])
    torch.testing.assert_close(y, torch.where(tokens[..., None], layer(x), 0.0), rtol=0, atol=0)
    features = torch.tensor([True, True, False, True, True])
    some = layer(x, where=features)
    expected = gm.layer_map(x[..., features], 4, layer.weight[features], layer.bias[features])
    assert torch.equal(some[..., features], expected)
    assert torch.all(some[..., 2] == 0)


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("training", [True, False])
def test_batches_count_what_is_valid(name, training, padded):
    x, mask = padded[0].requires_grad_(), padded[1]
    layer = randomize(BATCHED[name](momentum=1.0))
    if not training:
        layer(torch.randn(8, 6, 50, generator=generator()))
        layer.eval()
    y = layer(x, where=mask)
    assert torch.all(torch.where(mask, 0, y) == 0)
    y.square().sum().backward()
    assert torch.all(x.grad.isfinite())
    assert torch.all(torch.where(mask, 0, x.grad) == 0)
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    if name == "BatchMap1d":
        valid = torch.cat([x.detach()[i, :, :n] for i, n in enumerate(LENGTHS)], dim=-1)
        twin = randomize(BATCHED[name](momentum=1.0)).train(training)
        if not training:
            twin.load_state_dict(layer.state_dict())
        alone = twin(valid[None])[0]
        found = torch.cat([y[i, :, :n] for i, n in enumerate(LENGTHS)], dim=-1)
        assert torch.equal(found, alone)
        assert torch.equal(layer.running_quantiles, twin.running_quantiles)


def test_wrong_masks():
    x = torch.randn(2, 6, 5)
    for make in (*LAYERS.values(), *BATCHED.values()):
        layer = make()
        assert torch.equal(layer(x, where=torch.ones(5, dtype=torch.bool)), layer(x))
        with pytest.raises(TypeError, match=r"where has dtype torch\.float32; it must be bool"):
            layer(x, where=torch.ones(5))
        with pytest.raises(TypeError, match=r"pass torch\.as_tensor\(where\)|Pass torch"):
            layer(x, where=[True] * 5)
        with pytest.raises(ValueError, match=r"where has shape \(4,\)"):
            layer(x, where=torch.ones(4, dtype=torch.bool))


def test_a_wrong_mask_leaves_running_statistics_alone():
    layer = gm.BatchMap1d(6)
    before = layer.running_quantiles.clone()
    with pytest.raises(TypeError, match="must be bool"):
        layer(torch.randn(2, 6, 5), where=torch.ones(5))
    assert layer.num_batches_tracked == 0
    assert torch.equal(layer.running_quantiles, before)


def test_masks_compile(padded):
    torch._dynamo.reset()
    x, mask = padded
    for make in (LAYERS["GroupMap"], BATCHED["BatchMap1d"]):
        layer = randomize(make())
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x, where=mask), layer(x, where=mask))


def test_masked_values_under_vmap(padded):
    x, mask = padded
    layer = randomize(LAYERS["GroupMap"]())
    stacked = torch.stack([x, 2 - x])
    found = torch.vmap(lambda x: layer(x, where=mask))(stacked)
    assert torch.equal(found, torch.stack([layer(each, where=mask) for each in stacked]))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_jagged_tensors_where_layer_norm_takes_them():
    parts = [torch.randn(3, 4), torch.randn(5, 4), torch.randn(0, 4)]
    jagged = torch.nested.nested_tensor(parts, layout=torch.jagged, requires_grad=True)
    layer = randomize(gm.LayerMap(4))
    y = layer(jagged)
    for found, part in zip(y.unbind(), parts, strict=True):
        assert torch.equal(found, layer(part))
    y.values().sum().backward()
    calls = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    layer(jagged)
    layer(torch.nested.nested_tensor(parts[:2]))
    assert len(calls) == 2
    assert jagged.grad is not None
    with pytest.raises(NotImplementedError, match="only the axes behind the ragged one"):
        gm.GroupMap(2, 4)(jagged)
    with pytest.raises(NotImplementedError, match="where"):
        layer(jagged, where=torch.ones(4, dtype=torch.bool))
