"""What kernels for GPUs make of ranks: missing entries, the oracle, rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import groupmap as gm
from groupmap.mapping import MID_POSITIONS
from groupmap.positions import plotting_parameters
from groupmap.ranks import COUNTING_TIES
from groupmap.targets import Sparse
from groupmap.user_targets import as_target
from tests import cuda_emulation, oracle
from tests.emulated_gpu import LIMITS
from tests.gpu_launches import (
    CPU,
    ENTRIES_OF_A_WARP,
    FLOATS,
    HALVES,
    INTEGERS,
    LONGEST_SORTED,
    NAMED,
    NO_ROOM,
    TIES,
    bytes_of,
    dtype_of,
    hard_rows,
    kernels_of,
    launches,
    numbers_in,
)
from tests.test_properties import MIRRORED_POSITIONS, TARGETS, arrays, assert_close_to_oracle

pytest.importorskip("torch")
import torch

from groupmap.backends import torch_cuda

if not cuda_emulation.AVAILABLE:
    pytest.skip("there is no g++ to compile kernels with", allow_module_level=True)

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
    # Rows of 16 bits have bits, and what is left of them without their holes is shorter.
    has_bits = dtype in HALVES and n > ENTRIES_OF_A_WARP
    own = {"map_rows_of_16_bits"} if has_bits else set()
    own |= {"map_rows_sorted"} if n <= LONGEST_SORTED else set()
    assert kernels == {"fill_table", "map_rows"} | own


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
    assert "rank_segments" in kernels


@pytest.mark.parametrize("target", NAMED)
@pytest.mark.parametrize("positions", POSITIONS)
def test_what_is_left_equals_the_oracle(rng, target, positions):
    x, where = rows_with_holes(rng, "float64", 40)
    with launches():
        y = gm.quantile_map(x, target, where=where, positions=positions)
    expected = oracle.map_rows(x.numpy(), target, positions=positions, where=where.numpy())
    units = 4 * (gm.sparse.exponent if target == "sparse" else 1)
    np.testing.assert_allclose(y, expected, rtol=units * np.finfo(float).eps, atol=1e-15)


@pytest.mark.parametrize(
    ("dtype", "n"), [(dtype, (100, 5000)[k % 2]) for k, dtype in enumerate(INTEGERS)]
)
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
    assert_close_to_oracle(y, expected, target)


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
