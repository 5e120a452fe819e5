"""The fitted map as a torch module: eager, compiled, exported, and in ONNX Runtime."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
from scipy import stats

import groupmap as gm

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from groupmap.nn import FrozenMap  # noqa: E402 (after the check that torch is there)

TARGETS = ("uniform", "gaussian", "cauchy", "sparse", "laplace", "logistic", "sample")


@pytest.fixture(name="X")
def table(rng):
    X = rng.gamma(2.0, size=(500, 3))
    X[:, 1] = np.round(X[:, 1], 1)  # ties
    X[:, 2] = np.maximum(X[:, 2] - 2.0, 0.0)  # many of them at the least value
    return X


@pytest.fixture(name="new")
def new_table(rng, X):
    outside = [[-5.0] * 3, [80.0] * 3, [np.nan] * 3, [0.0] * 3, [1e30] * 3]
    return np.concatenate([X, rng.gamma(2.0, size=(300, 3)), outside])


def fitted_to(X, target, tails="clip", n_quantiles=100):
    if target == "sample":
        target = np.linspace(-1, 2, 9) ** 3
    return gm.GroupMapTransformer(
        target_quantiles=target, tails=tails, n_quantiles=n_quantiles
    ).fit(X)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("tails", ["clip", "linear"])
@pytest.mark.parametrize("n_quantiles", [1, 2, 3, 100, 128])
def test_the_numbers_of_the_transformer(X, new, target, tails, n_quantiles):
    fitted = fitted_to(X, target, tails, n_quantiles)
    module = fitted.to_module()
    expected = fitted.transform(new)
    np.testing.assert_allclose(
        module(torch.from_numpy(new)).numpy(), expected, rtol=1e-9, atol=1e-12
    )
    single = module(torch.from_numpy(new.astype(np.float32)))
    assert single.dtype == torch.float32
    of_single = fitted.transform(new.astype(np.float32))
    np.testing.assert_allclose(single.numpy(), of_single, rtol=1e-6, atol=1e-7)


def test_tails_of_great_values():
    """Between knots whose difference is greater than any number."""
    X = np.array([[-1.5e308], [1.5e308]])
    fitted = fitted_to(X, "uniform", "linear", 2)
    new = np.array([[1.7e308], [-1.7e308], [0.0]])
    found = fitted.to_module()(torch.from_numpy(new)).numpy()
    np.testing.assert_allclose(found, fitted.transform(new), rtol=1e-14)
    np.testing.assert_allclose(found, [[1.0 + 1 / 15], [-1 / 15], [0.5]], rtol=1e-14)


def test_a_feature_without_values_stays_without(X):
    X[:, 0] = np.nan
    fitted = fitted_to(X, "gaussian")
    found = fitted.to_module()(torch.ones(4, 3))
    np.testing.assert_array_equal(
        np.isnan(found.numpy()), np.isnan(fitted.transform(np.ones((4, 3))))
    )


@pytest.mark.parametrize("tails", ["clip", "linear"])
def test_far_outside(X, tails):
    far = np.array([[np.inf] * 3, [-np.inf] * 3, [1.7e308] * 3, [-1.7e308] * 3])
    found = fitted_to(X, "uniform", tails).to_module()(torch.from_numpy(far)).numpy()
    if tails == "clip":
        np.testing.assert_array_equal(found[:, 0], [1.0, 0.0, 1.0, 0.0])
    assert np.all(found[[0, 2], :] >= 1.0)
    assert not np.isnan(found).any()


def test_what_goes_in(X):
    fitted = fitted_to(X, "uniform")
    module = fitted.to_module()
    whole = np.arange(9).reshape(3, 3)
    found = module(torch.from_numpy(whole))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), fitted.transform(whole), rtol=1e-6)
    with pytest.raises(TypeError, match=r"dtype torch\.bool, which has no order"):
        module(torch.ones(2, 3, dtype=torch.bool))


def test_casting_a_network_leaves_the_knots_exact(X):
    fitted = fitted_to(1000.0 + X, "gaussian")
    network = torch.nn.Sequential(fitted.to_module(), torch.nn.Linear(3, 1)).half()
    assert network[1].weight.dtype == torch.float16
    assert {each.dtype for each in network[0].buffers()} == {torch.float64, torch.bool}
    given = torch.from_numpy(1000.0 + X)
    np.testing.assert_allclose(network[0](given).numpy(), fitted.transform(given.numpy()))
    assert network.to("meta")[0].knots.device.type == "meta"


def test_it_is_made_of_buffers(X, new):
    module = fitted_to(X, "sample").to_module()
    assert not list(module.parameters())
    other = fitted_to(X + 1.0, "sample").to_module()
    other.load_state_dict(module.state_dict())
    given = torch.from_numpy(new)
    torch.testing.assert_close(other(given), module(given), rtol=0, atol=0, equal_nan=True)
    again = pickle.loads(pickle.dumps(module))
    torch.testing.assert_close(again(given), module(given), rtol=0, atol=0, equal_nan=True)
    assert "3 features, 100 quantiles, target=sample" in repr(module)


def test_a_target_that_learns_goes_with_it(X):
    class Shifted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.by = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, p):
            return p + self.by

    fitted = gm.GroupMapTransformer(target_quantiles=Shifted(), n_quantiles=50)
    module = fitted.fit(torch.from_numpy(X)).to_module()
    assert [name for name, _ in module.named_parameters()] == ["function.by"]
    for times in (1, 2):
        module(torch.from_numpy(X)).sum().backward()
        assert next(module.parameters()).grad == times * X.size
    assert module.function.training
    copy.deepcopy(module)
    with torch.no_grad():
        module.function.by += 8.0
    outside = torch.full((1, 3), 1e6)
    torch.testing.assert_close(module(outside), torch.full((1, 3), 11.0))


def test_what_cannot_be_frozen(X):
    with pytest.raises(TypeError, match="evaluated by NumPy"):
        fitted_to(X, stats.norm(1, 2)).to_module()
    with pytest.raises(ValueError, match=r"eps=0\.1 adds noise"):
        gm.GroupMapTransformer(n_quantiles=50, eps=0.1).fit(X).to_module()
    assert not hasattr(gm.GroupMapTransformer(cdf="sample"), "to_module")
    with pytest.raises(ValueError, match=r"shape \(4, 2\); the map is of 3 features"):
        fitted_to(X, "uniform").to_module()(torch.ones(4, 2))


def test_as_a_first_layer(X):
    module = fitted_to(X, "gaussian").to_module()
    network = torch.nn.Sequential(module, torch.nn.Linear(3, 1))
    network(torch.from_numpy(X).float()).sum().backward()
    assert network[1].weight.grad.isfinite().all()
    assert isinstance(network[0], FrozenMap)


BATCH = {"input": {0: torch.export.Dim("batch", min=1)}}


# The formulas of the others are exported by layers, in `tests/test_export.py`.
@pytest.mark.parametrize("target", ["gaussian", "cauchy", "sample"])
def test_export_with_a_dynamic_batch(X, new, target):
    module = fitted_to(X, target, "linear").to_module()
    given = torch.from_numpy(new).float()
    program = torch.export.export(module, (given[:7],), dynamic_shapes=BATCH)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for batch in (given, given[:2], given[:1]):
        torch.testing.assert_close(loaded(batch), module(batch), equal_nan=True)


@pytest.mark.parametrize(
    ("target", "tails"),
    [("gaussian", "linear"), ("gaussian", "clip"), ("sparse", "linear"), ("sample", "linear")],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnx_runtime_gives_the_same(X, new, target, tails, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    module = fitted_to(X, target, tails).to_module()
    given = torch.from_numpy(new).float()
    path = tmp_path / "map.onnx"
    program = torch.onnx.export(
        module, (given[:7],), dynamo=True, dynamic_shapes=BATCH, verbose=False
    )
    program.save(path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    for batch in (given, given[:2], given[:1]):
        (found,) = session.run(None, {name: batch.numpy()})
        np.testing.assert_allclose(found, module(batch).numpy(), rtol=1e-6, atol=1e-6)
