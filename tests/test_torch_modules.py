"""torch's own inputs for GroupNorm, LayerNorm, InstanceNorm and BatchNorm, on our layers.

`torch.testing._internal.common_modules` lists how each module of torch is constructed and called,
and what must raise. Here the norms' lists are gone through with the maps' classes in their place,
and with eps = 0, since eps means noise here. The checks are those of torch's test_modules.py; these
are left out, or differ:

- the derivative in the input (test_grad, test_gradgrad): the map's own is 0 almost everywhere;
  what is passed on in its place is tested in test_gradients.py. Parameters are checked.
- the reference functions, which compute the norms; in their place, an input without a batch must
  give what it gives in a batch of one.
- error inputs of BatchNorm that say "eps must be positive": an eps of 0 is no noise, and allowed;
  one of −1 is refused when the layer is made, not when it is called.
- devices other than the CPU, and memory formats on them: test_layers.py and the benchmarks.
- test_check_inplace: norms and maps have no in-place form.
"""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import pytest

import groupmap as gm
from tests import oracle

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of torch's own test utilities
    from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

COUNTERPARTS = {
    "nn.GroupNorm": gm.GroupMap, "nn.LayerNorm": gm.LayerMap,
    "nn.InstanceNorm1d": gm.InstanceMap1d, "nn.InstanceNorm2d": gm.InstanceMap2d,
    "nn.InstanceNorm3d": gm.InstanceMap3d, "nn.BatchNorm1d": gm.BatchMap1d,
    "nn.BatchNorm2d": gm.BatchMap2d, "nn.BatchNorm3d": gm.BatchMap3d,
}  # fmt: skip
EPS_AT = {"nn.GroupNorm": 2}  # of the positional arguments; 1 for all others
INFOS = {info.name: info for info in module_db if info.name in COUNTERPARTS}
OTHER_EPS = "eps must be positive"


def without_eps(name, args, kwargs):
    at, args = EPS_AT.get(name, 1), list(args)
    if len(args) > at:
        args[at] = 0.0
    return args, kwargs


def inputs_of(name, dtype=torch.float64, training=True):
    return INFOS[name].module_inputs_func(
        INFOS[name], device="cpu", dtype=dtype, requires_grad=False, training=training
    )


CASES = [(name, i, each.desc or "plain")
         for name in INFOS for i, each in enumerate(inputs_of(name))]  # fmt: skip


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[2]}")
def make_and_input(request):
    """From keyword arguments to a layer with parameters that are not 1 and 0; and its input."""
    name, i, _ = request.param
    torch.manual_seed(1)
    given = inputs_of(name)[i]
    args, kwargs = without_eps(name, given.constructor_input.args, given.constructor_input.kwargs)

    def make(**more):
        layer = COUNTERPARTS[name](*args, **kwargs, **more)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        return layer

    (x,) = given.forward_input.args
    return make, x


def test_every_norm_is_there():
    assert set(INFOS) == set(COUNTERPARTS)
    assert len(CASES) > 50


def rows_of(layer, x):
    """The groups as rows, or None where an eval-mode layer maps by running quantiles."""
    if isinstance(layer, gm.GroupMap):
        return x.reshape(len(x), layer.num_groups, -1)
    if isinstance(layer, gm.LayerMap):
        return x.flatten(x.ndim - len(layer.normalized_shape))
    if isinstance(layer, gm.InstanceMap):
        return x.flatten(-layer._input_ndims[0] + 1)
    return x.movedim(1, 0).flatten(1)


def test_forward(make_and_input):
    make, x = make_and_input
    layer = make(dtype=torch.float64)
    y = layer(x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    parameters = [each.clone() for each in layer.parameters()]
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), (1.0, 0.0), strict=False):
            parameter.fill_(value)
    rows = rows_of(layer, x)
    if rows.numel():
        expected = torch.from_numpy(oracle.map_rows(rows.numpy(), gm.gaussian))
        torch.testing.assert_close(rows_of(layer, layer(x)), expected.reshape(rows.shape))
    if parameters:
        assert not torch.equal(layer(x), y) or not x.numel()


def test_without_a_batch(make_and_input):
    make, x = make_and_input
    layer = make(dtype=torch.float64)
    if not isinstance(layer, gm.InstanceMap) or x.ndim != layer._input_ndims[0]:
        pytest.skip("a batch is there, or needed")
    for training in (True, False):
        layer.train(training)
        assert torch.equal(layer(x), copy.deepcopy(layer)(x[None])[0])


def test_repr(make_and_input):
    make, _ = make_and_input
    layer = make()
    assert repr(layer).startswith(f"{type(layer).__name__}(")
    assert str(layer) == repr(layer)


def test_factory_arguments(make_and_input):
    make, x = make_and_input
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        layer = make(device="cpu", dtype=dtype)
        for tensor in (*layer.parameters(), *layer.buffers()):
            if tensor.is_floating_point():
                assert tensor.dtype == dtype
    meta = make(device="meta")
    assert all(each.device.type == "meta" for each in (*meta.parameters(), *meta.buffers()))
    assert meta(x.to("meta")).shape == x.shape


def test_save_and_load(make_and_input):
    make, x = make_and_input
    layer = make(dtype=torch.float64)
    layer(x)
    layer.eval()
    y = layer(x)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = make(dtype=torch.float64).eval()
    other.reset_parameters()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x), y)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), y)
    assert torch.equal(copy.deepcopy(layer)(x), y)


def test_non_contiguous_inputs(make_and_input):
    make, x = make_and_input
    wide = torch.empty(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)
    strided = wide[..., ::2].copy_(x)
    layer, twin = make(dtype=torch.float64), make(dtype=torch.float64)
    for training in (True, False):
        layer.train(training)
        twin.train(training)
        assert torch.equal(layer(strided), twin(x))
    seed = torch.ones_like(wide)[..., ::2]
    strided = strided.detach().requires_grad_()
    layer(strided).backward(seed)
    x = x.clone().requires_grad_()
    twin(x).backward(torch.ones_like(x))
    torch.testing.assert_close(strided.grad, x.grad)


def test_training_and_evaluation_differ_where_there_are_running_statistics(make_and_input):
    make, x = make_and_input
    layer = make(dtype=torch.float64)
    trained = layer.train()(x)
    evaluated = layer.eval()(x)
    has_running = getattr(layer, "running_quantiles", None) is not None
    assert torch.equal(trained, evaluated) == (not has_running or not x.numel())


def test_gradients_of_parameters(make_and_input):
    make, x = make_and_input
    layer = make(dtype=torch.float64)
    names = [name for name, _ in layer.named_parameters()]
    if not names or not x.numel():
        pytest.skip("no parameters, or nothing that they scale")

    def f(*parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    parameters = [each.detach().clone().requires_grad_() for each in layer.parameters()]
    for training in (True, False):
        layer.train(training)
        assert torch.autograd.gradcheck(f, parameters, fast_mode=True)
        assert torch.autograd.gradgradcheck(f, parameters, fast_mode=True)


def test_moves_and_casts(make_and_input):
    make, x = make_and_input
    layer = make()
    for dtype in (torch.float64, torch.float16, torch.float32):
        layer.to(dtype)
        assert layer(x.to(dtype)).dtype == dtype
    kept = dict(layer.named_parameters())
    layer.to("meta").to_empty(device="cpu").reset_parameters()
    assert layer.state_dict().keys() >= kept.keys()
    assert layer(x.float()).isfinite().all()


ERRORS = [
    (name, i) for name, info in INFOS.items() if info.module_error_inputs_func
    for i, _ in enumerate(info.module_error_inputs_func(
        info, device="cpu", dtype=torch.float64, requires_grad=False, training=True))
]  # fmt: skip


@pytest.mark.parametrize(("name", "i"), ERRORS)
def test_errors(name, i):
    info = INFOS[name]
    error = info.module_error_inputs_func(
        info, device="cpu", dtype=torch.float64, requires_grad=False, training=True
    )[i]
    constructor = error.module_error_input.constructor_input
    if error.error_regex == OTHER_EPS:
        if constructor.kwargs["eps"] == 0.0:
            COUNTERPARTS[name](*constructor.args, **constructor.kwargs)
        else:
            with pytest.raises(error.error_type, match="eps="):
                COUNTERPARTS[name](*constructor.args, **constructor.kwargs)
        return
    assert error.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR
    with pytest.raises(error.error_type, match=error.error_regex):
        COUNTERPARTS[name](*constructor.args, **constructor.kwargs)
