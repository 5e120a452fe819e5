"""MonotoneQuantile: a target that learns, stays increasing, and starts as any other."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import groupmap as gm

torch = pytest.importorskip("torch")
from groupmap.nn import MonotoneQuantile  # noqa: E402 (after the check that torch is there)


def perturbed(target, seed=3):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (target.slopes, target.shift):
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return target


@pytest.mark.parametrize("start", ["gaussian", "uniform", "cauchy", "laplace", "sparse"])
@pytest.mark.parametrize("num_knots", [2, 3, 16])
def test_it_starts_as_its_target(start, num_knots):
    target = MonotoneQuantile(num_knots, target_quantiles=start, dtype=torch.float64)
    p = torch.linspace(0.0, 1.0, 501, dtype=torch.float64)
    expected = getattr(gm, start)(p)
    torch.testing.assert_close(target(p), expected, rtol=1e-9, atol=1e-9)
    x = torch.randn(3, 4, 50, dtype=torch.float64)
    found = gm.group_map(x, 2, target_quantiles=target)
    torch.testing.assert_close(found, gm.group_map(x, 2, target_quantiles=start))


def test_it_starts_as_a_sample_or_a_distribution():
    from scipy import stats

    sample = torch.tensor([1.0, 5.0, 2.0, 30.0])
    target = MonotoneQuantile(4, target_quantiles=sample)
    torch.testing.assert_close(target(torch.linspace(0, 1, 4)), sample.sort().values)
    target = MonotoneQuantile(4, target_quantiles=stats.gamma(2.0), dtype=torch.float64)
    p = np.linspace(0.0, 0.99, 20)
    expected = stats.gamma(2.0).ppf(np.clip(p, 1e-5, 1 - 1e-5))
    np.testing.assert_allclose(target(torch.from_numpy(p)).detach(), expected, rtol=1e-9)


def test_it_is_what_the_formula_says():
    target = perturbed(MonotoneQuantile(6, target_quantiles="gaussian", dtype=torch.float64))
    knots = gm.gaussian(np.linspace(0.0, 1.0, 6))
    slopes = np.log1p(np.exp(target.slopes.detach().numpy()))
    heights = np.concatenate([[0.0], np.cumsum(slopes * np.diff(knots))])
    heights += target.shift.item() - heights[3]
    p = np.random.default_rng(1).random((4, 25))
    expected = np.interp(gm.gaussian(p), knots, heights)
    found = target(torch.from_numpy(p)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    order = np.argsort(p.ravel())
    assert np.all(np.diff(found.ravel()[order]) > 0)


def test_its_gradient_is_exact():
    target = perturbed(MonotoneQuantile(5, dtype=torch.float64))
    p = torch.rand(30, dtype=torch.float64)

    def f(slopes, shift):
        return torch.func.functional_call(target, {"slopes": slopes, "shift": shift}, (p,))

    parameters = [each.detach().clone().requires_grad_() for each in (target.slopes, target.shift)]
    assert torch.autograd.gradcheck(f, parameters)


def test_it_learns_the_distribution_that_is_wanted():
    """By least squares between sorted samples: the quadratic Wasserstein distance."""
    torch.manual_seed(0)
    wanted = torch.distributions.Gamma(2.0, 1.0).sample((4000,)).sort().values
    target = MonotoneQuantile(16)
    layer = gm.LayerMap(4000, target_quantiles=target, elementwise_affine=False)
    optimizer = torch.optim.Adam(target.parameters(), lr=0.05)
    x = torch.randn(1, 4000)
    losses = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = (layer(x).sort().values[0] - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.0
    assert losses[-1] < 0.02
    found = layer(x).detach()
    assert abs(found.mean() - 2.0) < 0.1
    assert torch.equal(found.argsort(), x.argsort())  # increasing all the while


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtypes_and_devices(dtype):
    target = MonotoneQuantile(4, dtype=dtype)
    layer = gm.GroupMap(2, 4, target_quantiles=target, dtype=dtype)
    x = torch.randn(2, 4, 9).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    y.float().square().sum().backward()
    assert target.slopes.grad.abs().max() > 0
    assert layer.to("meta").target_quantiles.knots.device.type == "meta"
    layer.to_empty(device="cpu")
    layer.target_quantiles.reset_parameters()
    p = torch.linspace(0.0, 1.0, 9)
    torch.testing.assert_close(layer.target_quantiles(p), MonotoneQuantile(4, dtype=dtype)(p))


def test_checkpoints_compile_and_export():
    layer = gm.BatchMap1d(3, target_quantiles=perturbed(MonotoneQuantile(5)))
    assert "MonotoneQuantile(5, target_quantiles=Gaussian(clamp=1e-05))" in repr(layer)
    other = gm.BatchMap1d(3, target_quantiles=MonotoneQuantile(5))
    other.load_state_dict(layer.state_dict())
    x = torch.randn(20, 3)
    assert torch.equal(other(x), copy.deepcopy(layer)(x))
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-6)
    layer.eval()
    program = torch.export.export(layer, (x,))
    torch.testing.assert_close(program.module()(x), layer(x))


def test_a_target_a_group():
    targets = [MonotoneQuantile(5), MonotoneQuantile(5, target_quantiles="uniform")]
    layer = gm.GroupMap(2, 4, target_quantiles=targets)
    layer(torch.randn(3, 4, 7)).square().sum().backward()
    assert all(each.slopes.grad.abs().max() > 0 for each in targets)
    assert len(list(layer.parameters())) == 6


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: MonotoneQuantile(1), ValueError, "num_knots=1 must be an integer ≥ 2"),
        (lambda: MonotoneQuantile(2.5), TypeError, "num_knots=2.5"),
        (lambda: MonotoneQuantile(4, "norm"), ValueError, "'norm' is not known"),
        (lambda: MonotoneQuantile(4, "cuda"), TypeError, "is a device"),
        (lambda: MonotoneQuantile(4, ["uniform"]), TypeError, "one MonotoneQuantile a group"),
        (lambda: MonotoneQuantile(4, lambda p: -p), ValueError, "must be finite and increasing"),
        (lambda: MonotoneQuantile(4, torch.ones(3)), ValueError, "must be finite and increasing"),
    ],
)
def test_arguments_are_checked(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_sample_goes_where_the_parameters_go():
    sample = torch.tensor([1.0, 5.0, 2.0])
    target = MonotoneQuantile(3, sample, device="cpu").to("meta")
    assert target.start.device.type == "meta"
    assert MonotoneQuantile(3, sample, device="meta").start.device.type == "cpu"


def test_it_comes_back_from_a_checkpoint_by_way_of_meta():
    sample = torch.tensor([1.0, 5.0, 2.0])
    for start in ("gaussian", sample):
        layer = gm.LayerMap(5, target_quantiles=perturbed(MonotoneQuantile(3, start)))
        with torch.device("meta"):
            other = gm.LayerMap(5, target_quantiles=MonotoneQuantile(3, start))
        other.to_empty(device="cpu").load_state_dict(layer.state_dict())
        x = torch.randn(4, 5)
        assert torch.equal(other(x), layer(x))


def test_samples_are_copied():
    for sample in (np.array([0.0, 1.0, 5.0]), torch.tensor([0.0, 1.0, 5.0])):
        kept = 1.0 * np.asarray(sample)
        one, other = MonotoneQuantile(3, sample), MonotoneQuantile(3, sample)
        one.load_state_dict(MonotoneQuantile(3, 100 * sample).state_dict())
        np.testing.assert_array_equal(sample, kept)
        assert not torch.equal(one.start, other.start)
    given = np.arange(3.0)[::-1]
    given.flags.writeable = False
    x = torch.randn(2, 4, 3)
    expected = gm.GroupMap(2, 4, target_quantiles=np.arange(3.0))(x)
    assert torch.equal(gm.GroupMap(2, 4, target_quantiles=given)(x), expected)


def test_in_a_module_around_it_probabilities_are_as_wide_as_without():
    class Doubled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = MonotoneQuantile(4)

        def forward(self, p):
            return 2.0 * self.inner(p)

    x = torch.randn(2, 4, 9).half()
    y = gm.GroupMap(2, 4, target_quantiles=Doubled()).half()(x)
    expected = gm.GroupMap(2, 4, target_quantiles=MonotoneQuantile(4)).half()(x)
    torch.testing.assert_close(y, 2.0 * expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_probabilities_of_16_bits_are_refused(dtype):
    """As FSDP makes them of a target that it shards apart from its layer."""
    target = MonotoneQuantile(4)
    with pytest.raises(TypeError, match=r"p has dtype .*cast_forward_inputs=False"):
        target(torch.linspace(0.0, 1.0, 9).to(dtype))
