"""Programs on their way to a device, with stand-ins for the driver."""

from __future__ import annotations

import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from groupmap.backends.cuda import launching, plans
from groupmap.backends.cuda.launching import Place, Shape
from groupmap.backends.cuda.programs import Program, numbers_of

core = pytest.importorskip("cuda.core")
bindings = pytest.importorskip("cuda.bindings.driver")

ROOM = 200_000
PROGRAM = Program(
    "fill_table",
    ("table.cu",),
    (
        *numbers_of("float32").as_values(),
        *numbers_of("float32").as_results(),
        ("THREADS", 256),
    ),
)


class Device:
    """One of compute capability 9.0 by default."""

    made_current: list[int] = []  # noqa: RUF012
    compute_capability = (9, 0)
    arch = "90"
    properties = types.SimpleNamespace(
        max_shared_memory_per_block_optin=ROOM, multiprocessor_count=3
    )

    def __init__(self, number):
        self.number = number

    def set_current(self):
        self.made_current.append(self.number)


@pytest.fixture
def driver(monkeypatch):
    """What was launched, and what each kernel was allowed, by its handle."""
    seen = types.SimpleNamespace(launched=[], allowed=[])
    monkeypatch.setattr(Device, "made_current", [])

    def allow(attribute, value, handle, device):
        seen.allowed.append((attribute.name, value, handle, device))
        return (bindings.CUresult.CUDA_SUCCESS,)

    monkeypatch.setattr(core, "Device", Device)
    monkeypatch.setattr(core, "launch", lambda *arguments: seen.launched.append(arguments))
    monkeypatch.setattr(bindings, "cuKernelSetAttribute", allow)
    kernel = types.SimpleNamespace(handle="a handle")
    code = types.SimpleNamespace(get_kernel=lambda name: kernel)
    monkeypatch.setattr(launching, "_compiled", lambda program, architecture: code)
    caches = (launching.serves, launching.limits_of, launching._kernel_for, launching._stream)
    for each in caches:
        each.cache_clear()
    launching._bound.__dict__.clear()
    yield seen
    for each in caches:
        each.cache_clear()
    launching._bound.__dict__.clear()


def test_a_kernel_is_allowed_all_of_the_shared_memory_once(driver):
    """Else a launch that needs less would take from one that needs more."""
    for shared_bytes in (100_000, 50_000, 100_000, 0):
        launching.launch(PROGRAM, Shape(2, 256, shared_bytes), Place(0, 0), (1, 2.0))
    (allowed,) = driver.allowed
    assert allowed[1:] == (ROOM, "a handle", 0)
    assert [config.shmem_size for _, config, *_ in driver.launched] == [100_000, 50_000, 100_000, 0]
    assert driver.launched[0][3:] == (1, 2.0)


@pytest.mark.usefixtures("driver")
def test_each_thread_gets_the_context_once():
    def twice():
        for _ in range(2):
            launching.launch(PROGRAM, Shape(1, 32, 0), Place(0, 0), ())

    twice()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(twice).result()
    assert Device.made_current == [0, 0]


def test_streams_by_their_handles(driver):
    launching.launch(PROGRAM, Shape(1, 32, 0), Place(0, 0), ())
    assert driver.launched[0][0] is core.LEGACY_DEFAULT_STREAM


@pytest.mark.usefixtures("driver")
def test_refused_shared_memory_says_what_to_do(monkeypatch):
    refusal = (bindings.CUresult.CUDA_ERROR_INVALID_VALUE,)
    monkeypatch.setattr(bindings, "cuKernelSetAttribute", lambda *_: refusal)
    with pytest.raises(RuntimeError, match=r"refused 200000 bytes .* please report it"):
        launching.launch(PROGRAM, Shape(1, 32, 0), Place(0, 0), ())


@pytest.mark.usefixtures("driver")
def test_devices_that_are_too_old(monkeypatch):
    monkeypatch.setattr(Device, "compute_capability", (7, 5))
    with pytest.warns(UserWarning, match=r"slower: its compute capability is \(7, 5\)"):
        assert not launching.serves(0)
    assert not launching.serves(0)  # said once


@pytest.mark.usefixtures("driver")
def test_devices_that_are_served():
    assert launching.serves(0)
    assert launching.limits_of(0) == (ROOM, 3)


@pytest.mark.usefixtures("driver")
def test_a_missing_compiler_is_said(monkeypatch):
    from cuda.bindings import nvrtc

    def version():
        raise RuntimeError("no libnvrtc here")

    monkeypatch.setattr(nvrtc, "nvrtcVersion", version)
    with pytest.warns(UserWarning, match="no libnvrtc here; install groupmap"):
        assert not launching.serves(0)


@pytest.mark.usefixtures("driver")
def test_where_nothing_can_be_kept_it_is_compiled_all_the_same(monkeypatch):
    import cuda.core.utils

    def refuse():
        raise PermissionError("read-only")

    monkeypatch.setattr(cuda.core.utils, "FileStreamProgramCache", refuse)
    assert len(bytes(launching.compiled(PROGRAM, "sm_90").code)) > 1000


@pytest.mark.parametrize(
    ("room", "longest", "longest_in_order"), [(227, 37_100, 28_000), (163, 26_400, 19_900)]
)
def test_room_of_rows(room, longest, longest_in_order, monkeypatch):
    """All rows have a plan to the lengths that the documentation names, of an H100 and an A100."""
    monkeypatch.setattr(launching, "limits_of", lambda _: (room * 1024, 132))
    single = numbers_of("float32")
    for ordered, last in ((False, longest), (True, longest_in_order)):
        planned = [plans.plan_at(n, single, 0, ordered=ordered) for n in range(1, last + 200)]
        fitting = [each is not None for each in planned]
        assert all(fitting[:last])
        assert not fitting[-1]
        assert all(each.shared_bytes <= room * 1024 for each in planned[:last])


@pytest.fixture
def torch_cuda(monkeypatch):
    """Where PyTorch's tensors lie, as if there were GPUs, of which 1 is the current one."""
    torch = pytest.importorskip("torch")
    from groupmap.backends import torch_cuda

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    return torch_cuda


def test_each_launch_goes_to_the_stream_that_is_current_then(driver, torch_cuda, monkeypatch):
    """A remembered one would leave a graph that is captured on another one empty."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(core, "Stream", types.SimpleNamespace(from_handle=lambda handle: handle))
    streams = {0: 5, 1: 6}
    monkeypatch.setattr(torch_cuda, "_raw_stream", streams.__getitem__)
    devices = [torch.device("cuda", 0), torch.device("cuda", 1), torch.device("cuda")]
    for device in devices:
        launching.launch(PROGRAM, Shape(1, 32, 0), torch_cuda.MEMORY.place(device), ())
    streams[1] = 7
    launching.launch(PROGRAM, Shape(1, 32, 0), torch_cuda.MEMORY.place(devices[1]), ())
    assert [stream for stream, *_ in driver.launched] == [5, 6, 6, 7]


def test_streams_without_the_quicker_question(torch_cuda, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch_cuda, "_raw_stream", None)
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda index: types.SimpleNamespace(cuda_stream=10 + index)
    )
    assert torch_cuda.MEMORY.place(torch.device("cuda", 3)) == Place(3, 13)


def test_only_another_device_is_made_current(torch_cuda, monkeypatch):
    torch = pytest.importorskip("torch")
    entered = []

    class Current:
        def __init__(self, index):
            self.index = index

        def __enter__(self):
            entered.append(self.index)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(torch.cuda, "device", Current)
    for device in ("cuda:0", "cuda:1", "cuda", "cuda:2"):
        with torch_cuda.MEMORY.current(torch.device(device)):
            pass
    assert entered == [0, 2]


def test_shapes_that_differ_are_launched_as_they_are(driver):
    shapes = [Shape(1, 32, 0), Shape(2, 32, 0), Shape(1, 64, 0), Shape(1, 32, 16)]
    for shape in shapes * 2:
        launching.launch(PROGRAM, shape, Place(0, 0), ())
    configs = [config for _, config, *_ in driver.launched]
    asked = [(each.grid[0], each.block[0], each.shmem_size) for each in configs]
    assert asked == [tuple(each) for each in shapes * 2]
