"""The programs for GPUs, as NVIDIA's compiler sees them, which needs none."""

from __future__ import annotations

import io
import itertools
import re
from collections import defaultdict
from functools import partial

import pytest

import groupmap as gm
from groupmap.backends.cuda import launching, programs
from groupmap.ranks import COUNTING_TIES
from tests import cuda_emulation
from tests.gpu_launches import (
    FLOATS,
    INTEGERS,
    dtype_of,
    launches,
    needs_compiler,
)

pytest.importorskip("torch")
import torch

from groupmap.backends import torch_cuda

if not cuda_emulation.AVAILABLE:
    pytest.skip("there is no g++ to compile kernels with", allow_module_level=True)

MOST_SPILLED = 64  # bytes, such as calls of a function that is not inlined may cost


def programs_of_map(dtype, n, *, ordered):
    with launches(run=False) as launched:
        x, table = torch.zeros((2, n), dtype=dtype_of(dtype)), torch.zeros(2 * n - 1)
        torch_cuda.map_rows(x, None, table, COUNTING_TIES["average"], with_order=ordered)
    return [each.program for each in launched]


def programs_of_gradient(dtype, n, gradient="transport"):
    with launches(run=False) as launched:
        x = torch.zeros((2, n), dtype=dtype_of(dtype), requires_grad=True)
        gm.quantile_map(x, gradient=gradient).backward(torch.zeros_like(x))
    return [each.program for each in launched if each.kernel != "map_rows"]


def programs_of_layer(dtype, shape):
    with launches(run=False) as launched, torch.no_grad():
        gm.GroupMap(2, 4).to(dtype_of(dtype))(torch.zeros(shape, dtype=dtype_of(dtype)))
    return [each.program for each in launched if each.kernel != "fill_table"]


def programs_of_training(dtype, layer, shape):
    with launches(run=False) as launched:
        x = torch.zeros(shape, dtype=dtype_of(dtype), requires_grad=True)
        layer.to(dtype_of(dtype))(x).sum().backward()
    return [each.program for each in launched if each.program.files[-1] == "learned_scale.cu"]


PROGRAMS = {
    **{
        f"map of {dtype}": partial(
            programs_of_map, dtype, (200, 17_000)[number % 2], ordered=number % 4 < 2
        )
        for number, dtype in enumerate((*FLOATS, *INTEGERS))
    },
    **{f"gradient of {dtype}": partial(programs_of_gradient, dtype, 300) for dtype in FLOATS},
    "affine gradient": partial(programs_of_gradient, "float32", 300, "affine"),
    "affine gradient of a block": partial(programs_of_gradient, "bfloat16", 3000, "affine"),
    "keys of 16 bits": partial(programs_of_map, "bfloat16", 10_000, ordered=False),
    "long rows": partial(programs_of_map, "float64", 70_000, ordered=False),
    "layer": partial(programs_of_layer, "float16", (3, 4, 9)),
    "training": partial(programs_of_training, "float64", gm.LayerMap(40), (9, 40)),
    "training of channels": partial(programs_of_training, "float16", gm.GroupMap(2, 4), (3, 4, 9)),
    "layer of 16 bits": partial(programs_of_layer, "bfloat16", (3, 4, 5000)),
    "layer of long rows": partial(programs_of_layer, "float32", (3, 4, 70_000)),
}


@needs_compiler
@pytest.mark.parametrize(
    ("recorded", "architecture"),
    # In turns: no source asks for which architecture it is compiled.
    [*zip(PROGRAMS.values(), itertools.cycle(["sm_80", "sm_90"]), strict=False)],
    ids=PROGRAMS,
)
def test_programs_compile(recorded, architecture):
    kernels = defaultdict(set)
    for program in recorded():
        kernels[program._replace(kernel="")].add(program.kernel)
    for program, names in kernels.items():
        binary = bytes(launching.compiled(program, architecture).code)
        assert binary.startswith(b"\x7fELF")
        assert all(name.encode() in binary for name in names)


GENERIC_LAMBDA = re.compile(r"\]\s*\([^)]*\bauto\b")


@pytest.mark.parametrize("file", sorted(programs.SOURCE.iterdir()), ids=lambda file: file.name)
def test_no_lambda_is_generic(file):
    """NVRTC 13.0 takes those for functions of the host, which newer ones do not."""
    assert not GENERIC_LAMBDA.search(file.read_text(encoding="utf-8"))


@needs_compiler
def test_registers_suffice():
    from cuda.core import Program, ProgramOptions

    recorded = [
        *programs_of_gradient("float32", 3000),
        *programs_of_map("float32", 200, ordered=True),
        *programs_of_map("float32", 1024, ordered=True),
        *programs_of_map("float64", 17_000, ordered=True),
        *programs_of_map("float64", 70_000, ordered=False),
    ]
    for program in {program._replace(kernel="") for program in recorded}:
        log = io.StringIO()
        options = ProgramOptions(arch="sm_90", fma=False, ptxas_options="-v")
        Program(program.text(), "c++", options).compile("cubin", logs=log)
        spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", log.getvalue())
        assert spilled
        assert max(map(int, spilled)) <= MOST_SPILLED, log.getvalue()
