"""Networks with maps in place of their norms: of torch alone, and of transformers."""

from __future__ import annotations

import copy
import gc
from unittest.mock import Mock

import numpy as np
import pytest

import groupmap as gm

torch = pytest.importorskip("torch")
nn = torch.nn

NORMS = {
    "GroupNorm": (nn.GroupNorm(2, 4), gm.GroupMap, (3, 4, 5)),
    "GroupNorm-plain": (nn.GroupNorm(2, 4, affine=False), gm.GroupMap, (3, 4, 5)),
    "LayerNorm": (nn.LayerNorm([4, 5]), gm.LayerMap, (3, 4, 5)),
    "LayerNorm-no-bias": (nn.LayerNorm(5, bias=False, eps=1e-3), gm.LayerMap, (3, 4, 5)),
    "InstanceNorm1d": (nn.InstanceNorm1d(4), gm.InstanceMap1d, (3, 4, 5)),
    "InstanceNorm2d": (
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True), gm.InstanceMap2d, (3, 4, 5, 2)
    ),
    "InstanceNorm3d": (nn.InstanceNorm3d(4, affine=True), gm.InstanceMap3d, (3, 4, 5, 2, 2)),
    "BatchNorm1d": (nn.BatchNorm1d(4, momentum=None), gm.BatchMap1d, (9, 4)),
    "BatchNorm2d": (nn.BatchNorm2d(4, momentum=0.3), gm.BatchMap2d, (3, 4, 5, 2)),
    "BatchNorm3d": (nn.BatchNorm3d(4, affine=False), gm.BatchMap3d, (3, 4, 5, 2, 2)),
    "BatchNorm2d-untracked": (
        nn.BatchNorm2d(4, track_running_stats=False), gm.BatchMap2d, (3, 4, 5, 2)
    ),
    "SyncBatchNorm": (nn.SyncBatchNorm(4), gm.SyncBatchMap, (3, 4, 5, 2)),
}  # fmt: skip


def randomized(module, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.1)
            elif name.endswith("num_batches_tracked"):
                buffer.fill_(7)
    return module


@pytest.fixture(params=NORMS)
def norm_map_and_shape(request):
    norm, map_type, shape = NORMS[request.param]
    return randomized(copy.deepcopy(norm)), map_type, shape


def test_every_norm_and_back(norm_map_and_shape):
    norm, map_type, shape = norm_map_and_shape
    model = nn.Sequential(nn.Identity(), norm)
    before = copy.deepcopy(norm)
    converted, report = gm.nn.convert_norms(model)
    assert converted is model
    layer = model[1]
    assert type(layer) is map_type
    assert layer.weight is norm.weight
    assert layer.bias is norm.bias
    assert layer.eps == 0.0
    assert report.changed == {"1": (type(norm).__name__, map_type.__name__)}
    assert report.left == {}
    model(torch.randn(shape))  # in training: the state_dict below is another one, where tracked
    model, _ = gm.nn.convert_norms(nn.Sequential(nn.Identity(), copy.deepcopy(before)))
    back, report = gm.nn.revert_norms(model)
    assert back is model
    assert repr(model[1]) == repr(before)
    assert report.changed == {"1": (map_type.__name__, type(before).__name__)}
    for name, value in before.state_dict().items():
        torch.testing.assert_close(model[1].state_dict()[name], value)


def test_evaluation_computes_what_it_did(norm_map_and_shape):
    norm, _, shape = norm_map_and_shape
    if getattr(norm, "running_mean", None) is None:
        pytest.skip("it has no running statistics")
    model = nn.Sequential(norm.double()).eval()
    x = 3.0 * torch.randn(shape, dtype=torch.float64)
    expected = model(x)
    gm.nn.convert_norms(model, tails="linear")
    assert not model[0].training
    assert model[0].num_batches_tracked == 7
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)
    std = (norm.running_var + norm.eps).sqrt()
    percentiles = torch.from_numpy(gm.gaussian(np.linspace(0.0, 1.0, 101)))
    expected = norm.running_mean[:, None] + std[:, None] * percentiles
    torch.testing.assert_close(model[0].running_quantiles, expected)


def test_the_root_may_be_a_norm():
    layer, report = gm.nn.convert_norms(nn.LayerNorm(4))
    assert type(layer) is gm.LayerMap
    assert list(report.changed) == [""]
    assert type(gm.nn.revert_norms(layer)[0]) is nn.LayerNorm


def test_shared_modules_stay_shared():
    norm = nn.LayerNorm(4)
    model = nn.ModuleDict({"a": norm, "b": nn.Sequential(norm, nn.Linear(4, 4))})
    model["b"][1].weight = nn.Parameter(model["b"][1].weight)
    _, report = gm.nn.convert_norms(model)
    assert model["a"] is model["b"][0]
    assert list(report.changed) == ["a", "b.0"]
    gm.nn.revert_norms(model)
    assert model["a"] is model["b"][0]


def test_hooks_devices_dtypes_and_flags_stay():
    norm = nn.BatchNorm2d(3, dtype=torch.float64).eval()
    norm.weight.requires_grad_(False)
    seen = []
    handles = [
        norm.register_forward_hook(lambda *_: seen.append("forward")),
        norm.register_forward_pre_hook(lambda *_: seen.append("pre")),
        norm.register_full_backward_hook(lambda *_: seen.append("backward")),
    ]
    model, _ = gm.nn.convert_norms(nn.Sequential(norm))
    assert not model[0].training
    assert not model[0].weight.requires_grad
    assert model[0].running_quantiles.dtype == torch.float64
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    model(x).sum().backward()
    assert seen == ["pre", "forward", "backward"]
    for handle in handles:
        handle.remove()
    model(x)
    assert len(seen) == 3
    meta, _ = gm.nn.convert_norms(nn.Sequential(nn.BatchNorm2d(3, device="meta")))
    assert meta[0].running_quantiles.device.type == "meta"
    half, _ = gm.nn.convert_norms(nn.Sequential(nn.GroupNorm(1, 3)).bfloat16())
    assert half[0].weight.dtype == torch.bfloat16


def test_hooks_of_loading_are_told_the_new_module():
    told = []
    for norm in (nn.LayerNorm(4), nn.BatchNorm1d(4)):
        model = nn.Sequential(norm)
        norm.register_load_state_dict_pre_hook(lambda module, *_: told.append(type(module)))
    converters = (gm.nn.convert_norms, gm.SyncBatchMap.convert_sync_batchmap, gm.nn.revert_norms)
    for convert in converters:
        state = model.state_dict()
        convert(model)
        gc.collect()
        model.load_state_dict(state, strict=False)
        assert told.pop() is type(model[0])
    assert not told


class Marked:
    """A hook with an attribute of a name that torch's own have."""

    with_module = True

    def __call__(self, *_):
        return None


def test_hooks_of_any_kind_are_left_as_they_are():
    norm, hooks = nn.LayerNorm(4), (Mock(return_value=None), Marked())
    for hook in hooks:
        norm.register_forward_hook(hook)
    model, _ = gm.nn.convert_norms(nn.Sequential(norm))
    model(torch.randn(2, 4))
    assert hooks[0].call_count == 1
    assert tuple(model[0]._forward_hooks.values()) == hooks


def test_norms_that_do_not_count():
    norm = nn.BatchNorm1d(2)
    norm(5.0 * torch.randn(30, 2))
    norm.num_batches_tracked = None
    x, expected = torch.randn(6, 2), copy.deepcopy(norm).eval()
    model, _ = gm.nn.convert_norms(nn.Sequential(norm.eval()), tails="linear")
    torch.testing.assert_close(model(x), expected(x))
    model[0].num_batches_tracked = None
    model, _ = gm.nn.revert_norms(model)
    torch.testing.assert_close(model(x), expected(x))


def test_norms_whose_statistics_were_taken_away_use_those_of_the_batch():
    model = nn.Sequential(nn.BatchNorm2d(4))
    for kind in (gm.BatchMap2d, nn.BatchNorm2d):
        model[0].track_running_stats = False
        for name in ("running_mean", "running_var", "running_quantiles"):
            if hasattr(model[0], name):
                setattr(model[0], name, None)
        convert = gm.nn.convert_norms if kind is gm.BatchMap2d else gm.nn.revert_norms
        convert(model)
        assert type(model[0]) is kind
        assert not [name for name in model.state_dict() if "running" in name]
        x = torch.randn(6, 4, 3, 3)
        torch.testing.assert_close(model.eval()(x), model.train()(x))


def test_the_first_batch_replaces_the_start_of_a_norm_and_not_what_it_knew():
    fresh, known = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    known.running_mean.fill_(5.0)  # as checkpoints that hold no count
    for norm, expected in ((fresh, 0.0), (known, 4.5)):
        loaded = gm.BatchMap1d(1)
        loaded.load_state_dict(norm.state_dict())
        converted = gm.nn.convert_norms(nn.Sequential(norm))[0][0]
        for layer in (loaded, converted):
            layer(torch.zeros(50, 1))
            median = layer.running_quantiles[0, 50]
            torch.testing.assert_close(median, torch.tensor(expected))


class OwnNorm(nn.LayerNorm):
    """A subclass with a forward of its own."""


class FrobeniusNorm(nn.Module):
    """Not one of torch's."""


def several_norms():
    return nn.ModuleDict(
        {"own": OwnNorm(4), "rms": nn.RMSNorm(4), "lazy": nn.LazyBatchNorm1d(),
         "foreign": FrobeniusNorm(), "plain": nn.LayerNorm(4), "linear": nn.Linear(4, 4)}
    )  # fmt: skip


def test_a_parametrization_is_no_norm_of_activations():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.LayerNorm(4))
    _, report = gm.nn.convert_norms(model)
    assert list(report.changed) == ["1"]
    assert report.left == {}


def test_what_is_left_and_why():
    _, report = gm.nn.convert_norms(several_norms())
    assert list(report.changed) == ["plain"]
    assert list(report.left) == ["own", "rms", "lazy", "foreign"]
    assert "OwnNorm is a subclass; a predicate may choose it" in str(report)
    assert "RMSNorm has no map in its place" in str(report)
    assert "LazyBatchNorm1d does not know its size yet" in str(report)
    assert "plain    LayerNorm -> LayerMap" in str(report)
    model = several_norms()
    _, report = gm.nn.convert_norms(model, predicate=lambda name, module: name == "own")
    assert list(report.changed) == ["own"]
    assert report.left["plain"] == "the predicate leaves it"
    model["any"] = gm.Map(1, 4)
    _, report = gm.nn.revert_norms(model)
    assert list(report.changed) == ["own"]
    assert type(model["own"]) is nn.LayerNorm
    assert report.left == {"any": "Map has no norm of torch's in its place"}


def test_options_reach_every_layer():
    sample = torch.tensor([3.0, 1.0])
    model = nn.Sequential(nn.GroupNorm(1, 4), nn.BatchNorm1d(4), nn.LayerNorm(5))
    gm.nn.convert_norms(
        model, target_quantiles=sample, gradient="affine", ties="min", num_quantiles=11,
        positions="hazen", gradient_window=3, gradient_floor=0.5, tails="linear",
    )  # fmt: skip
    for layer in model:
        assert layer.rule.gradient.name == "affine"
        assert (layer.rule.gradient.window, layer.rule.gradient.floor) == (3, 0.5)
        assert (layer.rule.ties, layer.positions) == ("min", "hazen")
        assert torch.equal(layer.target_quantiles, sample)
    assert model[1].running_quantiles.shape == (4, 11)
    assert model[1].tails == "linear"


def test_a_module_is_copied_for_each_layer():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, p):
            return self.scale * p

    model, _ = gm.nn.convert_norms(
        nn.Sequential(nn.LayerNorm(4), nn.LayerNorm(4)), target_quantiles=Scaled()
    )
    assert model[0].target_quantiles is not model[1].target_quantiles
    assert "0.target_quantiles.scale" in model.state_dict()


def test_modules_in_a_list_are_copied_too():
    targets = [gm.nn.MonotoneQuantile(4), "uniform"]
    model = nn.Sequential(nn.GroupNorm(2, 4), nn.GroupNorm(2, 4))
    gm.nn.convert_norms(model, target_quantiles=targets)
    held = [layer.target_quantiles.target_0 for layer in model]
    assert held[0] is not held[1]
    assert targets[0] not in held


def test_a_sample_does_not_decide_what_the_norm_is_of():
    sample = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    model, _ = gm.nn.convert_norms(
        nn.Sequential(nn.BatchNorm2d(3), nn.LayerNorm(4)), target_quantiles=sample
    )
    gm.nn.revert_norms(model)
    assert model[0].running_mean.dtype == torch.float32
    model(torch.randn(2, 3, 4, 4))


def test_pruned_norms_are_left():
    from torch.nn.utils import prune

    model = nn.Sequential(nn.LayerNorm(4))
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    _, report = gm.nn.convert_norms(model)
    assert "by pruning or parametrization" in report.left["0"]


def test_maps_of_parameters_of_others_are_left_or_refused():
    from torch.nn.utils import parametrize, prune

    model = nn.Sequential(gm.GroupMap(2, 4))
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    _, report = gm.nn.revert_norms(model)
    assert "by pruning or parametrization" in report.left["0"]
    model = nn.Sequential(gm.BatchMap1d(4), gm.BatchMap1d(4))
    parametrize.register_parametrization(model[1], "weight", nn.Softplus())
    before = list(model)
    with pytest.raises(ValueError, match=r"1: the parameters of .*remove_parametrizations"):
        gm.SyncBatchMap.convert_sync_batchmap(model)
    assert list(model) == before


def test_statistics_whose_flag_was_switched_off_are_kept():
    norm = nn.BatchNorm1d(3)
    norm(5.0 * torch.randn(9, 3) + 7.0)
    norm.track_running_stats = False
    x = torch.randn(20, 3)
    expected = norm.eval()(x)
    model, _ = gm.nn.convert_norms(nn.Sequential(norm), tails="linear")
    torch.testing.assert_close(model(x), expected)
    assert not model[0].track_running_stats
    model, _ = gm.nn.revert_norms(model)
    torch.testing.assert_close(model(x), expected)
    assert not model[0].track_running_stats


def test_encoders_without_maps_stay_as_they_are():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    layer.activation_relu_or_gelu = 0
    gm.nn.convert_norms(
        nn.Sequential(layer, nn.LayerNorm(8)), predicate=lambda name, _: name == "1"
    )
    assert layer.activation_relu_or_gelu == 0


def test_a_shared_module_is_asked_for_once():
    norm, asked = nn.LayerNorm(4), []

    def first_only(name, module):
        assert module is norm
        asked.append(name)
        return name == "a"

    model = nn.ModuleDict({"a": norm, "b": norm})
    gm.nn.convert_norms(model, predicate=first_only)
    assert asked == ["a"]
    assert model["a"] is model["b"]


def test_an_error_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.LayerNorm(4), nn.BatchNorm1d(4, momentum=2.0))
    with pytest.raises(ValueError, match=r"momentum=2\.0 must be in \[0, 1\]"):
        gm.nn.convert_norms(model)
    assert type(model[0]) is nn.LayerNorm
    with pytest.raises(ValueError, match="gradient='exact'"):
        gm.nn.convert_norms(model, gradient="exact")


@pytest.mark.parametrize("activation", ["relu", "gelu", torch.nn.functional.silu])
def test_the_fused_path_of_encoders_is_for_norms(activation):
    """It would compute LayerNorm, without a call of its norms."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, activation=activation, batch_first=True).eval()
    flag = layer.activation_relu_or_gelu
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    gm.nn.convert_norms(encoder, target_quantiles="uniform")
    x = torch.randn(2, 5, 16)
    expected = encoder(x)
    with torch.no_grad():
        assert torch.equal(encoder(x), expected)
    assert 0.0 <= expected.min() < expected.max() <= 1.0
    gm.nn.revert_norms(encoder)
    assert {each.activation_relu_or_gelu for each in encoder.layers} == {flag}


# --- real architectures -------------------------------------------------------------------------


class Block(nn.Module):
    """A residual block, with GroupNorm."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.GroupNorm(4, after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.GroupNorm(4, after),
        )  # fmt: skip
        self.shortcut = nn.Sequential(
            nn.Conv2d(before, after, 1, stride, bias=False), nn.GroupNorm(4, after)
        )

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(inplace=True),
        Block(8, 8, 1), Block(8, 16, 2), Block(16, 32, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip
    return model, {"input": torch.randn(2, 3, 16, 16)}, 10, 0


def vit():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=16, patch_size=8,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config)
    return model, {"pixel_values": torch.randn(2, 3, 16, 16)}, 5, 0


def convnext():
    transformers = pytest.importorskip("transformers")
    config = transformers.ConvNextConfig(
        depths=[1, 1, 2, 1], hidden_sizes=[8, 16, 24, 32], num_stages=4
    )
    model = transformers.ConvNextForImageClassification(config)
    return model, {"pixel_values": torch.randn(2, 3, 64, 64)}, 6, 4


def gpt():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=16)
    return transformers.GPT2LMHeadModel(config), {"input_ids": torch.arange(12)[None] % 50}, 5, 0


def is_channels_last(name, module):
    """ConvNeXt's own LayerNorm permutes its input where the channels come first."""
    del name
    return getattr(module, "data_format", "channels_last") == "channels_last"


def output_of(model, inputs):
    result = model(*inputs.values()) if isinstance(model, nn.Sequential) else model(**inputs).logits
    assert torch.all(result.isfinite())
    return result


@pytest.mark.filterwarnings("ignore")  # those of transformers on its way in
@pytest.mark.parametrize("make", [resnet, vit, convnext, gpt])
def test_real_architectures(make):
    torch.manual_seed(0)
    model, inputs, n_changed, n_left = make()
    model.eval()
    state, keys = copy.deepcopy(model.state_dict()), set(model.state_dict())
    expected = output_of(model, inputs)
    model, report = gm.nn.convert_norms(model, predicate=is_channels_last)
    assert (len(report.changed), len(report.left)) == (n_changed, n_left)
    assert set(model.state_dict()) == keys
    model.load_state_dict(state)
    model.train()
    output_of(model, inputs).square().mean().backward()
    grads = [each.grad for each in model.parameters() if each.grad is not None]
    assert all(torch.all(each.isfinite()) for each in grads)
    assert sum(torch.count_nonzero(each) > 0 for each in grads) > 0.9 * len(grads)
    model, report = gm.nn.revert_norms(model.eval())
    assert len(report.changed) == n_changed
    assert torch.equal(output_of(model, inputs), expected)
