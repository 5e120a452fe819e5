"""The layers under compile, vmap, grad and their kin; what passes back through them."""

from __future__ import annotations

import pytest

import groupmap as gm
from groupmap.gradients import GRADIENTS

torch = pytest.importorskip("torch")
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402 (after the check)

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")

GET_ATTR = "ignore:Attempted to insert a get_attr Node:UserWarning"  # of torch's own tracer

LAYERS = {
    "GroupMap": (lambda **k: gm.GroupMap(4, 8, **k), (2, 8, 5, 3)),
    "LayerMap": (lambda **k: gm.LayerMap(15, **k), (2, 8, 15)),
    "InstanceMap": (lambda **k: gm.InstanceMap(8, affine=True, **k), (2, 8, 5, 3)),
    "InstanceMap1d": (lambda **k: gm.InstanceMap1d(8, affine=True, **k), (2, 8, 5)),
    "InstanceMap2d": (lambda **k: gm.InstanceMap2d(8, affine=True, **k), (2, 8, 5, 3)),
    "InstanceMap3d": (lambda **k: gm.InstanceMap3d(8, affine=True, **k), (2, 8, 5, 3, 2)),
    "Map": (lambda **k: gm.Map(2, 8, **k), (2, 8, 5, 3)),
}
NAMED_TARGETS = ["gaussian", "uniform", "cauchy", "sparse", "laplace", "logistic"]
MODES = list(GRADIENTS)


@pytest.fixture(params=LAYERS)
def layer_and_input(request):
    make, shape = LAYERS[request.param]
    return make(), torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def fresh_compiler():
    """No graph is left over from another test."""
    torch._dynamo.reset()


def assert_close_to_4_ulp(found, expected):
    torch.testing.assert_close(
        found, expected, rtol=4 * torch.finfo(expected.dtype).eps, atol=1e-7, equal_nan=True
    )


def test_compiled_without_graph_breaks(layer_and_input):
    layer, x = layer_and_input
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_close_to_4_ulp(compiled(x), layer(x))
    x = x.clone()
    x.view(-1)[::4] = torch.nan
    assert_close_to_4_ulp(compiled(x), layer(x))


@pytest.mark.parametrize("target", NAMED_TARGETS)
def test_compiled_targets(target):
    layer = gm.GroupMap(2, 4, target_quantiles=target, gradient="straight_through")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(3, 4, 9, requires_grad=True)
    assert_close_to_4_ulp(compiled(x), layer(x))


def test_compiled_targets_of_torch():
    normal = torch.distributions.Normal(0.0, 1.0, validate_args=False)
    for target in (torch.nn.Softplus(), torch.arange(7.0) ** 2, normal):
        layer = gm.GroupMap(2, 4, target_quantiles=target)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        x = torch.randn(3, 4, 9)
        torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ties", ["average", "min", "max", "ordinal"])
def test_compiled_ties(ties):
    layer = gm.GroupMap(2, 4, ties=ties)
    x = torch.randn(3, 4, 9).round()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_close_to_4_ulp(compiled(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_compiled_integers(dtype):
    layer = gm.Map(2, 4)
    x = torch.randint(0, 50, (3, 4, 9)).to(dtype)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_close_to_4_ulp(compiled(x), layer(x))


def test_compiled_by_inductor():
    layer = gm.GroupMap(2, 4, gradient="straight_through")
    x = torch.randn(3, 4, 9, requires_grad=True)
    try:
        y = torch.compile(layer, fullgraph=True)(x)
    except torch._inductor.exc.InductorError as error:
        pytest.skip(f"no C++ compiler for inductor: {error}")
    assert_close_to_4_ulp(y, layer(x))
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_scipy_targets_say_that_they_cannot_be_traced():
    from scipy import stats

    layer = gm.GroupMap(2, 4, target_quantiles=stats.norm())
    with pytest.raises(Exception, match="cannot be traced"):
        torch.compile(layer, fullgraph=True, backend="eager")(torch.randn(3, 4, 9))


FUNCTIONS = {
    "quantile_map": lambda x, _: gm.quantile_map(x, "uniform"),
    "quantile_map where": lambda x, where: gm.quantile_map(x, "uniform", where=where),
    "match_quantiles": lambda x, where: gm.match_quantiles(x, x.exp(), where=where, axis=-1),
    "normalize_quantiles": lambda x, _: gm.normalize_quantiles(x, axis=0),
    "group_map": lambda x, _: gm.group_map(x.T[:, :2, None], 2),
    "layer_map": lambda x, _: gm.layer_map(x, (9,)),
    "integers": lambda x, _: gm.quantile_map((8 * x).to(torch.uint8), "uniform"),
}


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_compiled_functions(function):
    """They find out which library an array is of; Dynamo says that it ignores a cache there."""
    x = torch.rand(3, 9)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert_close_to_4_ulp(compiled(x, x > 0.2), function(x, x > 0.2))


def test_vmap(layer_and_input):
    layer, x = layer_and_input
    stacked = torch.stack([x, x.flip(-1), 2 - x])
    expected = torch.stack([layer(each) for each in stacked])
    assert torch.equal(torch.vmap(layer)(stacked), expected)
    stacked[0].view(-1)[3] = torch.nan
    expected = torch.stack([layer(each) for each in stacked])
    torch.testing.assert_close(torch.vmap(layer)(stacked), expected, equal_nan=True, rtol=0, atol=0)


def test_tables_of_a_transform_do_not_outlive_it():
    """A table made inside vmap or grad must not be remembered."""
    layer = gm.LayerMap(23)
    x = torch.randn(4, 23)
    torch.vmap(layer)(x)
    torch.func.grad(lambda x: layer(x).sum())(x)
    assert torch.equal(layer(x), torch.stack([layer(row) for row in x]))


def test_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        y = gm.GroupMap(2, 4)(torch.randn(3, 4, 9))
        assert y.shape == (3, 4, 9)
    assert gm.GroupMap(2, 4)(torch.randn(3, 4, 9)).abs().max() > 0


def test_inference_mode_leaves_nothing_behind():
    layer = gm.LayerMap(29)
    with torch.inference_mode():
        layer(torch.randn(2, 29))
    layer(torch.randn(2, 29)).sum().backward()
    assert layer.bias.grad is not None


# --- gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", MODES)
def test_the_forward_is_exact_in_every_mode(gradient):
    x = torch.randn(3, 4, 9)
    expected = gm.group_map(x, 2)
    for requires_grad in (False, True):
        y = gm.group_map(x.clone().requires_grad_(requires_grad), 2, gradient=gradient)
        assert torch.equal(y, expected)


def test_straight_through_passes_what_comes():
    x = torch.randn(3, 4, 9)
    x[0, 0, 0] = torch.nan
    x.requires_grad_()
    seed = torch.randn(3, 4, 9)
    gm.group_map(x, 2, gradient="straight_through").backward(seed)
    seed[0, 0, 0] = 0  # what is missing gets no gradient
    assert torch.equal(x.grad, seed)


def test_none_passes_nothing():
    x = torch.randn(3, 4, 9, requires_grad=True)
    assert not gm.group_map(x, 2, gradient=None).requires_grad
    layer = gm.GroupMap(2, 4, gradient=None)
    layer(x).sum().backward()
    assert x.grad is None
    assert layer.bias.grad is not None


@pytest.mark.parametrize("gradient", MODES)
def test_results_may_be_changed_in_place(gradient):
    x = torch.randn(3, 4, 9, requires_grad=True)
    model = torch.nn.Sequential(gm.Map(2, 4, gradient=gradient), torch.nn.ReLU(inplace=True))
    y = model(x)
    assert y.min() == 0


@pytest.mark.parametrize("gradient", MODES)
def test_parameters_are_differentiated_exactly(gradient):
    layer = gm.GroupMap(2, 4, dtype=torch.float64, gradient=gradient)
    x = torch.randn(2, 4, 5, dtype=torch.float64)

    def f(weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    weight, bias = (torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in "ab")
    assert torch.autograd.gradcheck(f, (weight, bias))


def test_function_transforms_of_straight_through():
    x = torch.randn(4, 9)

    def f(x):
        return (gm.quantile_map(x, gradient="straight_through") ** 2).sum()

    grad = torch.func.grad(f)(x)
    torch.testing.assert_close(grad, 2 * gm.quantile_map(x))
    torch.testing.assert_close(torch.vmap(torch.func.grad(f))(x), grad)
    jacobian = torch.func.jacrev(lambda x: gm.quantile_map(x, gradient="straight_through"))(x[0])
    torch.testing.assert_close(jacobian, torch.eye(9))


@pytest.mark.parametrize("n", [6, 5000])  # by torch's operations, and by kernels
@pytest.mark.parametrize("gradient", ["transport", "affine"])
@pytest.mark.parametrize("missing", [False, True])
def test_several_gradients_at_once(n, gradient, missing):
    """By a vmap of torch's that is older than that of `torch.func`."""
    layer = gm.GroupMap(1, 2, dtype=torch.float64, gradient=gradient)
    x = torch.randn(2, 2, n, dtype=torch.float64)
    if missing:
        x[0, 0, 0] = torch.nan
    inputs = [x.requires_grad_(), layer.weight, layer.bias]
    y = layer(x)
    given = torch.randn(3, *y.shape, dtype=y.dtype)
    together = torch.autograd.grad(y, inputs, given, is_grads_batched=True, retain_graph=True)
    apart = [torch.autograd.grad(y, inputs, each, retain_graph=True) for each in given]
    for found, expected in zip(together, zip(*apart, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(expected))


def test_jacobians_at_once():
    x = torch.randn(1, 2, 6, dtype=torch.float64)
    found, expected = (
        torch.autograd.functional.jacobian(gm.Map(1, 2), x, vectorize=at_once)
        for at_once in (True, False)
    )
    torch.testing.assert_close(found, expected)


def test_noise_is_on_the_caller_s_generator():
    x = torch.randn(3, 9)
    one, two = (gm.quantile_map(x, eps=0.3, rng=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two)
    with pytest.raises(TypeError, match=r"pass a torch\.Generator"):
        gm.quantile_map(x, eps=0.3, rng="seed")


@pytest.mark.parametrize("options", [{"eps": 0.1}, {"ties": "random"}])
def test_noise_for_any_size_of_the_batch(options):
    layer = gm.GroupMap(2, 4, **options)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for size in (4, 7, 9):
        assert compiled(torch.randn(size, 4, 6)).shape == (size, 4, 6)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_traced_by_the_old_tracer():
    """What it captures holds for ties and missing values that the example had not."""
    for layer in (gm.GroupMap(2, 4), gm.LayerMap((4, 6)), gm.BatchMap1d(4).eval()):
        traced = torch.jit.trace(layer, torch.randn(3, 4, 6), check_trace=False)
        x = torch.randn(3, 4, 6).round()
        x[0, 0, 0] = torch.nan
        torch.testing.assert_close(traced(x), layer(x), equal_nan=True)


@pytest.mark.filterwarnings(GET_ATTR)
@pytest.mark.parametrize("n", [64, 5000])
@pytest.mark.parametrize(
    ("kind", "mode"),
    [("function", "real"), ("function", "fake"), ("function", "symbolic"), ("LayerMap", "real"),
     ("BatchMap", "real")],
)  # fmt: skip
def test_traced_by_make_fx(kind, n, mode):
    """Nothing that the graph holds is of the data with which it was made."""
    layers = {"LayerMap": gm.LayerMap(n), "BatchMap": gm.BatchMap1d(n).eval()}

    def mapped(x):
        return gm.quantile_map(x) if kind == "function" else layers[kind](x)

    graph = make_fx(mapped, tracing_mode=mode)(torch.randn(2, n))
    x = torch.randn(2, n).round()
    torch.testing.assert_close(graph(x), mapped(x), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings(GET_ATTR)
@pytest.mark.parametrize("n", [64, 5000])
def test_traced_before_dispatch(n):
    """By `make_fx`, too; what it cannot trace there, it refuses."""
    layer = gm.BatchMap1d(n).eval()

    def mapped(x):
        return layer(x)

    graph = make_fx(mapped, pre_dispatch=True)(torch.randn(2, n))
    x = torch.randn(2, n).round()
    torch.testing.assert_close(graph(x), mapped(x), rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="Tracing expected"):
        make_fx(gm.quantile_map, pre_dispatch=True)(x)


@pytest.mark.filterwarnings(GET_ATTR)
def test_linearized_by_running_quantiles():
    layer, x = gm.BatchMap1d(4).eval(), torch.randn(6, 4)
    y, tangent_of = torch.func.linearize(layer, x)
    torch.testing.assert_close(y, layer(x))
    torch.testing.assert_close(tangent_of(torch.ones(6, 4)), torch.ones(6, 4), rtol=1e-4, atol=1e-4)


def test_symbolic_tracing_needs_leaves():
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), gm.LayerMap(4))
    with pytest.raises(TypeError, match="make them leaves"):
        torch.fx.symbolic_trace(network)


def test_a_default_device_is_not_that_of_the_tables():
    x = torch.randn(100_000)
    with torch.device("meta"):
        found = gm.quantile_map(x)
    assert found.device.type == "cpu"
    assert torch.equal(gm.quantile_map(x), found)
