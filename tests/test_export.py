"""Layers compiled, exported and in ONNX Runtime, for any size of the batch."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest

import groupmap as gm
from groupmap.ranks import COUNTING_TIES
from tests.backends import kernels_for_all_sizes, no_kernels

torch = pytest.importorskip("torch")
from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402 (after the check)

TARGETS = ("gaussian", "uniform", "cauchy", "sparse", "laplace", "logistic")
LAYERS = {
    "GroupMap": (lambda **k: gm.GroupMap(2, 4, **k), (4, 3, 5)),
    "LayerMap": (lambda **k: gm.LayerMap((3, 5), **k), (4, 3, 5)),
    "InstanceMap": (lambda **k: gm.InstanceMap(4, affine=True, **k), (4, 3, 5)),
    "InstanceMap1d": (lambda **k: gm.InstanceMap1d(4, **k), (4, 15)),
    "InstanceMap3d": (lambda **k: gm.InstanceMap3d(4, **k), (4, 3, 5, 2)),
    "InstanceMap-tracking": (
        lambda **k: gm.InstanceMap2d(4, track_running_stats=True, **k), (4, 3, 5)
    ),
    "BatchMap1d": (lambda **k: gm.BatchMap1d(4, **k), (4,)),
    "BatchMap2d": (lambda **k: gm.BatchMap2d(4, tails="linear", **k), (4, 3, 5)),
    "SyncBatchMap": (lambda **k: gm.SyncBatchMap(4, **k), (4, 3, 5)),
    "Map": (lambda **k: gm.Map(2, 4, **k), (4, 3, 5)),
}  # fmt: skip
BATCH = {"input": {0: torch.export.Dim("batch", min=1)}}
SIZES = (3, 7, 1, 12, 5)


def example(shape, size, seed=1):
    """A batch with ties, a missing value, and, of two signs, zeros."""
    x = torch.randn(size, *shape, generator=torch.Generator().manual_seed(seed))
    x.view(-1)[: x.numel() // 4] = 0.5
    x.view(-1)[1], x.view(-1)[2], x.view(-1)[-1] = 0.0, -0.0, torch.nan
    return x


def trained(name, **options):
    make, shape = LAYERS[name]
    layer = make(**options)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    for seed in range(3):
        layer(torch.relu(example(shape, 9, seed=seed).nan_to_num()))
    return layer, shape


# --- torch.compile ------------------------------------------------------------------------------


# Which differ from others in the shape of their input only, or have no parameters.
ALIKE = ("InstanceMap1d", "InstanceMap3d", "Map")


@pytest.mark.parametrize(
    ("name", "kernels", "training"),
    [*((name, kernels_for_all_sizes, False) for name in LAYERS),
     *((name, kernels_for_all_sizes, True) for name in LAYERS if name not in ALIKE),
     ("LayerMap", no_kernels, True), ("BatchMap2d", no_kernels, False)],
)  # fmt: skip
def test_two_graphs_serve_five_sizes(name, kernels, training):
    with kernels():
        two_graphs_serve_five_sizes(name, training)


def two_graphs_serve_five_sizes(name, training):
    torch._dynamo.reset()
    layer, shape = trained(name)
    layer.train(training)
    twin = copy.deepcopy(layer)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    for size in SIZES[:2] + SIZES[3:] + (9,):
        x = example(shape, size).requires_grad_(training)
        expected_x = x.detach().clone().requires_grad_(training)
        y, expected = compiled(x), twin(expected_x)
        torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6, equal_nan=True)
        if training:
            y.nansum().backward()
            expected.nansum().backward()
            torch.testing.assert_close(x.grad, expected_x.grad, rtol=1e-4, atol=1e-5)
    assert counter.frame_count <= 2
    for one, other in zip(layer.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_a_network_compiles_in_one_piece():
    torch._dynamo.reset()
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), gm.GroupMap(2, 4), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3),
        gm.BatchMap2d(4, momentum=None), torch.nn.Flatten(), gm.LayerMap(64),
    )  # fmt: skip
    twin = copy.deepcopy(network)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(network, fullgraph=True, backend=counter)
    for size in (4, 6, 8, 3, 5):
        x = torch.randn(size, 1, 8, 8)
        y, expected = compiled(x), twin(x)
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
        y.square().mean().backward()
        expected.square().mean().backward()
    assert counter.frame_count <= 2
    for one, other in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


# --- torch.export -------------------------------------------------------------------------------


def reloaded(program):
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file).module()


@pytest.mark.parametrize("name", LAYERS)
def test_export_with_a_dynamic_batch(name):
    layer, shape = trained(name)
    layer.eval()
    program = torch.export.export(layer, (example(shape, 3),), dynamic_shapes=BATCH)
    operators = {str(node.target) for node in program.graph.nodes}
    assert not [each for each in operators if "groupmap" in each]  # nothing of ours to load it
    loaded = reloaded(program)
    for size in SIZES:
        x = example(shape, size)
        torch.testing.assert_close(loaded(x), layer(x), equal_nan=True)


@pytest.mark.parametrize(
    ("ties", "dtype"),
    [("average", torch.float32), ("min", torch.float64), ("max", torch.bfloat16),
     ("ordinal", torch.int64), ("average", torch.int64), ("ordinal", torch.bfloat16)],
)  # fmt: skip
def test_exported_ties_and_dtypes(ties, dtype):
    layer = gm.Map(2, 4, ties=ties)
    x = example((4, 3, 5), 3)
    x = (10 * x).nan_to_num().to(dtype) if dtype == torch.int64 else x.to(dtype)
    program = torch.export.export(layer, (x,), dynamic_shapes=BATCH)
    for size in SIZES:
        x = example((4, 3, 5), size, seed=size)
        x = (10 * x).nan_to_num().to(dtype) if dtype == torch.int64 else x.to(dtype)
        torch.testing.assert_close(program.module()(x), layer(x), equal_nan=True)


@pytest.mark.parametrize("name", ["BatchMap2d", "InstanceMap-tracking"])
def test_export_in_training_mode(name):
    layer, shape = trained(name)
    twin = copy.deepcopy(layer)
    program = torch.export.export(layer, (example(shape, 3),), dynamic_shapes=BATCH)
    loaded = reloaded(program)
    x = example(shape, 7)
    torch.testing.assert_close(loaded(x), twin(x), equal_nan=True)
    torch.testing.assert_close(loaded.running_quantiles, twin.running_quantiles)


def test_export_with_a_mask():
    layer, shape = trained("GroupMap")
    x, mask = example(shape, 3), torch.rand(3, 1, 3, 5) < 0.6
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(
        layer, (x, mask), dynamic_shapes={"input": {0: batch}, "where": {0: batch}}
    )
    x, mask = example(shape, 8), torch.rand(8, 1, 3, 5) < 0.6
    torch.testing.assert_close(program.module()(x, mask), layer(x, mask), equal_nan=True)


def test_export_of_a_network_behind_layers_that_learn():
    """What is captured is the forward pass, though a gradient is wanted for the layer's input."""
    network = torch.nn.Sequential(torch.nn.Linear(6, 8), gm.LayerMap(8), torch.nn.Linear(8, 2))
    program = torch.export.export(
        network, (torch.randn(3, 6),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
    )
    x = torch.randn(5, 6)
    torch.testing.assert_close(reloaded(program)(x), network(x))


# --- ONNX ---------------------------------------------------------------------------------------


def in_onnx_runtime(layer, x, path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    program = torch.onnx.export(layer, (x,), dynamo=True, dynamic_shapes=BATCH, verbose=False)
    program.save(path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    return lambda x: session.run(None, {name: x.numpy()})[0]


def assert_same_in_onnx(layer, shape, path):
    run = in_onnx_runtime(layer.eval(), example(shape, 3), path)
    for size in SIZES:
        x = example(shape, size, seed=size)
        np.testing.assert_allclose(run(x), layer(x).detach().numpy(), rtol=1e-6, atol=1e-6)


# Every layer, and with some of them every target and every rule for ties: ranks and fitted cdfs are
# the only two ways to a target.
IN_ONNX = [
    ("GroupMap", {}),
    ("GroupMap", {"target_quantiles": "uniform", "ties": "min"}),
    ("GroupMap", {"target_quantiles": "cauchy", "ties": "ordinal"}),
    ("LayerMap", {"target_quantiles": "laplace", "ties": "max"}),
    ("InstanceMap", {}),
    ("InstanceMap-tracking", {"target_quantiles": "sparse"}),
    ("BatchMap1d", {}),
    ("BatchMap2d", {"target_quantiles": "laplace"}),
    ("BatchMap2d", {"target_quantiles": "cauchy"}),
    ("BatchMap2d", {"target_quantiles": "logistic"}),
    ("SyncBatchMap", {"target_quantiles": "uniform"}),
]


def test_every_layer_and_option_is_tried_in_onnx():
    assert {name for name, _ in IN_ONNX} == {*LAYERS} - {*ALIKE}
    targets = {options.get("target_quantiles", "gaussian") for _, options in IN_ONNX}
    assert targets == {*TARGETS}
    ties = {options.get("ties", "average") for _, options in IN_ONNX}
    assert ties == {*COUNTING_TIES, "ordinal"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("name", "options"), IN_ONNX, ids=["-".join([name, *each.values()]) for name, each in IN_ONNX]
)
def test_every_layer_in_onnx(name, options, tmp_path):
    layer, shape = trained(name, **options)
    assert_same_in_onnx(layer, shape, tmp_path / "layer.onnx")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_targets_a_group_and_samples_in_onnx(tmp_path):
    targets = ["uniform", torch.tensor([3.0, 1.0, 2.0, 9.0])]
    layer, shape = trained("GroupMap", target_quantiles=targets)
    assert_same_in_onnx(layer, shape, tmp_path / "layer.onnx")
