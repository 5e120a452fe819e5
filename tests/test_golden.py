"""The numbers of groupmap 0.1, from the layers and from the functions of three libraries."""

from __future__ import annotations

import numpy as np
import pytest

import groupmap as gm
from tests.backends import BACKENDS
from tests.conftest import golden_cases

CASES = golden_cases()
TARGETS = ("uniform", "gaussian", "cauchy", "sparse")
FUNCTIONAL = [each for each in BACKENDS if each.name in {"numpy", "strict", "jax"}]


def assert_close(found, expected):
    assert np.all(np.abs(found - expected) <= 1e-9 * (1 + np.abs(expected)))


def arguments_of(call):
    """("GroupMap", (2, 8), {"target_quantiles": …}) from the text of a call."""
    names = {name: getattr(gm, name) for name in TARGETS}
    capture = {"__builtins__": {"True": True, "False": False}, **names}
    for layer in ("GroupMap", "LayerMap", "InstanceMap"):
        capture[layer] = lambda *args, _layer=layer, **kwargs: (_layer, args, kwargs)
    return eval(call, capture)


def test_there_are_all_cases(golden):
    assert len(CASES) == 96
    assert {case["name"] for case in CASES} | {f"quantile-{name}" for name in TARGETS} == {
        key.rpartition(".")[0] for key in golden
    }


@pytest.mark.parametrize("name", TARGETS)
def test_targets(name, golden):
    q, expected = golden[f"quantile-{name}.q"], golden[f"quantile-{name}.y"]
    assert_close(getattr(gm, name)(q), expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_layers(case, golden):
    torch = pytest.importorskip("torch")
    layer_name, args, kwargs = arguments_of(case["call"])
    layer = getattr(gm, layer_name)(*args, **kwargs, dtype=torch.float64)
    name = case["name"]
    parameters = {p: torch.from_numpy(golden[f"{name}.{p}"]) for p in case["params"]}
    layer.load_state_dict(parameters)
    with torch.no_grad():
        y = layer(torch.from_numpy(golden[f"{name}.x"])).numpy()
    assert_close(y, golden[f"{name}.y"])


@pytest.mark.parametrize("backend", FUNCTIONAL, ids=repr)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_functions(case, backend, golden):
    backend.skip_if_absent()
    layer_name, args, kwargs = arguments_of(case["call"])
    name = case["name"]
    x = backend.asarray(golden[f"{name}.x"])
    parameters = [backend.asarray(golden[f"{name}.{p}"]) for p in sorted(case["params"])[::-1]]
    target = kwargs["target_quantiles"]
    if layer_name == "GroupMap":
        y = gm.group_map(x, args[0], *parameters, target_quantiles=target)
    elif layer_name == "LayerMap":
        y = gm.layer_map(x, args[0], *parameters, target_quantiles=target)
    else:
        y = gm.instance_map(x, *parameters, target_quantiles=target)
    assert_close(backend.to_numpy(y), golden[f"{name}.y"])
