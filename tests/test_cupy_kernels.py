"""How CuPy arrays meet the CUDA kernels, shown on NumPy arrays that name their memory as CuPy's do.

What CuPy itself computes is left to the rows of the table of backends, which need a GPU.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from importlib.util import find_spec

import numpy as np
import pytest
from scipy import special

import groupmap.backends
from groupmap.backends._ops import Formula, MapWanted, Scale, TieRule
from tests import cuda_emulation
from tests.emulated_gpu import emulated_launches
from tests.oracle import doubled_ranks, map_row

pytestmark = pytest.mark.skipif(not cuda_emulation.AVAILABLE, reason="there is no g++")

EVERY_RANK = TieRule(1, 1)


class Device(contextlib.nullcontext):
    """The only one."""

    def __init__(self, device_id=0):
        super().__init__()
        self.id = device_id

    def __eq__(self, other):
        return self.id == other.id

    __hash__ = None  # as of CuPy 14


class Stood(np.ndarray):
    """An array that is asked for its memory and device as CuPy's are."""

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.ctypes.data)

    @property
    def device(self):
        return Device()


def stood(x):
    return np.array(x).view(Stood)


def stand_in():
    """The part of CuPy that the backend's kernels ask for."""
    cupy = types.ModuleType("cupy")
    cupy.empty = lambda shape, dtype: np.empty(shape, dtype).view(Stood)
    cupy.zeros = lambda shape, dtype: np.zeros(shape, dtype).view(Stood)
    cupy.ascontiguousarray = lambda x: np.ascontiguousarray(x).view(Stood)
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        get_current_stream=lambda device_id: types.SimpleNamespace(ptr=7 + device_id),
    )
    scipy = types.ModuleType("cupyx.scipy")
    scipy.special = special
    return {"cupy": cupy, "cupyx": types.ModuleType("cupyx"), "cupyx.scipy": scipy}


@pytest.fixture
def backend(monkeypatch):
    if find_spec("cupy") is not None:
        pytest.skip("the rows of the table of backends run with CuPy itself")
    for name, module in stand_in().items():
        monkeypatch.setitem(sys.modules, name, module)
    assert "groupmap.backends.cupy" not in sys.modules, "the real one is in use"
    imported = importlib.import_module("groupmap.backends.cupy")
    with emulated_launches():
        yield imported
    # Not by monkeypatch, which would put back what was made here.
    sys.modules.pop("groupmap.backends.cupy")
    del groupmap.backends.cupy


def rows_with_gaps(rng, n=300):
    x = rng.normal(size=(5, n)).astype(np.float32).round(1)
    x[1, 3], x[2], x[3, 7], x[4, :4] = np.nan, np.nan, np.inf, -np.inf
    return x


def table_of(backend, formula, n, dtype=np.float32):
    return backend.OPS.table_of_formula(formula, n, (1.0, 1.0), dtype, Device())


def test_map_with_missing_entries(backend, rng):
    x, where = rows_with_gaps(rng), rng.random((5, 300)) > 0.2
    formula = Formula("gaussian", 1e-5)
    for mask in (None, where):
        y, order = backend.OPS.map_rows(
            stood(x), None if mask is None else stood(mask),
            lambda: table_of(backend, formula, 300),
            MapWanted(EVERY_RANK, formula, (1.0, 1.0), False, None, False),
        )  # fmt: skip
        assert order is None
        expected = [
            map_row(row, "gaussian", where=None if mask is None else mask[r])
            for r, row in enumerate(x)
        ]
        np.testing.assert_allclose(y, expected, rtol=3e-7)


def test_scaled(backend, rng):
    x = rng.normal(size=(6, 40)).astype(np.float32)
    weight, bias = rng.normal(size=(2, 6)).astype(np.float32)
    formula = Formula("uniform", 0.0)
    scale = Scale(stood(weight), stood(bias), (1, 6, 40, 1), np.float16)
    y, _ = backend.OPS.map_rows(
        stood(x), None, lambda: table_of(backend, formula, 40),
        MapWanted(EVERY_RANK, formula, (1.0, 1.0), False, scale, False),
    )  # fmt: skip
    p = (x.argsort(axis=-1).argsort(axis=-1) / 39).astype(np.float32)
    np.testing.assert_array_equal(y, (p * weight[:, None] + bias[:, None]).astype(np.float16))


@pytest.mark.parametrize("n", [5, 700])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_ranks(backend, rng, n, dtype):
    x = np.concatenate([rng.integers(-9, 9, (1, n)), rng.integers(-99, 99, (1, n))]).astype(dtype)
    less, less_equal = backend.OPS.count_less(stood(x), None)
    expected = [doubled_ranks(row)[0] for row in x]
    np.testing.assert_array_equal(less + less_equal - 1, expected)
    table = stood(np.arange(2.0 * n - 1))
    h, _ = backend.OPS.rank_and_gather(stood(x), table, EVERY_RANK, False, None)
    np.testing.assert_array_equal(h, expected)


def test_knots(backend, rng):
    knots, values = np.sort(rng.normal(size=(2, 1, 50)), axis=-1)
    x = rng.normal(size=(1, 200))
    y = backend.OPS.interpolator(stood(knots), stood(values), "middle")(stood(x))
    np.testing.assert_allclose(y[0], np.interp(x[0], knots[0], values[0]), rtol=1e-12)
    at = backend.OPS.order_statistics(stood(knots[0]), stood(np.asarray([0.0, 0.5, 99.0])))
    np.testing.assert_allclose(at, [knots[0, 0], knots[0, :2].mean(), knots[0, -1]])


def test_memory_on_the_stream_in_use(backend):
    place = backend.MEMORY.place(Device(2))
    assert (place.device, place.stream) == (2, 9)


def test_devices_are_keys_of_tables(backend):
    one, other = (backend.OPS.device(stood([1.0])) for _ in range(2))
    assert {one: 1}[other] == 1
