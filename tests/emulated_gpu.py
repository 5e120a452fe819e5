"""Kernels for GPUs on tensors in main memory, by an emulation of the same source and host code."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import re
from functools import cache

import pytest

from groupmap import steps, tables
from groupmap.backends import cuda
from groupmap.backends.cuda import launching
from tests import cuda_emulation

KERNEL = re.compile(r"__global__ void (?:__launch_bounds__\(.*?\) )?(\w+)\(")

# What a program says of registers, of which the emulation knows nothing: others are the same.
LAUNCH_BOUNDS = ("MOST_THREADS", "LEAST_BLOCKS")

# Of an H200: shared memory that a block may have, and multiprocessors.
LIMITS = (227 * 1024, 132)


@contextlib.contextmanager
def emulated_launches(seed=0, *, switch_at_atomics=False, limits=LIMITS):
    """Kernels are run by the emulation; the seed says in which order threads run."""
    if not cuda_emulation.AVAILABLE:
        pytest.skip("there is no g++ to compile kernels with")

    def launch(program, shape, place, arguments):
        del place
        as_ctypes = [
            ctypes.c_double(each) if isinstance(each, float) else ctypes.c_longlong(each)
            for each in arguments
        ]
        _module(program).launch(
            program.kernel, shape.blocks, shape.threads, shape.shared_bytes, as_ctypes,
            seed=seed, switch_at_atomics=switch_at_atomics,
        )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "INSTALLED", True)
        patch.setattr(launching, "serves", lambda device: True)
        patch.setattr(launching, "launch", launch)
        patch.setattr(launching, "limits_of", lambda device: limits)
        yield


@contextlib.contextmanager
def emulated_gpu(seed=0, **options):
    """As if tensors on the CPU were on a GPU, too."""
    import torch

    from groupmap.backends import torch_cuda

    def reaches(device):
        return torch.device(device).type == "cpu"

    memory = dataclasses.replace(
        torch_cuda.MEMORY,
        reaches=reaches,
        place=lambda device: launching.Place(0, 0),
        current=lambda device: contextlib.nullcontext(),
    )
    with emulated_launches(seed, **options), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_cuda, "reaches", reaches)
        patch.setattr(torch_cuda, "lies_there", lambda x: x.device.type == "cpu")
        patch.setattr(torch_cuda, "MEMORY", memory)
        _forget_tables()
        try:
            yield
        finally:
            _forget_tables()


def _forget_tables():
    """Tables are remembered by device, and on this one others make them, too; and so are steps."""
    for each in (tables._remembered_table, tables._remembered_long_table, steps.step_for):
        each.cache_clear()


def _module(program):
    names = tuple((name, 1 if name in LAUNCH_BOUNDS else value) for name, value in program.names)
    return _compiled(program._replace(kernel="", names=names))


@cache
def _compiled(program):
    text = program.text()
    return cuda_emulation.compile(text, KERNEL.findall(text))
