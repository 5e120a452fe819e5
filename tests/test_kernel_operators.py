"""The compiled kernels as operators of torch's, which tracing meets."""

from __future__ import annotations

import numpy as np
import pytest

import groupmap as gm
from tests.backends import kernels_for_all_sizes

pytest.importorskip("numba")


@pytest.mark.parametrize("are_columns", [False, True])
def test_operators_keep_torchs_rules(rng, are_columns):
    torch = pytest.importorskip("torch")
    from groupmap.backends import torch_estimates, torch_kernels

    shape = (20, 3) if are_columns else (3, 20)
    x, y, grad = (torch.as_tensor(rng.normal(size=shape)) for _ in "xyg")
    if are_columns:
        x, y, grad = x.T, y.T, grad.T
    excluded = torch.as_tensor(rng.random((3, 20)) < 0.2)
    quantiles = torch.as_tensor(np.sort(rng.normal(size=20)))
    torch.library.opcheck(torch_kernels.count_less_operator, (x,))
    for absent in (None, excluded):
        torch.library.opcheck(torch_estimates.affine_operator, (x, y, grad, absent))
        rest = (None, absent, quantiles, 4, 1.0)
        torch.library.opcheck(torch_estimates.transport_operator, (x, grad, *rest))


def test_compiled_with_the_operator_inside_and_exported_without(rng):
    """Compiled code runs where groupmap is; a saved program need not."""
    torch = pytest.importorskip("torch")
    layer = gm.GroupMap(2, 4).eval()
    x = torch.as_tensor(rng.normal(size=(3, 4, 5)), dtype=torch.float32)
    graphs = []

    def backend(graph, inputs):
        del inputs
        graphs.append(str(graph.graph))
        return graph.forward

    batch = torch.export.Dim("batch", min=2, max=64)
    with kernels_for_all_sizes():
        torch._dynamo.reset()
        torch.compile(layer, fullgraph=True, backend=backend)(x)
        assert "groupmap.count_less" in graphs[0]
        program = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},))
        assert "groupmap" not in str(program.graph)
        for size in (3, 7):
            again = torch.as_tensor(rng.normal(size=(size, 4, 5)), dtype=torch.float32)
            torch.testing.assert_close(program.module()(again), layer(again))
