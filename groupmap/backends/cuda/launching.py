"""Programs compiled for a device, and launched on the stream that the caller uses there."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from groupmap.backends.cuda.programs import Program

# What a block may have without asking for more, on every device.
SHARED_MEMORY_UNASKED = 48 * 1024
LEAST_CAPABILITY = (8, 0)


class Place(NamedTuple):
    """A device by its number, and a stream there by its handle."""

    device: int
    stream: int


class Shape(NamedTuple):
    """How many blocks, of how many threads, with how much shared memory."""

    blocks: int
    threads: int
    shared_bytes: int


def rounded_up(size: int, multiple: int) -> int:
    """The least multiple that is not below."""
    return -(-size // multiple) * multiple


def launch(program: Program, shape: Shape, place: Place, arguments: Sequence[int | float]) -> None:
    """Start the program; it is done when the stream comes to what is put there next.

    Integers and addresses are handed over in 64 bits, floats as doubles.
    """
    import cuda.core as cc

    _bind(place.device)
    kernel = _kernel_for(program, place.device)
    cc.launch(_stream(place.stream), _config(shape), kernel, *arguments)


_bound = threading.local()


def _bind(device: int) -> None:
    """Give the thread the device's context, which a new one has not yet; once."""
    devices: set[int] = _bound.__dict__.setdefault("devices", set())
    if device not in devices:
        from cuda.core import Device

        Device(device).set_current()
        devices.add(device)


@cache
def serves(device: int) -> bool:
    """Whether kernels can be compiled for that device and launched there; else says why not."""
    problem = _problem_with(device)
    if problem is not None:
        warnings.warn(
            f"groupmap's CUDA kernels cannot be used on device {device}, so the array library "
            f"sorts and searches instead, which is slower: {problem}",
            stacklevel=2,
        )
    return problem is None


def _problem_with(device: int) -> str | None:
    try:
        from cuda.bindings import nvrtc
        from cuda.core import Device

        getattr(import_module("cuda.core.utils"), "FileStreamProgramCache")  # noqa: B009
        nvrtc.nvrtcVersion()
        capability = tuple(Device(device).compute_capability)
    except (ImportError, AttributeError, RuntimeError) as error:
        return f"{error}; install groupmap[cuda], or groupmap[cuda12] for CUDA 12."
    if capability < LEAST_CAPABILITY:
        return f"its compute capability is {capability}, and they need {LEAST_CAPABILITY}."
    return None


@cache
def limits_of(device: int) -> tuple[int, int]:
    """How much shared memory a block may ask for, and how many multiprocessors there are."""
    from cuda.core import Device

    properties = Device(device).properties
    return properties.max_shared_memory_per_block_optin, properties.multiprocessor_count


def compiled(program: Program, architecture: str) -> Any:
    """The object code of the program's files for "sm_80" and the like.

    It is kept on disk and compiled once. Neither a GPU nor a driver is needed.
    """
    from cuda.core import Program as Source
    from cuda.core import ProgramOptions
    from cuda.core.utils import FileStreamProgramCache

    # Contracted sums would round Q differently in the table and beside it.
    options = ProgramOptions(arch=architecture, fma=False, name=f"groupmap_{program.files[-1]}")
    source = Source(program.text(), "c++", options)
    try:
        with FileStreamProgramCache() as kept:
            return source.compile("cubin", cache=kept)
    except (OSError, RuntimeError):  # there is no place for it, or none left
        return source.compile("cubin")


def _kernel(program: Program, architecture: str) -> Any:
    # Kernels of the same files are compiled together.
    return _compiled(program._replace(kernel=""), architecture).get_kernel(program.kernel)


_compiled = cache(compiled)


@cache
def _kernel_for(program: Program, device: int) -> Any:
    """The kernel, allowed all the shared memory that a block may have on that device.

    Once for all launches: what is allowed belongs to the kernel, and rows of many lengths share it.
    """
    from cuda.bindings import driver
    from cuda.core import Device

    kernel = _kernel(program, f"sm_{Device(device).arch}")
    attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    room, _ = limits_of(device)
    (status,) = driver.cuKernelSetAttribute(attribute, room, kernel.handle, device)
    if status != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(
            f"device {device} refused {room} bytes of shared memory ({status.name}); please "
            "report it, with the device's name."
        )
    return kernel


@lru_cache(maxsize=1024)
def _config(shape: Shape) -> Any:
    import cuda.core as cc

    return cc.LaunchConfig(grid=shape.blocks, block=shape.threads, shmem_size=shape.shared_bytes)


@cache
def _stream(handle: int) -> Any:
    import cuda.core as cc

    return cc.Stream.from_handle(handle) if handle else cc.LEGACY_DEFAULT_STREAM
