"""Running statistics: BatchMap and InstanceMap learn in training, and map by it in evaluation."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import groupmap as gm
from tests import oracle

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("with_and_without_kernels")

K = 101
BATCH_MAPS = {
    "BatchMap": (gm.BatchMap, (4, 3, 5)),
    "BatchMap1d": (gm.BatchMap1d, (9, 3)),
    "BatchMap1d-L": (gm.BatchMap1d, (4, 3, 5)),
    "BatchMap2d": (gm.BatchMap2d, (4, 3, 5, 2)),
    "BatchMap3d": (gm.BatchMap3d, (4, 3, 5, 2, 2)),
}
KINDS = {
    **{name: make for name, (make, _) in BATCH_MAPS.items() if name != "BatchMap1d-L"},
    "InstanceMap": lambda *a, **k: gm.InstanceMap(*a, track_running_stats=True, **k),
}


def channels(x):
    """Each channel's values, ``(C, n)``."""
    return x.movedim(1, 0).reshape(x.shape[1], -1)


def randn(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BATCH_MAPS)
def test_training_maps_each_channel_by_its_own_ranks(name):
    make, shape = BATCH_MAPS[name]
    layer = make(3, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, 5.0]))
    x = randn(*shape).double()
    expected = oracle.map_rows(channels(x).numpy(), gm.gaussian)
    expected = (
        expected * layer.weight.detach().numpy()[:, None] + layer.bias.detach().numpy()[:, None]
    )
    np.testing.assert_allclose(channels(layer(x)).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.1, 0.4, 1.0, 0.0, None])
def test_running_quantiles_move_towards_those_of_the_batch(momentum):
    batch = gm.BatchMap1d(2, momentum=momentum, dtype=torch.float64)
    instance = gm.InstanceMap1d(
        2, momentum=momentum, track_running_stats=True, dtype=torch.float64, positions="hazen"
    )
    p = np.linspace(0.0, 1.0, K)
    expected_batch = expected_instance = np.tile(gm.gaussian(p), (2, 1))
    np.testing.assert_allclose(batch.running_quantiles, expected_batch)
    for i in range(4):
        x = (randn(5, 2, 40, seed=i) * (i + 1)).double()
        batch(x)
        instance(x)
        share = momentum if momentum == 0.0 else max(1 / (i + 1), momentum or 0.0)
        of_batch = np.quantile(channels(x).numpy(), p, axis=1).T
        of_each = np.quantile(x.numpy(), p, axis=2, method="hazen")
        expected_batch = expected_batch + share * (of_batch - expected_batch)
        of_each = of_each.mean(axis=1).T
        expected_instance = expected_instance + share * (of_each - expected_instance)
        np.testing.assert_allclose(batch.running_quantiles, expected_batch, atol=1e-12)
        np.testing.assert_allclose(instance.running_quantiles, expected_instance, atol=1e-12)
        assert batch.num_batches_tracked == instance.num_batches_tracked == i + 1


def test_the_mean_over_batches_is_that_of_the_whole_data():
    """Within 0.01 in probability after one pass over 100 batches of 1000 values a channel."""
    rng = np.random.default_rng(5)
    data = np.stack(
        [rng.normal(3.0, 2.0, (100, 1000)), rng.gamma(1.5, size=(100, 1000)),
         rng.uniform(size=(100, 1000)), rng.standard_cauchy((100, 1000))]
    )  # fmt: skip
    layer = gm.BatchMap1d(4, momentum=None, affine=False)
    for batch in torch.from_numpy(data).float().movedim(1, 0):
        layer(batch[None])
    probabilities = np.linspace(0.0, 1.0, K)
    for channel, quantiles in zip(data, layer.running_quantiles.numpy(), strict=True):
        values = np.sort(channel.astype(np.float32).ravel())
        least = np.searchsorted(values, quantiles, side="left") / len(values)
        greatest = np.searchsorted(values, quantiles, side="right") / len(values)
        off = np.maximum(np.maximum(least - probabilities, probabilities - greatest), 0.0)
        assert off.max() <= 0.01


def test_an_atom_is_as_sure_as_its_share_of_a_batch():
    """The mean of quantile functions blurs a jump by how much the batches differ about it."""
    rng = np.random.default_rng(5)
    layer = gm.BatchMap1d(1, momentum=None, affine=False)
    for _ in range(100):
        layer(torch.from_numpy(np.maximum(rng.normal(size=(1000, 1)), 0.0)))
    share = np.count_nonzero(layer.running_quantiles[0].numpy() == 0.0) / K
    assert 0.5 - 4 * np.sqrt(0.25 / 1000) < share <= 0.5


@pytest.mark.parametrize("momentum", [0.1, 0.01, None])
@pytest.mark.parametrize("make", [gm.BatchMap1d, gm.InstanceMap1d])
def test_an_atom_is_mapped_to_its_middle_from_the_first_batch_on(momentum, make):
    """The start, which fades, would leave differences between the quantiles of equal values."""
    rng = np.random.default_rng(5)
    layer = make(1, momentum=momentum, affine=False, track_running_stats=True)
    for _ in range(5):
        x = torch.from_numpy(np.maximum(rng.normal(size=(1, 1, 4000)), 0.0)).float()
        middle = layer.train()(x)[x == 0.0][0]
        found = layer.eval()(torch.zeros(1, 1, 1))[0, 0, 0]
        torch.testing.assert_close(found, middle, atol=0.05, rtol=0.0)


@pytest.mark.parametrize(("momentum", "share"), [(None, 0.5), (0.1, 0.1), (0.3, 0.3), (0.0, 0.0)])
def test_moments_that_are_set_are_no_start(momentum, share):
    layer, x = gm.BatchMap1d(1, momentum=momentum, dtype=torch.float64), randn(50, 1).double()
    layer.set_running_moments(3.0, 2.0)
    of_batch = torch.quantile(x, torch.linspace(0, 1, K).double())
    expected = (1.0 - share) * layer.running_quantiles + share * of_batch
    layer(x)
    torch.testing.assert_close(layer.running_quantiles, expected)
    layer.reset_running_stats()
    assert layer.num_batches_tracked == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("momentum", [0.1, 0.01])
def test_averages_in_half_precision_have_no_bias(dtype, momentum):
    half, single = (gm.BatchMap1d(64, momentum=momentum, dtype=each) for each in (dtype, None))
    for seed in range(400):
        x = 5.0 + randn(32, 64, seed=seed)
        half(x.to(dtype))
        single(x)
    medians = [each.running_quantiles[:, K // 2].double().mean() for each in (half, single)]
    assert abs(medians[0] / medians[1] - 1.0) < torch.finfo(dtype).eps


def test_infinite_and_missing_values_teach_nothing():
    layer = gm.BatchMap1d(2, momentum=1.0)
    start = layer.running_quantiles.clone()
    x = torch.tensor([[1.0, torch.inf, 2.0, torch.nan, -torch.inf], [torch.nan] * 5])
    y = layer(x.T)
    np.testing.assert_allclose(layer.running_quantiles[0], np.linspace(1.0, 2.0, K), rtol=1e-6)
    assert torch.equal(layer.running_quantiles[1], start[1])
    assert torch.equal(y.isnan(), x.T.isnan())


@pytest.mark.parametrize("name", KINDS)
def test_empty_batches_change_nothing(name):
    shapes = {"BatchMap": (0, 3), "BatchMap1d": (0, 3), "BatchMap2d": (0, 3, 5, 2)}
    shape = {**shapes, "BatchMap3d": (0, 3, 5, 2, 2), "InstanceMap": (0, 3, 5)}[name]
    layer = KINDS[name](3)
    start = layer.running_quantiles.clone()
    x = torch.empty(shape, requires_grad=True)
    for training in (True, False):
        layer.train(training)
        layer(x).sum().backward()
        assert x.grad.shape == shape
    assert torch.equal(layer.running_quantiles, start)


def test_batches_without_values_do_not_count():
    layer = gm.BatchMap1d(2, momentum=None)
    layer(torch.empty(0, 2))
    layer(torch.full((3, 2), torch.nan))
    assert layer.num_batches_tracked == 0
    layer(torch.full((3, 2), 100.0))
    assert torch.all(layer.running_quantiles == 100.0)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["finite", "ties", "missing", "infinite"])
def test_the_order_that_the_map_has_found_teaches_the_same(name, dtype, kind):
    """The transport gradient asks for it, the others do not."""
    shape = (30, *BATCH_MAPS.get(name, BATCH_MAPS["BatchMap2d"])[1][1:-1], 7)
    x = randn(*shape).to(dtype)
    if kind == "ties":
        x = (2 * x).round()
    elif kind == "missing":
        x[3, 1] = torch.nan
    elif kind == "infinite":
        x[2, 0], x[5, 2] = torch.inf, -torch.inf
    learned = []
    for gradient in ("transport", "straight_through", None):
        layer = KINDS[name](shape[1], gradient=gradient)
        layer(x.clone().requires_grad_())
        learned.append(layer.running_quantiles)
    for other in learned[1:]:
        torch.testing.assert_close(learned[0], other, rtol=0, atol=0)


def test_what_is_sorted_once_is_not_sorted_again(monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr("groupmap.nn._channels.quantiles_of_batch", refuse)
    layer = gm.BatchMap(3)
    layer(randn(40, 3, 50).requires_grad_())
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_constant_channel_is_learned_exactly(dtype):
    layer = gm.BatchMap1d(3, dtype=dtype)
    x = torch.tensor([0.1, 100.1, -1e-3], dtype=dtype).expand(4, 3)
    for _ in range(600):
        layer(x)
    assert torch.all(layer.running_quantiles == x[0, :, None])
    assert torch.all(layer.eval()(x) == 0.0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.uint16, torch.uint64])
def test_integers_teach(dtype):
    layer = gm.BatchMap1d(1, momentum=1.0)
    layer(torch.arange(101).to(dtype)[:, None])
    torch.testing.assert_close(layer.running_quantiles[0], torch.arange(101.0))


def test_no_channels():
    layer = gm.BatchMap1d(0)
    assert layer(torch.randn(4, 0)).shape == (4, 0)
    assert layer.eval()(torch.randn(4, 0)).shape == (4, 0)


def test_targets_without_ends_teach_nothing():
    with pytest.raises(ValueError, match=r"quantiles that are not finite.*clamp"):
        gm.BatchMap1d(2, target_quantiles=torch.special.ndtri)
    with pytest.raises(ValueError, match="not finite"):
        gm.SyncBatchMap(
            2, target_quantiles=torch.special.ndtri, num_knots=9, track_running_stats=False
        )
    gm.BatchMap1d(2, target_quantiles=torch.special.ndtri, track_running_stats=False)


def test_moments():
    layer = gm.BatchMap1d(2, num_quantiles=11)
    layer.set_running_moments(torch.tensor([1.0, -2.0]), 3.0)
    mean, std = layer.running_moments()
    torch.testing.assert_close(mean, torch.tensor([1.0, -2.0]).double())
    torch.testing.assert_close(std, torch.full((2,), 3.0).double())
    with pytest.raises(ValueError, match="negative"):
        layer.set_running_moments(0.0, -1.0)
    with pytest.raises(ValueError, match=r"mean has shape \(3,\); .* the 2 channels"):
        layer.set_running_moments(torch.zeros(3), 1.0)
    untracked = gm.BatchMap1d(2, track_running_stats=False)
    for call in (untracked.running_moments, lambda: untracked.set_running_moments(0.0, 1.0)):
        with pytest.raises(ValueError, match="with track_running_stats=True"):
            call()


def test_forward_mode_in_evaluation():
    layer = gm.BatchMap1d(1, dtype=torch.float64, affine=False).eval()
    x = torch.linspace(-2.0, 2.0, 5000, dtype=torch.float64)[:, None]
    _, tangent = torch.func.jvp(layer, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, torch.ones_like(x))


def test_one_value_a_channel_is_at_the_median():
    assert torch.equal(gm.BatchMap1d(3)(randn(1, 3)), torch.zeros(1, 3))


def test_without_tracking_evaluation_maps_by_ranks_too():
    x = randn(4, 3, 20)
    for layer in (gm.BatchMap1d(3, track_running_stats=False), gm.InstanceMap1d(3)):
        assert layer.running_quantiles is None
        assert layer.num_batches_tracked is None
        assert torch.equal(layer.eval()(x), layer.train()(x))
        assert not [name for name in layer.state_dict() if "running" in name]


def test_the_flag_freezes_what_was_learned():
    layer = gm.BatchMap1d(2)
    layer(randn(20, 2))
    before = layer.running_quantiles.clone()
    layer.track_running_stats = False
    layer(10.0 + randn(20, 2))
    assert torch.equal(layer.running_quantiles, before)
    assert layer.num_batches_tracked == 1
    layer.eval()(randn(1, 2))


@pytest.mark.parametrize("training", [True, False])
def test_what_is_missing_is_kept_out_of_the_gradient_of_the_scale(training):
    layer = gm.BatchMap1d(2).train(training)
    x = randn(20, 2)
    x[3, 0] = torch.nan
    layer(x).nansum().backward()
    found = layer.weight.grad.clone()
    layer.zero_grad()
    layer(x, where=~x.isnan()).sum().backward()
    torch.testing.assert_close(found, layer.weight.grad)


def test_noise_is_seen_by_the_running_quantiles():
    layer = gm.BatchMap1d(1, eps=3.0, momentum=1.0)
    layer(torch.zeros(5000, 1))
    assert abs(layer.running_quantiles[0, 84] - 3.0) < 0.2  # one standard deviation
    layer.eval()
    assert 0.9 < layer(torch.zeros(5000, 1)).std() < 1.1


# --- evaluation ---------------------------------------------------------------------------------


def line_through(x, knots, heights, at_runs, tails):
    """The slow, obvious map of one value."""
    k = len(knots)
    equal = [i for i in range(k) if knots[i] == x]
    if len(equal) > 1:
        return at_runs(equal[0], equal[-1])
    if equal:
        return heights[equal[0]]
    above = sum(knot < x for knot in knots)
    if 0 < above < k:
        i, j = above - 1, above
    elif tails == "clip":
        return heights[0] if above == 0 else heights[-1]
    else:
        i, j = (0, 1) if above == 0 else (k - 2, k - 1)
        if knots[i] == knots[j]:
            return heights[0] if above == 0 else heights[-1]
    return heights[i] + (x - knots[i]) / (knots[j] - knots[i]) * (heights[j] - heights[i])


@pytest.mark.parametrize("tails", ["clip", "linear"])
@pytest.mark.parametrize("target", ["gaussian", "uniform", "cauchy"])
@given(data=st.data())
def test_evaluation_goes_through_the_points(tails, target, data):
    k = data.draw(st.integers(2, 9))
    values = st.integers(-4, 4).map(float)
    knots = np.sort(data.draw(hnp.arrays(np.float64, k, elements=values)))
    x = data.draw(hnp.arrays(np.float64, 12, elements=st.integers(-12, 12).map(lambda i: i / 2)))
    layer = gm.BatchMap1d(
        1, target_quantiles=target, num_quantiles=k, tails=tails, affine=False, dtype=torch.float64
    ).eval()
    layer.running_quantiles.copy_(torch.from_numpy(knots)[None])
    quantile = getattr(gm, target)
    p = np.linspace(0.0, 1.0, k)

    def at_runs(first, last):
        return float(quantile((p[first] + p[last]) / 2))

    expected = [line_through(each, knots, quantile(p), at_runs, tails) for each in x]
    found = layer(torch.from_numpy(x)[:, None])[:, 0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_one_sample_at_a_time(name):
    layer = KINDS[name](3, momentum=None)
    shape = {"BatchMap2d": (6, 3, 5, 2), "BatchMap3d": (6, 3, 5, 2, 2)}.get(name, (6, 3, 8))
    for seed in range(3):
        layer(randn(*shape, seed=seed))
    layer.eval()
    x = randn(*shape, seed=9)
    before = copy.deepcopy(layer.state_dict())
    alone = torch.cat([layer(sample[None]) for sample in x])
    assert torch.equal(alone, layer(x))
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    if name.startswith("Instance"):
        assert torch.equal(gm.InstanceMap1d(3)(x[0]), gm.InstanceMap1d(3)(x[:1])[0])


@pytest.mark.parametrize("gradient", ["transport", "affine", "straight_through"])
@pytest.mark.parametrize("tails", ["clip", "linear"])
def test_its_gradient_is_the_exact_derivative(gradient, tails):
    layer = gm.BatchMap1d(2, momentum=1.0, dtype=torch.float64, gradient=gradient, tails=tails)
    layer(randn(300, 2).double() ** 3)
    layer.eval()
    x = (1.5 * randn(40, 2, seed=2)).double().requires_grad_()
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)
    slope = torch.func.jacrev(layer)(x.detach()[:1])
    assert torch.count_nonzero(slope) == torch.count_nonzero(torch.diagonal(slope[0, :, 0, :]))


def test_none_passes_nothing_in_evaluation_either():
    layer = gm.BatchMap1d(2, gradient=None).eval()
    x = randn(5, 2).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is None


def test_a_learnable_target_learns_in_evaluation():
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        def forward(self, p):
            return self.scale * p

    layer = gm.BatchMap1d(1, target_quantiles=Scaled(), dtype=torch.float64, affine=False)
    for training in (True, False):
        layer.train(training)
        layer.zero_grad()
        y = layer(torch.rand(50, 1).double())
        y.sum().backward()
        torch.testing.assert_close(layer.target_quantiles.scale.grad, y.detach().sum() / 2.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(dtype):
    layer = gm.BatchMap1d(2)
    x = randn(50, 2).to(dtype)
    for training in (True, False):
        layer.train(training)
        y = layer(x)
        assert y.dtype == dtype
        assert torch.all(y.isfinite())
    wide = copy.deepcopy(layer).double()
    assert wide.running_quantiles.dtype == torch.float64
    exact = wide(x.double())
    torch.testing.assert_close(y, exact.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
    whole = torch.arange(10).reshape(5, 2)
    assert layer(whole).dtype == torch.float32


def test_extreme_values():
    layer = gm.BatchMap1d(1, momentum=1.0, dtype=torch.float64, affine=False)
    layer(torch.tensor([-1.7e308, -1.0, 1.0, 1.7e308], dtype=torch.float64)[:, None])
    layer.eval()
    y = layer(
        torch.tensor([-torch.inf, -1.7e308, 0.0, 1.7e308, torch.inf, torch.nan])[:, None].double()
    )
    np.testing.assert_allclose(y[:5, 0], gm.gaussian(np.array([0, 0, 0.5, 1, 1])), atol=1e-9)
    assert y[5].isnan()


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_great_numbers_are_averaged_without_overflow(momentum):
    layer = gm.BatchMap1d(1, momentum=momentum)
    for sign in (1.0, -1.0, 1.0):
        layer(sign * torch.tensor([[1e38], [2e38], [3e38]]))
        assert layer.running_quantiles.isfinite().all()
        assert torch.all(layer.running_quantiles.diff() >= 0)


@given(
    quantiles=hnp.arrays(np.float32, (2, 1, 20), elements=st.floats(-1, 1, width=32)),
    momentum=st.floats(0, 1),
)
def test_an_average_of_quantiles_ascends(quantiles, momentum):
    from groupmap.nn._running import moved

    running, batch = torch.from_numpy(np.sort(quantiles, axis=-1))
    assert torch.all(moved(running, batch, momentum).diff() >= 0)


def test_channels_last_stays():
    layer = gm.BatchMap2d(8)
    x = randn(2, 8, 4, 3).contiguous(memory_format=torch.channels_last)
    for training in (True, False):
        layer.train(training)
        y = layer(x)
        assert y.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(y, copy.deepcopy(layer)(x.contiguous()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_what_runs_does_not_depend_on_the_layout(dtype):
    x = randn(9000, 3).to(dtype)
    as_columns, as_rows = gm.BatchMap1d(3, dtype=dtype), gm.BatchMap1d(3, dtype=dtype)
    assert torch.equal(as_columns(x), as_rows(x.T.contiguous()[None])[0].T)
    for name, buffer in as_columns.named_buffers():
        assert torch.equal(buffer, as_rows.get_buffer(name))


def test_an_expanded_tensor_becomes_one_that_can_be_viewed():
    x = torch.randn(1, 3, 4, 5).expand(6, 3, 4, 5)
    assert gm.BatchMap2d(3)(x).is_contiguous()


def test_targets_a_channel():
    layer = gm.BatchMap1d(3, target_quantiles=["uniform", "gaussian", "uniform"], momentum=1.0)
    x = randn(200, 3)
    for training in (True, False):
        layer.train(training)
        y = layer(x)
        assert y[:, 0].min() == y[:, 2].min() == 0.0
        assert y[:, 1].min() < -4.0
        torch.testing.assert_close(y[:, 0].max(), torch.tensor(1.0))


# --- checkpoints --------------------------------------------------------------------------------


def test_a_checkpoint_of_batch_norm_gives_its_numbers():
    norm = torch.nn.BatchNorm2d(3, momentum=None)
    for seed in range(3):
        norm(3.0 * randn(4, 3, 5, 5, seed=seed) - 1.0)
    torch.nn.init.normal_(norm.weight)
    layer = gm.BatchMap2d(3, tails="linear", dtype=torch.float64)
    layer.load_state_dict(norm.state_dict(), strict=True)
    assert layer.num_batches_tracked == 3
    x = 4.0 * randn(4, 3, 5, 5, seed=7)
    norm.eps = 0.0
    found = layer.eval()(x.double())
    torch.testing.assert_close(found, norm.double().eval()(x.double()), rtol=1e-9, atol=1e-9)
    first_version = {k: v for k, v in norm.state_dict().items() if k != "num_batches_tracked"}
    uncounted = gm.BatchMap2d(3)
    uncounted.load_state_dict(first_version, strict=True)
    assert uncounted.num_batches_tracked == 10  # then they move by momentum
    learned = gm.BatchMap2d(3, target_quantiles=gm.nn.MonotoneQuantile(4))
    learned.load_state_dict(norm.state_dict(), strict=False, assign=True)
    assert not copy.deepcopy(learned).running_quantiles.requires_grad
    tracked = gm.InstanceMap2d(3, track_running_stats=True)
    of_norm = torch.nn.InstanceNorm2d(3, track_running_stats=True).state_dict()
    tracked.load_state_dict(of_norm, strict=True)
    assert "running_mean" in of_norm


def test_wrong_checkpoints_are_named():
    layer = gm.BatchMap2d(3)
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*running_quantiles"):
        layer.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(gm.BatchMap2d(4).state_dict())
    with pytest.raises(RuntimeError, match="size mismatch for running_quantiles"):
        layer.load_state_dict(gm.BatchMap2d(3, num_quantiles=11).state_dict())


def training(seed=0):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), gm.BatchMap2d(4), torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 3), gm.InstanceMap2d(4, track_running_stats=True, momentum=None),
        torch.nn.Flatten(), torch.nn.Linear(4 * 16, 3),
    )  # fmt: skip
    return model, torch.optim.Adam(model.parameters(), lr=1e-2)


def steps(model, optimizer, seeds):
    losses = []
    for seed in seeds:
        optimizer.zero_grad()
        loss = model(randn(6, 1, 8, 8, seed=seed)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_resumed_checkpoint_continues_bit_for_bit():
    model, optimizer = training()
    steps(model, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    losses = steps(model, optimizer, range(3, 8))

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed, optimizer = training(seed=99)
    resumed.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    assert steps(resumed, optimizer, range(3, 8)) == losses
    for one, other in zip(model.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_reset():
    layer = gm.BatchMap1d(3)
    start = copy.deepcopy(layer.state_dict())
    layer(5.0 * randn(20, 3))
    layer.reset_running_stats()
    assert all(torch.equal(value, start[key]) for key, value in layer.state_dict().items())
    meta = gm.BatchMap1d(3, device="meta")
    assert meta.running_quantiles.device.type == "meta"
    meta.to_empty(device="cpu").reset_parameters()
    assert all(torch.equal(value, start[key]) for key, value in meta.state_dict().items())
    assert layer.eval().to("meta")(torch.empty(5, 3, device="meta")).shape == (5, 3)


@pytest.mark.parametrize(
    ("make", "shape", "text"),
    [
        (gm.BatchMap1d, (2, 3, 4, 5), r"expected 2D or 3D input \(got 4D input\)"),
        (gm.BatchMap2d, (2, 3, 4), r"expected 4D input \(got 3D input\)"),
        (gm.BatchMap3d, (2, 3, 4, 5), r"expected 5D input \(got 4D input\)"),
        (gm.BatchMap, (3,), r"expected at least 2D input \(got 1D input\)"),
    ],
)
def test_axes_are_checked_as_by_batch_norm(make, shape, text):
    with pytest.raises(ValueError, match=text):
        make(3)(torch.empty(shape))


@pytest.mark.parametrize("training", [True, False])
def test_channels_are_checked(training):
    with pytest.raises(RuntimeError, match="should contain 4 elements not 3"):
        gm.BatchMap2d(3).train(training)(randn(2, 4, 3, 3))


@pytest.mark.parametrize("momentum", [None, 1.0])
def test_constants_of_several_samples_leave_quantiles_in_order(momentum):
    for seed in range(20):
        layer = gm.InstanceMap1d(2, momentum=momentum, track_running_stats=True).double()
        x = randn(7, 2, 1, seed=seed).double().expand(7, 2, 4)
        layer(x)
        assert bool((layer.running_quantiles.diff(dim=1) >= 0).all())
        mean = x.mean((0, 2))
        found = layer.eval()(mean.reshape(1, 2, 1))
        assert bool(found.isfinite().all())


@pytest.mark.parametrize("kind", [*BATCH_MAPS, "InstanceMap"])
@pytest.mark.parametrize("is_training", [True, False])
def test_what_is_contiguous_stays_so(kind, is_training):
    make, shape = BATCH_MAPS.get(kind, (KINDS["InstanceMap"], (4, 3, 5, 2)))
    y = make(3).train(is_training)(randn(*shape))
    assert y.is_contiguous()
    y.view(shape[0], -1)


def test_tracking_under_vmap_is_refused():
    with pytest.raises(RuntimeError, match=r"batched by torch\.vmap"):
        torch.vmap(gm.BatchMap1d(3))(randn(5, 8, 3))
    torch.vmap(gm.BatchMap1d(3, track_running_stats=False))(randn(5, 8, 3))


class Network(torch.nn.Module):
    """From probabilities to values, by layers that take their own dtype only."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Linear(8, 1))
        for layer in self.layers:
            layer.weight.data.abs_().add_(0.1)  # so that values do not fall

    def forward(self, p):
        return self.layers(p.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_networks_as_targets(dtype):
    x = torch.randn(6, 4, 5, dtype=dtype)
    for layer in (
        gm.GroupMap(2, 4, target_quantiles=Network()),
        gm.BatchMap1d(4, target_quantiles=Network()),
        gm.InstanceMap1d(4, track_running_stats=True, target_quantiles=Network()),
        gm.Map(2, 4, target_quantiles=gm.nn.MonotoneQuantile(5, Network())),
    ):
        layer.to(dtype)
        assert layer(x).dtype == dtype
        layer(x).sum().backward()
        assert all(each.grad is not None for each in layer.parameters())
        assert layer.eval()(x).isfinite().all()


def test_instances_map_by_themselves_once_the_flag_is_off():
    """As those of nn.InstanceNorm do, and those of nn.BatchNorm do not."""
    x = torch.randn(3, 4, 9) + 5.0
    for kind, norm_kind in (
        (gm.InstanceMap1d, torch.nn.InstanceNorm1d), (gm.BatchMap1d, torch.nn.BatchNorm1d)
    ):  # fmt: skip
        layer, norm = (each(4, track_running_stats=True) for each in (kind, norm_kind))
        changed = []
        for module in (layer, norm):
            module(x)
            before = module.eval()(x)
            module.track_running_stats = False
            changed.append(not torch.equal(module(x), before))
        assert changed[0] == changed[1] == (kind is gm.InstanceMap1d)


@pytest.mark.parametrize("strict", [True, False])
def test_statistics_of_other_channels_are_refused_by_their_size(strict):
    """As torch's norms do, strict or not."""
    checkpoint = torch.nn.BatchNorm2d(8, affine=False).state_dict()
    for layer in (gm.BatchMap2d(9, affine=False), torch.nn.BatchNorm2d(9, affine=False)):
        with pytest.raises(RuntimeError, match="size mismatch for running_"):
            layer.load_state_dict(checkpoint, strict=strict)
