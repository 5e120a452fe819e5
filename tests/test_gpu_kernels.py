"""The kernels for GPUs: compiled for those, and run by an emulation that needs none."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections import defaultdict
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import groupmap as gm
from groupmap.backends.cuda import launching, programs, ranking
from groupmap.mapping import MID_POSITIONS
from groupmap.positions import plotting_parameters
from groupmap.ranks import COUNTING_TIES
from groupmap.targets import Sparse
from groupmap.user_targets import as_target
from tests import cuda_emulation, oracle
from tests.backends import no_kernels
from tests.emulated_gpu import LIMITS, emulated_gpu
from tests.test_kernels import counted_ranks, rows_of
from tests.test_properties import MIRRORED_POSITIONS, TARGETS, arrays

pytest.importorskip("torch")
import torch

from groupmap.backends import torch_cuda

if not cuda_emulation.AVAILABLE:
    pytest.skip("there is no g++ to compile kernels with", allow_module_level=True)

CPU = torch.device("cpu")
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int16", "int32", "int64", "uint16", "uint32", "uint64")
HALVES = FLOATS[:2]
NAMED = sorted(oracle.QUANTILES)
TIES = ("average", "min", "max", "ordinal")
ENTRIES_OF_A_WARP = 512  # and of more, a block takes care
NO_ROOM = (100, 132)  # for any row in shared memory

needs_compiler = pytest.mark.skipif(
    find_spec("cuda") is None or find_spec("cuda.core") is None,
    reason="cuda.core is not installed",
)


class Launch(NamedTuple):
    """What an emulated GPU is asked to do."""

    program: programs.Program
    shape: launching.Shape

    @property
    def kernel(self):
        return self.program.kernel


@contextlib.contextmanager
def launches(seed=0, *, run=True, **options):
    """An emulated GPU, on which something is launched; and a list of what is."""
    launched = []
    with emulated_gpu(seed, **options), pytest.MonkeyPatch.context() as patch:
        emulate = launching.launch

        def launch(program, shape, *rest):
            launched.append(Launch(program, shape))
            if run:
                emulate(program, shape, *rest)

        patch.setattr(launching, "launch", launch)
        yield launched
    assert launched


def kernels_of(launched):
    return {each.kernel for each in launched}


def dtype_of(name):
    return getattr(torch, name)


def bytes_of(tensor):
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()


def numbers_in(tensor):
    """The same numbers for NumPy, which has no bfloat16."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def random_signs(rng, shape, bits):
    return rng.integers(0, 2, size=shape, dtype=np.uint64) << (bits - 1)


def any_bits(rng, numbers, shape):
    """Bit patterns of all numbers, and of infinities."""
    most = numbers.infinity or 2 ** (numbers.bits - 1) - 1
    magnitudes = rng.integers(0, most, size=shape, dtype=np.uint64, endpoint=True)
    return magnitudes | random_signs(rng, shape, numbers.bits)


def half_zeros(rng, numbers, shape):
    return np.where(rng.random(shape) < 0.5, np.uint64(0), any_bits(rng, numbers, shape))


def clusters(rng, shape, starts):
    """Bit patterns one after the other, from each start."""
    n = shape[-1]
    of_row = np.resize(np.asarray(starts, dtype=np.uint64), n)
    of_row += np.arange(n, dtype=np.uint64) // np.uint64(len(starts))
    return np.stack([rng.permutation(of_row) for _ in range(shape[0])])


def one_far_away(rng, numbers, shape):
    """All but one in a single bucket, if there are many bits."""
    top = 1 << (numbers.bits - 1)
    patterns = clusters(rng, shape, [top // 2 - (1 << numbers.mantissa)])  # 1.0, of floats
    patterns[:, 0] = top - (top >> 4)
    return patterns


def several_clusters(rng, numbers, shape):
    return clusters(
        rng, shape, [(each << (numbers.bits - 6)) + 3 for each in (1, 2, 5, 11, 40, 45)]
    )


def geometric_clusters(rng, numbers, shape):
    exponents = rng.integers(0, numbers.bits - 2, size=shape, dtype=np.uint64)
    magnitudes = (1 << exponents) + rng.integers(0, 40, size=shape, dtype=np.uint64)
    return magnitudes | random_signs(rng, shape, numbers.bits)


HARD_BITS = (any_bits, half_zeros, one_far_away, several_clusters, geometric_clusters)
HARD_VALUES = ("random", "few values", "relu", "some ties", "constant", "one far away")
KINDS = (*HARD_VALUES, *itertools.product(HARD_BITS, ("as drawn", "ascending", "descending")))


def hard_rows(kind, dtype, shape, rng):
    """A tensor of rows without NaN that make life hard for buckets."""
    if kind in HARD_VALUES:
        rows = rows_of(kind, "float32" if dtype == "bfloat16" else dtype, shape, rng)
        return torch.as_tensor(rows).to(dtype_of(dtype))
    draw, arrangement = kind
    numbers = programs.numbers_of(dtype_of(dtype))
    patterns = (
        draw(rng, numbers, shape).astype(f"u{numbers.bits // 8}").view(f"i{numbers.bits // 8}")
    )
    rows = torch.as_tensor(patterns).view(dtype_of(dtype))
    if arrangement != "as drawn":
        order = np.argsort(numbers_in(rows), axis=-1)
        order = order if arrangement == "ascending" else np.flip(order, axis=-1)
        patterns = np.take_along_axis(patterns, order, axis=-1)
    return torch.as_tensor(patterns).view(dtype_of(dtype))


def map_with_order(x, where, ties="average"):
    """The normal map of rows, and their order."""
    table = torch_cuda.table_of_formula(
        gm.gaussian.formula, x.shape[-1], MID_POSITIONS, torch.float32, CPU
    )
    return torch_cuda.map_rows(
        x, where, table, COUNTING_TIES.get(ties), gm.gaussian.formula, MID_POSITIONS,
        with_order=True,
    )  # fmt: skip


# The programs, as NVIDIA's compiler sees them.

MOST_SPILLED = 64  # bytes, such as calls of a function that is not inlined may cost


def programs_of_map(dtype, n, *, ordered):
    with launches(run=False) as launched:
        x, table = torch.zeros((2, n), dtype=dtype_of(dtype)), torch.zeros(2 * n - 1)
        torch_cuda.map_rows(x, None, table, COUNTING_TIES["average"], with_order=ordered)
    return [each.program for each in launched]


def programs_of_gradient(dtype, n):
    with launches(run=False) as launched:
        x = torch.zeros((2, n), dtype=dtype_of(dtype), requires_grad=True)
        gm.quantile_map(x).backward(torch.zeros_like(x))
    return [each.program for each in launched if each.kernel != "map_rows"]


def programs_of_layer(dtype, shape):
    with launches(run=False) as launched, torch.no_grad():
        gm.GroupMap(2, 4).to(dtype_of(dtype))(torch.zeros(shape, dtype=dtype_of(dtype)))
    return [each.program for each in launched if each.kernel != "fill_table"]


PROGRAMS = {
    **{
        f"map of {dtype}": partial(
            programs_of_map, dtype, (200, 17_000)[number % 2], ordered=number % 4 < 2
        )
        for number, dtype in enumerate((*FLOATS, *INTEGERS))
    },
    **{f"gradient of {dtype}": partial(programs_of_gradient, dtype, 300) for dtype in FLOATS},
    "keys of 16 bits": partial(programs_of_map, "bfloat16", 10_000, ordered=False),
    "long rows": partial(programs_of_map, "float64", 70_000, ordered=False),
    "layer": partial(programs_of_layer, "float16", (3, 4, 9)),
    "layer of 16 bits": partial(programs_of_layer, "bfloat16", (3, 4, 5000)),
    "layer of long rows": partial(programs_of_layer, "float32", (3, 4, 70_000)),
}


@needs_compiler
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("recorded", PROGRAMS.values(), ids=PROGRAMS)
def test_programs_compile(recorded, architecture):
    kernels = defaultdict(set)
    for program in recorded():
        kernels[program._replace(kernel="")].add(program.kernel)
    for program, names in kernels.items():
        binary = bytes(launching.compiled(program, architecture).code)
        assert binary.startswith(b"\x7fELF")
        assert all(name.encode() in binary for name in names)


@needs_compiler
def test_registers_suffice():
    from cuda.core import Program, ProgramOptions

    recorded = [
        *programs_of_gradient("float32", 3000),
        *programs_of_map("float32", 200, ordered=True),
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


# Ranks and order.

LENGTHS = {
    "float32": (1, 2, 31, 32, 33, 129, 512, 513, 2048, 2049, 4500, 17_000),
    "float64": (1, 2, 33, 129, 512, 513, 2048, 17_000),
    "float16": (1, 31, 512, 513, 2048, 4096),
    "bfloat16": (2, 32, 129, 4500),
    "int16": (33, 512, 2049, 20_000),
    "int32": (31, 513, 2048),
    "int64": (2, 129, 17_000),
    "uint16": (32, 512, 4500),
    "uint32": (1, 129, 513),
    "uint64": (33, 512, 2049),
}


def check_ranks(rng, dtype, shape, kinds, limits=LIMITS):
    """Against counting; the kernels that were launched come back."""
    n = shape[-1]
    table = torch.arange(2 * n - 1, dtype=torch.float32)  # which holds them exactly
    launched = []
    for number, kind in enumerate(kinds):
        x = hard_rows(kind, dtype, shape, rng)
        values, ties = numbers_in(x), TIES[(number + n) % 4]
        with_order = number % 3 == 0
        with launches(limits=limits) as of_kind:
            less, less_equal = torch_cuda.count_less(x)
            y, order = torch_cuda.map_rows(
                x, None, table, COUNTING_TIES.get(ties), with_order=with_order
            )
        launched += of_kind
        np.testing.assert_array_equal(2 * less, counted_ranks(values, "min"), str(kind))
        np.testing.assert_array_equal(2 * less_equal - 2, counted_ranks(values, "max"), str(kind))
        np.testing.assert_array_equal(y, counted_ranks(values, ties), str(kind))
        if with_order:
            expected = np.argsort(values + values.dtype.type(0), axis=-1, stable=True)
            np.testing.assert_array_equal(order, expected, str(kind))
    return kernels_of(launched)


@pytest.mark.parametrize(
    ("dtype", "n"), [(dtype, n) for dtype, lengths in LENGTHS.items() for n in lengths]
)
def test_ranks_and_order(rng, dtype, n):
    shape = (5 if n <= ENTRIES_OF_A_WARP else 2, n)
    kernels = check_ranks(rng, dtype, shape, KINDS)
    is_counted = programs.numbers_of(dtype_of(dtype)).bits == 16 and n >= 4096
    assert kernels == {"map_rows"} | ({"map_rows_of_16_bits"} if is_counted else set())


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
@pytest.mark.parametrize("n", [1, 100, 4096, 4097, 10_000])
def test_ranks_of_rows_beyond_shared_memory(rng, dtype, n):
    kernels = check_ranks(rng, dtype, (3, n), KINDS, NO_ROOM)
    assert len(kernels) == 8
    assert "write_results" in kernels


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ranks_of_long_rows(rng, dtype):
    """Some buckets of them are too large to be sorted in shared memory."""
    kinds = [*HARD_VALUES, *((draw, "as drawn") for draw in HARD_BITS)]
    kernels = check_ranks(rng, dtype, (1, 70_000), kinds)
    assert "sort_crowded" in kernels


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("n", [100, 700, 5000])
def test_all_tie_rules_of_all_hard_rows(rng, ties, n):
    table = torch.arange(2 * n - 1, dtype=torch.float32)
    for kind in KINDS:
        x = hard_rows(kind, "float32", (3, n), rng)
        with launches():
            y, _ = torch_cuda.map_rows(x, None, table, COUNTING_TIES.get(ties), with_order=False)
        np.testing.assert_array_equal(y, counted_ranks(x.numpy(), ties), str(kind))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ordered", [False, True])
def test_the_longest_row_that_fits(rng, dtype, ordered):
    numbers = programs.numbers_of(dtype_of(dtype))
    with emulated_gpu():
        fitting = [
            n for n in range(2**14, 2**16, 2) if ranking.fits(n, numbers, 0, ordered=ordered)
        ]
    n = max(fitting)
    assert n < 2**16 - 2
    x = hard_rows((several_clusters, "as drawn"), dtype, (1, n), rng)
    table = torch.arange(2 * n - 1, dtype=torch.float32)
    with launches():
        y, _ = torch_cuda.map_rows(x, None, table, COUNTING_TIES["average"], with_order=ordered)
    np.testing.assert_array_equal(y, counted_ranks(x.numpy(), "average"))


def check_order_of_what_counts(rng, dtype, n, kinds, ties="average", limits=LIMITS):
    for kind in kinds:
        x = hard_rows(kind, dtype, (4, n), rng)
        where = torch.as_tensor(rng.random((4, n)) < 0.8)
        where[3] = False
        if x.is_floating_point():
            x[torch.as_tensor(rng.random((4, n)) < 0.2)] = torch.nan
            x[1] = torch.nan
        with launches(limits=limits):
            y, order = map_with_order(x, where, ties)
        values = numbers_in(x)
        counts = where.numpy() & ~torch.isnan(x).numpy()
        np.testing.assert_array_equal(torch.isnan(y), ~counts)
        for row in range(4):
            valid = np.flatnonzero(counts[row])
            ascending = valid[np.argsort(values[row, valid], stable=True)]
            np.testing.assert_array_equal(order[row, : len(valid)], ascending)
            assert bool((order[row, len(valid) :] == -1).all())


@pytest.mark.parametrize("n", [1, 40, 600])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int16"])
@pytest.mark.parametrize("ties", ["average", "ordinal"])
def test_the_order_ends_with_what_is_missing(rng, n, dtype, ties):
    check_order_of_what_counts(rng, dtype, n, KINDS, ties)


def test_so_does_that_of_long_rows(rng):
    kinds = ("constant", "one far away", (half_zeros, "as drawn"), (one_far_away, "descending"))
    check_order_of_what_counts(rng, "float32", 15_000, kinds, limits=NO_ROOM)


# Nothing depends on which thread is first.

SEEDS = ((1, False), (17, False), (0, True), (5, True), (2, False), (3, False), (2026, False))


def all_results(x, where, grad, seed=0, **options):
    leaf = x.clone().requires_grad_()
    with launches(seed, **options) as launched:
        values = gm.quantile_map(x, where=where)
        y = gm.quantile_map(leaf, where=where, target_quantiles="logistic")
        y.backward(grad)
        order = map_with_order(x, where)[1]
        less, _ = torch_cuda.count_less(x.nan_to_num())
    return [bytes_of(each) for each in (values, y, order, less, leaf.grad)], kernels_of(launched)


def hard_rows_with_nan(rng, dtype, n):
    kinds = (*HARD_VALUES, *((draw, "as drawn") for draw in HARD_BITS))
    x = torch.cat([hard_rows(kind, dtype, (1, n), rng) for kind in kinds])
    x[1::2, ::7] = torch.nan
    return x


def check_order_of_threads(rng, dtype, n, seeds=SEEDS, limits=LIMITS):
    x = hard_rows_with_nan(rng, dtype, n)
    grad = torch.as_tensor(rng.normal(size=x.shape)).to(x.dtype)
    for where in (None, torch.as_tensor(rng.random(x.shape) < 0.9)):
        expected, kernels = all_results(x, where, grad, limits=limits)
        for seed, switch_at_atomics in seeds:
            found, _ = all_results(
                x, where, grad, seed, switch_at_atomics=switch_at_atomics, limits=limits
            )
            assert found == expected, (seed, switch_at_atomics)
    return kernels


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("n", [40, 700, 2500])
def test_the_order_of_threads_changes_no_bit(rng, dtype, n):
    kernels = check_order_of_threads(rng, dtype, n)
    assert kernels == {"fill_table", "map_rows", "transport"}


def test_nor_where_keys_are_counted(rng):
    assert "map_rows_of_16_bits" in check_order_of_threads(rng, "float16", 4100)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nor_that_of_blocks(rng, dtype):
    """Where several of them have to do with one row."""
    assert "write_results" in check_order_of_threads(rng, dtype, 9000, SEEDS[:3], NO_ROOM)


# What is missing.

POSITIONS = ("linear", "hazen", "weibull", "median_unbiased", (0.2, 0.7))


def rows_with_holes(rng, dtype, n):
    """Rows, and a mask: one complete, and others with NaN, masked entries and infinities."""
    x = torch.as_tensor(rng.normal(size=(7, n)).round(2)).to(dtype_of(dtype))
    where = torch.ones((7, n), dtype=torch.bool)
    x[1, rng.integers(0, n, n // 5 + 1)] = torch.nan
    where[2, rng.integers(0, n, n // 5 + 1)] = False
    x[3, :3], x[3, -2:] = torch.inf, -torch.inf
    x[4, ::3], x[4, 1::5], where[4, ::4] = torch.nan, torch.inf, False
    where[4, 3] = False  # a NaN is there, too
    x[5] = torch.nan
    where[6] = False
    return x, where


def check_as_if_not_there(rng, target, dtype, n, limits=LIMITS):
    x, where = rows_with_holes(rng, dtype, n)
    counts = where & ~torch.isnan(x)
    kernels = set()
    for number, positions in enumerate(POSITIONS):
        options = {"positions": positions, "ties": TIES[number % 4]}
        with launches(limits=limits) as launched:
            y = gm.quantile_map(x, target, where=where, **options)
            assert torch.equal(torch.isnan(y), ~counts)
            for row in range(5):
                alone = gm.quantile_map(x[row, counts[row]], target, **options)
                assert bytes_of(y[row, counts[row]]) == bytes_of(alone), (row, positions)
        kernels |= kernels_of(launched)
    return kernels


@pytest.mark.parametrize("target", NAMED)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [40, 700])
def test_what_is_missing_is_as_if_it_were_not_there(rng, target, dtype, n):
    kernels = check_as_if_not_there(rng, target, dtype, n)
    assert kernels == {"fill_table", "map_rows"}


@pytest.mark.parametrize("target", NAMED)
@pytest.mark.parametrize("dtype", HALVES)
def test_nor_among_keys_that_are_counted(rng, target, dtype):
    kernels = check_as_if_not_there(rng, target, dtype, 5000)
    assert kernels == {"fill_table", "map_rows", "map_rows_of_16_bits"}


@pytest.mark.parametrize("target", NAMED)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("n", [40, 4500])
def test_nor_in_long_rows(rng, target, dtype, n):
    kernels = check_as_if_not_there(rng, target, dtype, n, NO_ROOM)
    assert "map_rows" not in kernels
    assert "write_results" in kernels


@pytest.mark.parametrize("target", NAMED)
@pytest.mark.parametrize("positions", POSITIONS)
def test_what_is_left_equals_the_oracle(rng, target, positions):
    x, where = rows_with_holes(rng, "float64", 40)
    with launches():
        y = gm.quantile_map(x, target, where=where, positions=positions)
    expected = oracle.map_rows(x.numpy(), target, positions=positions, where=where.numpy())
    units = 4 * (gm.sparse.exponent if target == "sparse" else 1)
    np.testing.assert_allclose(y, expected, rtol=units * np.finfo(float).eps, atol=1e-15)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("n", [100, 5000])
def test_masked_integers(rng, dtype, n):
    for kind in ("random", "few values", "constant"):  # the greatest ones among them
        x, where = hard_rows(kind, dtype, (2, n), rng), rng.random((2, n)) < 0.7
        with launches():
            y = gm.quantile_map(x, where=torch.as_tensor(where)).numpy()
            for row in range(2):
                alone = gm.quantile_map(torch.as_tensor(x.numpy()[row, where[row]]))
                np.testing.assert_array_equal(y[row, where[row]], alone, kind)
        np.testing.assert_array_equal(np.isnan(y), ~where)


@pytest.mark.parametrize("shape", [(50,), (1, 50), (3, 1), (4, 1, 50), (1, 3, 1), ()])
def test_masks_broadcast(rng, shape):
    x = torch.as_tensor(rng.normal(size=(4, 3, 50)))
    where = torch.as_tensor(rng.random(shape) < 0.6)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    with launches():
        found = gm.quantile_map(leaves[0], where=where)
        whole = gm.quantile_map(leaves[1], where=where.expand(x.shape).clone())
        for y in (found, whole):
            y.nansum().backward()
    assert torch.equal(torch.isnan(found), ~where.expand(x.shape))
    assert bytes_of(found) == bytes_of(whole)
    assert bytes_of(leaves[0].grad) == bytes_of(leaves[1].grad)


def test_strided_rows_and_masks(rng):
    x = torch.as_tensor(rng.normal(size=(30, 4, 5)))
    where = torch.as_tensor(rng.random((5, 30, 4)) < 0.7).permute(1, 2, 0)
    with launches():
        found = gm.quantile_map(x, where=where, axis=0)
    expected = gm.quantile_map(x.contiguous(), where=where.contiguous(), axis=0)
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-14, atol=1e-15)


# Against the oracle.

ANY_INTEGERS = st.sampled_from([each for each in INTEGERS if each[-2:] != "16"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, max_side=17))
)


@given(
    st.one_of(arrays(), ANY_INTEGERS), TARGETS, MIRRORED_POSITIONS, st.sampled_from(TIES), st.data()
)
def test_equals_the_oracle(x, target, positions, ties, data):
    where = data.draw(st.none() | hnp.arrays(np.bool_, x.shape))
    mask = None if where is None else torch.as_tensor(where)
    with launches():
        y = gm.quantile_map(
            torch.as_tensor(x.copy()), target, positions=positions, ties=ties, where=mask
        ).numpy()
    expected = oracle.map_rows(x, target, positions=positions, ties=ties, where=where)
    with np.errstate(over="ignore"):  # Cauchy's extremes round to infinity in half precision
        expected = expected.astype(y.dtype)
    # A power multiplies the rounding of p.
    units = 4 * (gm.sparse.exponent if target == "sparse" else 1)
    np.testing.assert_allclose(
        y.astype(np.float64),
        expected.astype(np.float64),
        rtol=units * np.finfo(y.dtype).eps,
        atol=np.finfo(y.dtype).smallest_normal * 4 + 1e-15 * (y.dtype != np.float16),
    )


# Rounding.


def rounded_to_bfloat16(x):
    """The nearest bfloat16 of a double, of two the even one, as the bits of a float."""
    size = np.abs(x)
    below = size.astype(np.float32)
    below = np.where(below > size, np.nextafter(below, np.float32(0)), below)
    bits = below.view(np.uint32) >> 16
    lower, upper = ((each << 16).view(np.float32).astype(np.float64) for each in (bits, bits + 1))
    middle = (lower + upper) / 2
    bits += (size > middle) | ((size == middle) & (bits % 2 == 1))
    return np.copysign((bits << 16).view(np.float32), x)


def tables_of(target, positions, n, *dtypes):
    formula, parameters = as_target(target).formula, plotting_parameters(positions)
    with launches() as launched:
        tables = [
            torch_cuda.table_of_formula(formula, n, parameters, dtype, CPU) for dtype in dtypes
        ]
    assert [each.kernel for each in launched] == ["fill_table"] * len(dtypes)
    return map(numbers_in, tables)


@pytest.mark.parametrize("target", [*NAMED, Sparse(0.5), gm.gaussian.clamped(1e-300)], ids=str)
@pytest.mark.parametrize("positions", ["linear", "hazen"])
def test_tables_are_rounded_once(target, positions):
    dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    exact, single, half, brain = tables_of(target, positions, 50_000, *dtypes)
    np.testing.assert_array_equal(single, exact.astype(np.float32))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(half, exact.astype(np.float16))
    np.testing.assert_array_equal(brain, rounded_to_bfloat16(exact))
    if target == "sparse":
        tiny = (half > 0) & (half < np.finfo(np.float16).smallest_normal)
        assert np.count_nonzero(tiny) > 1000


@pytest.mark.parametrize("dtype", HALVES)
def test_maps_are_rounded_once(rng, dtype):
    """Rows that miss entries write what they evaluate themselves."""
    n = 10_000
    x = torch.as_tensor(rng.permutation(n) - n / 2.0)
    x[7] = torch.nan
    with launches():
        exact, found = (
            numbers_in(torch_cuda.map_rows(
                x[None], None, torch.empty(0, dtype=each), COUNTING_TIES["average"],
                gm.sparse.formula, MID_POSITIONS, with_order=False,
            )[0])
            for each in (torch.float64, dtype_of(dtype))
        )  # fmt: skip
    expected = exact.astype(np.float16) if dtype == "float16" else rounded_to_bfloat16(exact)
    np.testing.assert_array_equal(found, expected)


# The gradient.

ROWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "relu": lambda rng, n: np.maximum(rng.normal(size=n), 0),
    "relu 95 %": lambda rng, n: np.maximum(rng.normal(size=n) - 1.645, 0),
    "tied": lambda rng, n: rng.normal(size=n).round(),
    "huge": lambda rng, n: 1e30 * rng.normal(size=n),
    "tiny": lambda rng, n: 1e-30 * rng.normal(size=n),
    "squares overflow": lambda rng, n: 1e200 * rng.normal(size=n),
    "squares vanish": lambda rng, n: 1e-200 * rng.normal(size=n),
    "two values": lambda rng, n: rng.choice([-1.0, 3.0], size=n),
    "constant": lambda rng, n: np.full(n, 2.0),
    "NaN": lambda rng, n: np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
    "infinite": lambda rng, n: np.where(
        rng.random(n) < 0.2, rng.choice([-np.inf, np.inf], size=n), rng.normal(size=n)
    ),
    "all of it": lambda rng, n: rng.choice([np.nan, np.inf, -np.inf, -1, 0, 0, 0.5, 1e3], size=n),
    "only NaN": lambda rng, n: np.full(n, np.nan),
}
OPTIONS = {
    "defaults": {},
    "window": {"gradient_window": 3},
    "no floor": {"gradient_floor": 0.0},
    "window and floor": {
        "gradient_window": 1, "gradient_floor": 0.25, "target_quantiles": "cauchy"
    },
    "sparse": {"target_quantiles": "sparse", "positions": "hazen", "ties": "ordinal"},
    "callable": {"target_quantiles": lambda p: torch.sin(3 * p)},
}  # fmt: skip
with_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def gradient_of(x, grad, **options):
    leaf = x.clone().requires_grad_()
    gm.quantile_map(leaf, **options).backward(grad)
    return leaf.grad


def check_gradient(x, grad, limits=LIMITS, **options):
    """Held against the library's operators; what was launched comes back."""
    with launches(limits=limits) as launched:
        found = gradient_of(x, grad, **options)
    assert "transport" in kernels_of(launched)
    assert found.dtype == x.dtype
    with no_kernels():
        expected = gradient_of(x.double(), grad.double(), **options)
    size = expected.abs().amax(dim=-1, keepdim=True)
    rounding = 0.0
    if x.dtype in (torch.float16, torch.bfloat16):
        limits_of_dtype = torch.finfo(x.dtype)
        rounding = limits_of_dtype.eps / 2 * expected.abs() + limits_of_dtype.tiny
    tolerance = 1e-12 if x.dtype == torch.float64 else 1e-6
    if callable(options.get("target_quantiles")) and x.dtype != torch.float64:
        tolerance = 1e-5  # it is called in single precision, whose differences are divided
    assert torch.all(torch.isfinite(found))
    error = (found.double() - expected).abs()
    assert torch.all(error <= tolerance * size + rounding), (error / size).nan_to_num().max()
    assert torch.all(found[(size == 0).expand(x.shape)] == 0)
    return launched


def rows_for_gradients(rng, names, n, dtype):
    x = torch.as_tensor(np.stack([ROWS[name](rng, n) for name in names])).to(dtype_of(dtype))
    return x, torch.as_tensor(rng.normal(size=x.shape)).to(x.dtype)


@with_options
@pytest.mark.parametrize("n", [1, 2, 3, 4, 40, 129, 700, 5000])
def test_gradient_in_double_precision(rng, options, n):
    x, grad = rows_for_gradients(rng, ROWS, n, "float64")
    check_gradient(x, grad, **options)
    check_gradient(x, grad, where=torch.as_tensor(rng.random(x.shape) < 0.7), **options)


@with_options
@pytest.mark.parametrize("dtype", ["float32", *HALVES])
@pytest.mark.parametrize("n", [3, 129, 1500])
def test_gradient_in_lower_precision(rng, options, dtype, n):
    x, grad = rows_for_gradients(rng, ROWS, n, dtype)
    check_gradient(x, grad, **options)
    check_gradient(x, grad, where=torch.as_tensor(rng.random(x.shape) < 0.7), **options)


@pytest.mark.parametrize("name", ["defaults", "callable"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_of_rows_beyond_shared_memory(rng, name, dtype):
    """Few blocks take several rows each, one after the other, in memory that is lent to them."""
    x, grad = rows_for_gradients(rng, ROWS, 3000, dtype)
    launched = check_gradient(x, grad, (40_000, 2), **OPTIONS[name])
    (shape,) = (each.shape for each in launched if each.kernel == "transport")
    assert shape.blocks < len(x)
    assert shape.shared_bytes < 1000


def test_fewer_than_three_values_get_exact_zeros(rng):
    x = torch.as_tensor(rng.choice([-1.0, 3.0], size=(4, 60)))
    x[1, :9], x[2, :9], x[3, ::2] = torch.nan, torch.inf, -torch.inf
    with launches():
        assert torch.all(gradient_of(x, torch.ones_like(x)) == 0)


def second_derivative(x, v):
    leaf = x.clone().requires_grad_()
    y = gm.quantile_map(leaf) ** 3
    (first,) = torch.autograd.grad((y.nan_to_num() * v).sum(), leaf, create_graph=True)
    return torch.autograd.grad((first * v).sum(), leaf)[0]


def test_double_backward(rng):
    x, v = (torch.as_tensor(rng.normal(size=(3, 200))) for _ in range(2))
    x[1, ::9], x[2] = torch.nan, x[2].relu()
    with launches() as launched:
        found = second_derivative(x, v)
    assert [each.kernel for each in launched].count("transport") == 3
    with no_kernels():
        expected = second_derivative(x, v)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 * expected.abs().max().item())


@pytest.mark.parametrize("in_dims", [0, 1, -1])
@pytest.mark.parametrize("has_nan", [False, True])
def test_vmap_and_func_grad(rng, in_dims, has_nan):
    x = torch.as_tensor(rng.normal(size=(4, 3, 50))).movedim(0, in_dims)
    if has_nan:
        x[..., 2] = torch.nan

    def loss(x):
        return (gm.quantile_map(x, axis=0).nan_to_num() ** 2).sum()

    def outputs():
        batched = torch.vmap(torch.func.grad(loss), in_dims, in_dims)(x)
        return torch.func.grad(loss)(x), batched, torch.vmap(gm.quantile_map, in_dims, in_dims)(x)

    with launches() as launched:
        found = outputs()
    assert "transport" in kernels_of(launched)
    with no_kernels():
        expected = outputs()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12, equal_nan=True)


def test_jacobian(rng):
    x = torch.as_tensor(rng.normal(size=(2, 17)))
    with launches():
        found = torch.func.jacrev(gm.quantile_map)(x)
    with no_kernels():
        expected = torch.func.jacrev(gm.quantile_map)(x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gradient", ["affine", "straight_through"])
@pytest.mark.parametrize("masked", [False, True])
def test_other_estimates_where_entries_are_missing(rng, gradient, masked):
    x, grad = rows_for_gradients(
        rng, ("normal", "relu", "NaN", "infinite", "only NaN"), 80, "float64"
    )
    where = torch.as_tensor(rng.random(x.shape) < 0.8) if masked else None
    with launches():
        found = gradient_of(x, grad, gradient=gradient, where=where)
    with no_kernels():
        expected = gradient_of(x, grad, gradient=gradient, where=where)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


# Callers.

LAYERS = {
    "GroupMap": lambda: gm.GroupMap(2, 6),
    "LayerMap": lambda: gm.LayerMap((6, 5, 4)),
    "LayerMap of rows": lambda: gm.LayerMap(4, bias=False),
    "InstanceMap": lambda: gm.InstanceMap2d(6, affine=True),
    "GroupMap with noise": lambda: gm.GroupMap(3, 6, eps=0.1, target_quantiles="uniform"),
}
DEVIATION = {torch.float32: 1e-5, torch.bfloat16: 2**-7}
with_layers = pytest.mark.parametrize("name", LAYERS)
with_formats = pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels_last"]
)


def layer_and_input(rng, name, dtype, memory_format, has_nan):
    x = torch.as_tensor(rng.normal(size=(3, 6, 5, 4))).to(dtype).to(memory_format=memory_format)
    if has_nan:
        x[0, 2, 1] = torch.nan
    layer = LAYERS[name]().to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.as_tensor(rng.normal(size=parameter.shape)))
    return layer, x


@with_layers
@with_formats
@pytest.mark.parametrize("dtype", DEVIATION, ids=str)
@pytest.mark.parametrize("has_nan", [False, True])
def test_layers(rng, name, dtype, memory_format, has_nan):
    layer, data = layer_and_input(rng, name, dtype, memory_format, has_nan)
    grad = torch.as_tensor(rng.normal(size=data.shape)).to(dtype)
    found = []
    for context in (launches, no_kernels):
        layer.zero_grad()
        torch.manual_seed(0)
        x = data.clone(memory_format=torch.preserve_format).requires_grad_()
        with context():
            y = layer(x)
            y.backward(grad)
        assert y.is_contiguous(memory_format=memory_format)
        found.append((y, x.grad, *(parameter.grad for parameter in layer.parameters())))
    close = {"rtol": DEVIATION[dtype], "atol": DEVIATION[dtype], "equal_nan": True}
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **close)


@with_layers
@with_formats
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("limits", [LIMITS, NO_ROOM], ids=["shared", "global"])
def test_scaling_in_the_same_launch_changes_no_bit(rng, name, dtype, memory_format, limits):
    layer, x = layer_and_input(rng, name, dtype, memory_format, has_nan=True)
    found = []
    with launches(limits=limits):
        for learns in (True, False):
            torch.manual_seed(0)
            with torch.set_grad_enabled(learns):
                found.append(layer(x).detach())
    torch.testing.assert_close(*found, rtol=0, atol=0, equal_nan=True)


def test_scaling_keys_that_are_counted(rng):
    x = torch.as_tensor(rng.normal(size=(2, 4, 50, 50))).half()
    weight, bias = (torch.as_tensor(rng.normal(size=4)).float() for _ in "wb")
    with launches() as launched:
        found = gm.group_map(x, 2, weight, bias)
        apart = gm.group_map(x, 2, weight.clone().requires_grad_(), bias)
    assert "map_rows_of_16_bits" in kernels_of(launched)
    assert bytes_of(found) == bytes_of(apart)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_that_do_not_fit_get_the_same_bits_in_global_memory(rng, dtype):
    x = torch.as_tensor(rng.normal(size=(3, 20_000))).to(dtype_of(dtype))
    x[1], x[2, ::9] = x[1].relu(), torch.nan
    grad = torch.as_tensor(rng.normal(size=x.shape)).to(x.dtype)
    found, kernels = [], []
    for limits in (LIMITS, (48 * 1024, 2)):
        leaf = x.clone().requires_grad_()
        with launches(limits=limits) as launched:
            y = gm.quantile_map(leaf)
            y.backward(grad)
            found.append([bytes_of(each) for each in (y, gm.quantile_map(x), leaf.grad)])
        kernels.append(kernels_of(launched))
    assert found[0] == found[1]
    assert "map_rows" in kernels[0]
    assert "write_results" not in kernels[0]
    assert "write_results" in kernels[1]
    assert "map_rows" not in kernels[1]
    with no_kernels():
        expected = gm.quantile_map(x)
    eps = torch.finfo(x.dtype).eps
    torch.testing.assert_close(y, expected, rtol=4 * eps, atol=1e-7, equal_nan=True)


def test_arrays_on_two_devices_are_refused():
    layer = gm.GroupMap(2, 4).to("meta")
    with launches(), torch.no_grad(), pytest.raises(RuntimeError, match="on the same device"):
        layer(torch.randn(2, 4, 9))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_numbers_of_8_bits(rng, dtype):
    x = torch.as_tensor(rng.integers(0, 120, (3, 700))).to(dtype)
    with launches() as launched:
        found = gm.quantile_map(x)
    assert "map_rows" in kernels_of(launched)
    torch.testing.assert_close(found, gm.quantile_map(x), rtol=1e-6, atol=1e-6)


def test_a_window_wider_than_any_row(rng):
    x, grad = torch.as_tensor(rng.normal(size=(2, 3, 50)))
    found = []
    for window in (10**12, 50):
        leaf = x.clone().requires_grad_()
        with launches():
            gm.quantile_map(leaf, gradient_window=window).backward(grad)
        found.append(leaf.grad)
    assert torch.equal(*found)
