"""The torch layers beside torch's norms: parameters, checkpoints, errors, devices, dtypes."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import numpy as np
import pytest

import groupmap as gm
from tests import oracle

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("with_and_without_kernels")
nn = torch.nn

# The layer, the norm that it replaces (with eps, which is not the same thing), an input.
CASES = {
    "GroupMap": (partial(gm.GroupMap, 4, 8), partial(nn.GroupNorm, 4, 8), (2, 8, 5, 3)),
    "LayerMap": (partial(gm.LayerMap, (5, 3)), partial(nn.LayerNorm, (5, 3)), (2, 8, 5, 3)),
    "LayerMap-int": (partial(gm.LayerMap, 3), partial(nn.LayerNorm, 3), (2, 8, 5, 3)),
    "InstanceMap": (
        partial(gm.InstanceMap, 8, affine=True),
        partial(nn.InstanceNorm2d, 8, affine=True),
        (2, 8, 5, 3),
    ),
    "InstanceMap1d": (
        partial(gm.InstanceMap1d, 8, affine=True),
        partial(nn.InstanceNorm1d, 8, affine=True),
        (2, 8, 5),
    ),
    "InstanceMap2d": (
        partial(gm.InstanceMap2d, 8, affine=True),
        partial(nn.InstanceNorm2d, 8, affine=True),
        (2, 8, 5, 3),
    ),
    "InstanceMap3d": (
        partial(gm.InstanceMap3d, 8, affine=True),
        partial(nn.InstanceNorm3d, 8, affine=True),
        (2, 8, 5, 3, 2),
    ),
}  # fmt: skip
MAP = (partial(gm.Map, 4, 8), None, (2, 8, 5, 3))


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(params=[*CASES, "Map"])
def layer_and_input(request):
    make, _, shape = {**CASES, "Map": MAP}[request.param]
    return make(), torch.randn(shape, generator=torch.Generator().manual_seed(1))


def randomize(layer):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layer


# --- parameters and checkpoints -----------------------------------------------------------------


def test_checkpoints_of_the_norm_load_strictly(case):
    make, norm, _ = case
    source = randomize(norm())
    layer = make()
    layer.load_state_dict(source.state_dict(), strict=True)
    for name, value in source.state_dict().items():
        assert torch.equal(layer.state_dict()[name], value)
    source.load_state_dict(layer.state_dict(), strict=True)


def test_checkpoints_of_0_1_load(case):
    make, _, _ = case
    source = randomize(make())
    old = {f"affine.{name}": value for name, value in source.state_dict().items()}
    layer = make()
    layer.load_state_dict(old, strict=True)
    assert torch.equal(layer.weight, source.weight)
    assert torch.equal(layer.bias, source.bias)
    nested = nn.Sequential(make())
    nested.load_state_dict({f"0.{name}": value for name, value in old.items()}, strict=True)
    assert torch.equal(nested[0].weight, source.weight)


def test_wrong_checkpoints_are_named(case):
    make, _, _ = case
    state = make().state_dict()
    layer = make()
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*bias"):
        layer.load_state_dict({"weight": state["weight"]})
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\).*scale"):
        layer.load_state_dict({**state, "scale": state["weight"]})
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\).*affine\.weight"):
        layer.load_state_dict({**state, "affine.weight": state["weight"]})
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        layer.load_state_dict({**state, "weight": torch.ones(99)})


def test_saved_and_loaded(layer_and_input, tmp_path):
    layer, x = layer_and_input
    randomize(layer)
    path = tmp_path / "layer.pt"
    torch.save(layer.state_dict(), path)
    state = torch.load(path, weights_only=True)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(twin) == repr(layer)
        assert torch.equal(twin(x), layer(x))
        twin.load_state_dict(state)
        assert torch.equal(twin(x), layer(x))


def test_bias_and_affine(case):
    make, _, shape = case
    without = make(bias=False)
    assert without.bias is None
    assert list(without.state_dict()) == ["weight"]
    assert without(torch.randn(shape)).shape == shape
    assert gm.GroupMap(2, 4, affine=False).weight is None
    assert gm.LayerMap(4, elementwise_affine=False).weight is None
    assert gm.InstanceMap(4).weight is None
    assert not list(gm.Map(2, 4).parameters())


def test_defaults_are_those_of_0_1():
    assert gm.GroupMap(2, 4).eps == gm.LayerMap(4).eps == gm.InstanceMap(4).eps == 0.0
    positional = gm.GroupMap(2, 4, 0.0, True, gm.uniform)
    assert positional.target_quantiles == gm.uniform
    assert gm.LayerMap(4, 0.0, True, gm.uniform).target_quantiles == gm.uniform
    positional = gm.InstanceMap(4, 0.0, 0.1, False, False, gm.uniform)
    assert positional.target_quantiles == gm.uniform
    assert gm.Map(2, 4, gm.uniform).target_quantiles == gm.uniform


def test_factory_arguments(case):
    make, _, _ = case
    layer = make(dtype=torch.float64)
    assert layer.weight.dtype == layer.bias.dtype == torch.float64
    meta = make(device="meta")
    assert meta.weight.device.type == "meta"
    meta.to_empty(device="cpu")
    meta.reset_parameters()
    assert torch.equal(meta.weight, torch.ones_like(meta.weight))
    assert torch.equal(meta.bias, torch.zeros_like(meta.bias))


def test_meta_device_infers_shapes(layer_and_input):
    layer, x = layer_and_input
    y = layer.to("meta")(x.to("meta"))
    assert y.shape == x.shape
    assert y.device.type == "meta"


def test_repr_says_what_it_is():
    assert repr(gm.GroupMap(2, 4)) == (
        "GroupMap(2, 4, affine=True, eps=0.0, target_quantiles=Gaussian(clamp=1e-05), "
        f"gradient={gm.GroupMap(2, 4).rule.gradient.name!r})"
    )
    assert "ties='ordinal'" in repr(gm.Map(2, 4, ties="ordinal", positions="hazen"))
    assert "positions='hazen'" in repr(gm.Map(2, 4, ties="ordinal", positions="hazen"))
    assert "sample of 3" in repr(gm.LayerMap(4, target_quantiles=torch.arange(3.0)))


# --- the forward pass ---------------------------------------------------------------------------


def test_forward_is_the_function(rng):
    x = torch.from_numpy(rng.normal(size=(2, 8, 5, 3)))
    layer = randomize(gm.GroupMap(4, 8, dtype=torch.float64))
    expected = gm.group_map(x, 4, layer.weight, layer.bias)
    assert torch.equal(layer(x), expected)
    assert torch.equal(gm.LayerMap(3)(x), gm.layer_map(x, 3))
    assert torch.equal(gm.InstanceMap2d(8)(x), gm.instance_map(x))
    assert torch.equal(gm.Map(4, 8)(x), gm.group_map(x, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(layer_and_input, dtype):
    layer, x = layer_and_input
    randomize(layer).to(dtype)
    x = x.to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    exact = copy.deepcopy(layer).double()(x.double())
    # Half a unit in the last place, and what float32 adds to it before the one rounding.
    step = exact.abs().clamp_min(2**-14) * torch.finfo(dtype).eps
    assert torch.all((y.double() - exact).abs() <= 0.502 * step)


def test_full_precision_parameters_on_half_input(case):
    make, _, shape = case
    assert make()(torch.randn(shape).bfloat16()).dtype == torch.bfloat16


def test_autocast(layer_and_input):
    layer, x = layer_and_input
    model = nn.Sequential(nn.Identity(), layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
        assert torch.equal(y, layer(x))
        assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert y.dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 8, 5, 3), (1, 8, 5, 3), (2, 8, 1, 1), (2, 8, 4, 5, 3)])
def test_channels_last_stays(shape):
    memory_format = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    x = torch.randn(shape).contiguous(memory_format=memory_format)
    for layer in (gm.GroupMap(4, 8), gm.InstanceMap(8), gm.Map(2, 8), gm.LayerMap(shape[2:])):
        y = layer(x)
        assert y.is_contiguous(memory_format=memory_format)
        assert torch.equal(y, layer(x.contiguous()))


def test_strided_inputs(layer_and_input):
    layer, x = layer_and_input
    wide = torch.randn(*x.shape[:-1], 2 * x.shape[-1])
    wide[..., ::2] = x
    assert torch.equal(layer(wide[..., ::2]), layer(x))
    assert torch.equal(layer(x.mT.contiguous().mT), layer(x))


@pytest.mark.parametrize("shape", [(0, 8, 5, 3), (2, 8, 0, 3)])
def test_empty_inputs_and_their_backward(shape):
    for layer in (
        gm.GroupMap(4, 8, gradient="straight_through"),
        gm.InstanceMap2d(8, affine=True, gradient="straight_through"),
        gm.LayerMap(3, gradient="straight_through"),
    ):
        x = torch.empty(shape, requires_grad=True)
        y = layer(x)
        assert y.shape == shape
        y.sum().backward()
        assert x.grad.shape == shape
        assert torch.equal(layer.weight.grad, torch.zeros_like(layer.weight))


def test_no_channels():
    assert gm.GroupMap(1, 0)(torch.empty(2, 0, 3)).shape == (2, 0, 3)


def test_instance_maps_take_inputs_without_a_batch():
    for layer, shape in (
        (gm.InstanceMap1d(3), (3, 7)),
        (gm.InstanceMap2d(3), (3, 7, 5)),
        (gm.InstanceMap3d(3), (3, 7, 5, 2)),
    ):
        x = torch.randn(shape)
        assert torch.equal(layer(x), layer(x[None])[0])


def test_missing_values_are_kept_in_place(layer_and_input):
    layer, x = layer_and_input
    x = x.clone()
    x.view(-1)[::7] = torch.nan
    assert torch.equal(layer(x).isnan(), x.isnan())


def test_noise_is_there_in_training_and_evaluation():
    x = torch.randn(2, 4, 6)
    layer = gm.GroupMap(2, 4, eps=0.5)
    for training in (True, False):
        layer.train(training)
        torch.manual_seed(3)
        one = layer(x)
        torch.manual_seed(3)
        assert torch.equal(layer(x), one)
        assert not torch.equal(layer(x), one)


def test_random_ties_need_no_argument():
    x = torch.zeros(2, 4, 50)
    torch.manual_seed(3)
    y = gm.InstanceMap1d(4, ties="random", target_quantiles="uniform")(x)
    torch.testing.assert_close(y.sort(-1).values, torch.linspace(0, 1, 50).expand(2, 4, 50))


# --- targets ------------------------------------------------------------------------------------


def test_torch_distributions():
    x = torch.tensor([[3.0, 1.0, 2.0]])
    y = gm.quantile_map(x, torch.distributions.Normal(1.0, 2.0))
    expected = 1.0 + 2.0 * gm.quantile_map(x)
    torch.testing.assert_close(y, expected)
    y = gm.quantile_map(x, torch.distributions.Uniform(-1.0, 3.0))
    torch.testing.assert_close(y, torch.tensor([[3.0, -1.0, 1.0]]))
    with pytest.raises(TypeError, match="has no icdf in torch"):
        gm.quantile_map(x, torch.distributions.Gamma(1.0, 1.0))
    with pytest.raises(TypeError, match="maps torch tensors only"):
        gm.quantile_map(x.numpy(), torch.distributions.Normal(0.0, 1.0))
    two = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match="is 2 distributions at once; give one"):
        gm.quantile_map(x, two)


def test_scipy_distributions():
    from scipy import stats

    x = torch.randn(3, 50)
    expected = oracle.map_rows(x.numpy(), stats.gamma(2.0).ppf, positions="hazen")
    y = gm.LayerMap(50, target_quantiles=stats.gamma(2.0), positions="hazen")(x)
    np.testing.assert_allclose(y.detach().numpy(), expected.astype(np.float32), rtol=1e-6)


class Learnable(nn.Module):
    """Q(p) = scale·p + shift."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.shift = nn.Linear(1, 1)

    def forward(self, p):
        return self.scale * p + self.shift(p[..., None])[..., 0]


@pytest.mark.parametrize("missing", [False, True])
def test_a_learnable_target_gets_its_gradient(missing):
    layer = gm.GroupMap(2, 4, target_quantiles=Learnable())
    assert {name for name, _ in layer.named_parameters()} >= {"target_quantiles.scale"}
    x = torch.randn(3, 4, 5)
    if missing:
        x[0, 0, 0] = torch.nan
    y = layer(x)
    y.nan_to_num().sum().backward()
    u = gm.group_map(x, 2, target_quantiles="uniform").nan_to_num()
    torch.testing.assert_close(layer.target_quantiles.scale.grad, u.sum())
    assert layer.target_quantiles.shift.weight.grad is not None
    assert "target_quantiles.scale" in layer.state_dict()


def test_a_reference_sample_moves_with_the_layer():
    reference = torch.tensor([30.0, 10.0, 20.0])
    layer = gm.LayerMap(3, target_quantiles=reference)
    torch.testing.assert_close(layer(torch.tensor([[3.0, 1.0, 2.0]])), reference[None])
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert layer.to("meta").target_quantiles.device.type == "meta"
    layer = gm.LayerMap(3, target_quantiles=reference.numpy())
    torch.testing.assert_close(layer(torch.tensor([[3.0, 1.0, 2.0]])), reference[None])


def test_references_of_tensors_get_gradients_and_keep_great_numbers():
    x = torch.randn(3, 50)
    sample = torch.randn(20).requires_grad_()

    def matched(sample):
        return gm.quantile_map(x, sample).square().sum()

    expected = torch.func.grad(matched)(sample.detach())
    matched(sample).backward()
    torch.testing.assert_close(sample.grad, expected)
    reference = torch.randn(3, 20, requires_grad=True)
    gm.match_quantiles(x, reference, axis=-1).sum().backward()
    assert torch.count_nonzero(reference.grad) > 20
    for dtype in (torch.bfloat16, torch.float16):
        great = torch.tensor([torch.finfo(dtype).max, -1.0, torch.finfo(dtype).min]).to(dtype)
        assert torch.equal(gm.match_quantiles(x[0, :3], great, axis=None).sort().values,
                           great.float().sort().values)  # fmt: skip
        fitted = gm.EmpiricalCDF.fit(great)
        assert torch.equal(fitted.values, great.double().sort().values)


def test_targets_a_group():
    sample = torch.tensor([30.0, 10.0, 20.0])
    learnable = Learnable()
    layer = gm.GroupMap(3, 6, target_quantiles=["uniform", learnable, sample])
    assert "sample of 3]" in repr(layer)
    assert "target_quantiles.target_1.scale" in dict(layer.named_parameters())
    x = torch.randn(2, 6, 5)
    y = layer(x)
    for g, target in enumerate(("uniform", learnable, sample)):
        own = slice(2 * g, 2 * g + 2)
        assert torch.equal(y[:, own], gm.group_map(x[:, own], 1, target_quantiles=target))
    y.sum().backward()
    assert layer.target_quantiles.target_1.scale.grad > 0
    assert layer.to("meta").target_quantiles.target_2.device.type == "meta"
    pickle.loads(pickle.dumps(layer))
    with pytest.raises(ValueError, match="a sequence of 2 targets for 3 groups"):
        gm.Map(3, 6, ["uniform", "gaussian"])
    with pytest.raises(ValueError, match="a sequence of 1 targets for 4 channels"):
        gm.InstanceMap(4, target_quantiles=["uniform"])
    with pytest.raises(TypeError, match="groups of a LayerMap are as many"):
        gm.LayerMap(4, target_quantiles=["uniform"])
    with pytest.raises(TypeError, match="a sequence in a sequence"):
        gm.Map(1, 1, [["uniform"]])


def test_missing_values_do_not_spoil_the_gradient_of_the_scale(case):
    make, _, shape = case
    layer, x = make(), torch.randn(shape)
    x.view(-1)[::7] = torch.nan
    layer(x).nansum().backward()
    found = layer.weight.grad.clone()
    layer.zero_grad()
    layer(x, where=~x.isnan()).sum().backward()
    torch.testing.assert_close(found, layer.weight.grad)


def test_missing_values_do_not_spoil_the_gradient_of_the_bias(case):
    """Nor where it alone learns."""
    make, _, shape = case
    layer, x = make(), torch.randn(shape)
    x.view(-1)[::7] = torch.nan
    found = []
    for weight_learns in (True, False):
        layer.weight.requires_grad_(weight_learns)
        layer.zero_grad()
        layer(x).square().nansum().backward()
        found.append(layer.bias.grad.clone())
    torch.testing.assert_close(*found)
    assert not found[0].isnan().any()


INDIVISIBLE = r"num_channels \(10\) must be divisible by num_groups \(3\)"


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: gm.GroupMap(3, 10), ValueError, INDIVISIBLE),
        (lambda: gm.Map(3, 10), ValueError, INDIVISIBLE),
        (lambda: gm.GroupMap(0, 10), ValueError, "num_groups=0"),
        (lambda: gm.GroupMap(-2, 10), ValueError, "num_groups=-2"),
        (lambda: gm.GroupMap(2.5, 10), TypeError, "num_groups=2.5"),
        (lambda: gm.GroupMap(2, "8"), TypeError, "num_channels='8' must be an integer"),
        (lambda: gm.BatchMap2d(-1), ValueError, "num_features=-1 must be an integer ≥ 0"),
        (lambda: gm.InstanceMap2d(3.0), TypeError, r"num_features=3\.0 must be an integer"),
        (lambda: gm.LayerMap(()), ValueError, "at least one axis"),
        (lambda: gm.LayerMap(2.5), TypeError, "normalized_shape=2.5"),
        (lambda: gm.GroupMap(2, 4, 0.0, True, "cuda"), TypeError, "device=.*target_quantiles="),
        (lambda: gm.GroupMap(2, 4, 0.0, True, torch.device("cpu")), TypeError, "is a device"),
        (lambda: gm.GroupMap(2, 4, eps=-1.0), ValueError, "eps=-1.0"),
        (lambda: gm.GroupMap(2, 4, target_quantiles="norm"), ValueError, "'norm' is not known"),
        (lambda: gm.GroupMap(2, 4, ties="first"), ValueError, "ties='first'"),
        (lambda: gm.GroupMap(2, 4, gradient="exact"), ValueError, "gradient='exact'"),
        (lambda: gm.GroupMap(2, 4, target_quantiles=torch.ones(2, 2)), ValueError, "is 1-D"),
        (lambda: gm.Map(1, 1, torch.tensor([1.0, torch.nan])), ValueError, "holds NaN"),
        (lambda: gm.Map(1, 1, torch.empty(0)), ValueError, "is empty"),
        (lambda: gm.Map(1, 1, torch.tensor([True])), TypeError, "bool"),
        (lambda: gm.BatchMap2d(4, momentum=2.0), ValueError, r"momentum=2\.0 must be in \[0, 1\]"),
        (lambda: gm.BatchMap2d(4, momentum="0.1"), TypeError, "momentum='0.1'"),
        (lambda: gm.InstanceMap(4, num_quantiles=1), ValueError, "num_quantiles=1 .* ≥ 2"),
        (lambda: gm.BatchMap2d(4, tails="cut"), ValueError, "tails='cut' is not known"),
        (lambda: gm.SyncBatchMap(4, num_knots=9, ties="min"), ValueError, "num_knots=9 with ties"),
    ],
)  # fmt: skip
def test_constructors_check(make, error, text):
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize(
    "make", [lambda: gm.GroupMap(2, 4), lambda: gm.BatchMap(4), lambda: gm.BatchMap(4).eval()]
)
def test_tensors_that_no_map_can_take(make):
    layer, x = make(), torch.randn(2, 4, 5)
    with pytest.raises(
        TypeError, match=r"input has dtype torch\.float8.*input\.to\(torch\.bfloat16"
    ):
        layer(x.to(torch.float8_e4m3fn))
    with pytest.raises(TypeError, match=r"input has layout torch\.sparse.*input\.to_dense"):
        layer(x.to_sparse())


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_samples_keep_their_numbers_where_memory_is_made_anew(device):
    sample = torch.tensor([1.0, 2.0, 9.0])
    for target in (sample, [sample, sample + 1.0]):
        layer = gm.GroupMap(2, 4, target_quantiles=target, device=device)
        twin, x = gm.GroupMap(2, 4, target_quantiles=target), torch.randn(3, 4, 5)
        nn.Sequential(layer).to_empty(device="cpu")
        layer.load_state_dict(twin.state_dict())
        assert torch.equal(layer(x), twin(x))
    layer = gm.Map(1, 1, sample)
    before = layer.target_quantiles
    layer._apply(torch.clone)
    assert layer.target_quantiles.data_ptr() != before.data_ptr()
    assert torch.equal(layer.half().target_quantiles, sample.half())


@pytest.mark.parametrize("affine", [True, False])
def test_wrong_inputs_raise_what_the_norms_raise(affine):
    norm, x = nn.GroupNorm(2, 4), torch.randn(2, 6, 3)
    with pytest.raises(RuntimeError) as theirs:
        norm(x)
    with pytest.raises(RuntimeError) as ours:
        gm.GroupMap(2, 4, affine=affine)(x)
    assert str(ours.value) == str(theirs.value)

    with pytest.raises(RuntimeError) as theirs:
        nn.LayerNorm([4, 3], elementwise_affine=affine)(x)
    with pytest.raises(RuntimeError) as ours:
        gm.LayerMap([4, 3], elementwise_affine=affine)(x)
    assert str(ours.value) == str(theirs.value)

    with pytest.raises(ValueError, match="expected input's size at dim=1") as theirs:
        nn.InstanceNorm1d(4, affine=True)(x)
    with pytest.raises(ValueError, match="expected input's size at dim=1") as ours:
        gm.InstanceMap1d(4, affine=affine)(x)
    assert str(ours.value) == str(theirs.value)

    with pytest.raises(ValueError, match="expected 2D or 3D") as theirs:
        nn.InstanceNorm1d(4)(torch.randn(1, 4, 2, 2))
    with pytest.raises(ValueError, match="expected 2D or 3D") as ours:
        gm.InstanceMap1d(4, affine=affine)(torch.randn(1, 4, 2, 2))
    assert str(ours.value) == str(theirs.value)


def test_too_few_dimensions():
    with pytest.raises(RuntimeError, match="at least 2 dimensions"):
        gm.GroupMap(1, 4)(torch.randn(4))


def test_input_of_another_library():
    for layer in (gm.GroupMap(2, 4), gm.LayerMap(3), gm.InstanceMap1d(4), gm.Map(2, 4)):
        with pytest.raises(TypeError, match="input is of type ndarray; layers map torch tensors"):
            layer(np.ones((2, 4, 3)))
        with pytest.raises(TypeError, match="input is of type list"):
            layer([[1.0]])


def test_bool_input():
    with pytest.raises(TypeError, match="bool"):
        gm.LayerMap(3)(torch.ones(2, 3, dtype=torch.bool))


PARTS = {
    "eps": 0.5, "positions": "hazen", "ties": "ordinal", "gradient": "affine", "gradient_window": 3,
    "gradient_floor": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_the_rule_can_be_set(name):
    """As torch's norms have it of their eps; what cannot be leaves the layer as it was."""
    layer, made_so = gm.GroupMap(2, 4), gm.GroupMap(2, 4, **{name: PARTS[name]})
    setattr(layer, name, PARTS[name])
    assert repr(layer) == repr(made_so)
    assert getattr(layer, name) == PARTS[name]
    x, found = torch.randn(3, 4, 20).round(decimals=1), []
    for each in (layer, made_so):
        torch.manual_seed(0)
        leaf = x.clone().requires_grad_()
        y = each(leaf)
        y.square().sum().backward()
        found.append((y, leaf.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    with pytest.raises((ValueError, TypeError), match=name):
        setattr(layer, name, "nothing")
    assert repr(layer) == repr(made_so)


def test_what_belongs_elsewhere_is_said_so():
    with pytest.raises(TypeError, match=r"is a bool; .* by keyword: bias=False"):
        gm.LayerMap(8, 1e-5, True, False)
    with pytest.raises(ValueError, match=r"where has shape \(5,\).* of input"):
        gm.GroupMap(2, 4)(torch.ones(2, 4, 3), torch.ones(5, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"layout torch\._mkldnn; pass input\.to_dense"):
        gm.GroupMap(2, 4)(torch.ones(2, 4, 3).to_mkldnn())


def test_tensors_of_several_processes_that_are_refused():
    from torch.distributed import HashStore, destroy_process_group, init_process_group
    from torch.distributed.tensor import (
        Shard,
        distribute_module,
        distribute_tensor,
        init_device_mesh,
    )

    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        x = distribute_tensor(torch.randn(2, 4, 6), mesh, [Shard(0)])
        by_channels = distribute_tensor(torch.randn(2, 4, 6), mesh, [Shard(1)])
        track, draw = {"track_running_stats": True}, {"eps": 0.1}
        for layer, given, error, text in (
            (gm.BatchMap1d(4), x, TypeError, r"input is a DTensor.* map input\.to_local\(\)"),
            (gm.InstanceMap1d(4, **track), x, TypeError, r"map input\.to_local\(\)"),
            (gm.GroupMap(2, 4), by_channels, ValueError, r"axes \[1, 2\] .*input\.redistribute"),
            (gm.GroupMap(2, 4, **draw), x, NotImplementedError, "eps=0.1"),
            (gm.InstanceMap1d(4, **draw), x, NotImplementedError, "eps=0.1"),
        ):
            with pytest.raises(error, match=text):
                distribute_module(layer, mesh)(given)
        with pytest.raises(TypeError, match="weight is not; distribute the layer"):
            gm.LayerMap(6)(x)
        with pytest.raises(TypeError, match="x is a DTensor"):
            gm.quantile_map(x)
    finally:
        destroy_process_group()


def test_numpy_samples_keep_their_numbers_whatever_the_default_device_is():
    sample = np.linspace(1.0, 2.0, 50)
    with torch.device("meta"):
        layer = gm.GroupMap(2, 4, target_quantiles=sample)
        learning = gm.nn.MonotoneQuantile(8, sample)
    layer.to_empty(device="cpu").reset_parameters()
    np.testing.assert_array_equal(layer.target_quantiles, sample)
    np.testing.assert_array_equal(learning.start, sample)


def test_numpy_samples_go_where_parameters_go():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), torch.device("cuda"):
        layer = gm.Map(2, 4, np.linspace(1.0, 2.0, 50))
    assert layer.target_quantiles.device.type == "cuda"
