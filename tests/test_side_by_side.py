"""Rows that are sorted, ranked and counted many at once: as each by itself, to the last bit."""

from __future__ import annotations

import contextlib
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")
from groupmap.backends._bits import as_bits, code_of, keys_of
from groupmap.backends.kernels import halves, lanes, rank, rounding, short_rows, side_by_side
from groupmap.backends.kernels.lanes import Lanes, count_in_lanes
from groupmap.backends.kernels.memory import lent
from groupmap.backends.kernels.scaling import Scaling
from groupmap.backends.kernels.short_rows import SideBySide, rank_side_by_side
from groupmap.backends.kernels.side_by_side import Sorter
from groupmap.backends.kernels.vectors import BITS_OF_VECTOR
from groupmap.ranks import COUNTING_TIES
from tests.kernel_calls import bits_to_read
from tests.rows import counted_ranks

HALVES = ("float16", "int16", "uint16")
WIDTH = {f"uint{bits}": BITS_OF_VECTOR // bits for bits in (16, 32, 64)}


# The longest rows of words, and of 16 bits: where minima are found fast, where not, where vectors
# have 256 bits, and where they are shorter.
ANY_VECTORS = (
    ({2: 3072, 4: 3072, 8: 1536}, 3072),
    ({2: 3072, 4: 1024, 8: 1536}, 512),
    ({2: 2**15, 4: 2**13, 8: 0}, 31),
    ({2: 2**15, 4: 0, 8: 0}, 0),
)


@contextlib.contextmanager
def longest_side_by_side(longest):
    """As if the processor had other vectors; what is compiled runs on any."""
    with pytest.MonkeyPatch.context() as patch:
        for module, own in zip((side_by_side, short_rows), longest, strict=True):
            patch.setattr(module, "LONGEST", own)
        yield


def halves_of(kind, dtype, shape, rng):
    """Rows of 16 bits without NaN."""
    if kind == "bits" or dtype != "float16":
        few = {"few": 9, "normal": 4000}.get(kind, 2**16)
        x = rng.integers(0, few, size=shape).astype("uint16").view(dtype)
    else:
        x = rng.normal(size=shape).astype(dtype)
        if kind == "few":
            x = np.round(x)  # with zeros of both signs
    return np.where(np.isnan(x), x.dtype.type(0), x)


@pytest.mark.parametrize("longest", ANY_VECTORS)
@pytest.mark.parametrize("dtype", WIDTH)
@given(
    n=st.integers(1, 300) | st.sampled_from([448, 449, 512, 513, 1024, 1537, 3072, 3073]),
    n_rows=st.integers(1, 70),
    most=st.sampled_from([1, 3, 2**16 - 1]),
    seed=st.integers(0, 99),
)
def test_rows_are_sorted(dtype, longest, n, n_rows, most, seed):
    rows = np.random.default_rng(seed).integers(0, most, (n_rows, n), dtype=dtype, endpoint=True)
    rows[rows == most] = np.iinfo(dtype).max  # which also fills what is behind the last one
    expected = np.sort(rows, axis=-1)
    with longest_side_by_side(longest), lent() as lend:
        Sorter(n, dtype, lend())(rows)
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("dtype", WIDTH)
def test_which_rows_are_sorted_side_by_side(dtype):
    longest = ANY_VECTORS[0]
    in_registers = {2: range(0), 4: range(449, 513), 8: range(257)}
    with (
        longest_side_by_side(longest),
        pytest.MonkeyPatch.context() as patch,
        lent() as lend,
    ):
        patch.setattr(side_by_side, "SORTED_IN_REGISTERS", in_registers)
        for n, is_turned in (
            (WIDTH[dtype] - 1, False),
            (300, True),
            (longest[0][np.dtype(dtype).itemsize] + 1, False),
            (448, True),
            (449, dtype != "uint32"),
            (256, dtype != "uint64"),
        ):
            assert (Sorter(n, dtype, lend()).lanes is not None) == is_turned


@pytest.mark.parametrize("dtype", HALVES)
@given(
    kind=st.sampled_from(["bits", "few", "normal"]),
    n=st.integers(16, 150) | st.sampled_from([511, 3072]),
    n_rows=st.integers(1, 40),
    ties=st.sampled_from(sorted(COUNTING_TIES)),
    some=st.slices(40),
    seed=st.integers(0, 99),
)
def test_short_rows_are_ranked_side_by_side(dtype, kind, n, n_rows, ties, some, seed):
    x = halves_of(kind, dtype, (n_rows, n), np.random.default_rng(seed))
    which = np.arange(n_rows)[some]
    table, out = np.arange(2 * n - 1, dtype=np.uint32), np.zeros(x.shape, dtype=np.uint32)
    tie = rank.tie_of(COUNTING_TIES[ties])
    with lent() as lend:
        memory = SideBySide.for_rows(n, lend())
        asked = (code_of(x.dtype), table, tie, memory, out, None)
        magnitude = rank_side_by_side(bits_to_read(x), which, *asked)
    expected = np.zeros(x.shape)
    expected[which] = counted_ranks(x, ties)[which]
    np.testing.assert_array_equal(out, expected)
    if dtype == "float16" and len(which) > 0:
        assert magnitude == np.max(as_bits(np.abs(x[which] + x.dtype.type(0))))


@pytest.mark.parametrize("dtype", HALVES)
@given(
    kinds=st.lists(st.sampled_from(["bits", "few", "normal"]), min_size=1, max_size=9),
    n=st.sampled_from([513, 700, 2000, 2**15]),
    ties=st.sampled_from(sorted(COUNTING_TIES)),
    seed=st.integers(0, 99),
)
def test_rows_are_counted_in_lanes(dtype, kinds, n, ties, seed):
    rng = np.random.default_rng(seed)
    x = np.stack([halves_of(kind, dtype, n, rng) for kind in kinds])
    table, out = np.arange(2 * n - 1, dtype=np.uint32), np.zeros(x.shape, dtype=np.uint32)
    tie, left = rank.tie_of(COUNTING_TIES[ties]), np.arange(len(x))
    with lent() as lend:
        memory = Lanes.for_rows(n, lend())
        asked = (code_of(x.dtype), table, tie, memory, out, None, left)
        n_left, _ = count_in_lanes(bits_to_read(x), *asked)
    left = left[:n_left]
    fits = np.array([spanned_levels(row) <= memory.lines.size - lanes.WIDTH for row in x])
    is_left = np.isin(np.arange(len(x)), left)
    assert n_left == 0 or not np.all(fits)
    assert not np.any(fits[0] & is_left[0])
    assert np.all(is_left[~fits])
    expected = np.where(is_left[:, np.newaxis], 0, counted_ranks(x, ties))
    np.testing.assert_array_equal(out, expected)


def spanned_levels(row):
    """To the next power of two, where the numbers beside zero that are not there do not count."""
    keys = np.unique(keys_of(row)).astype(int)
    if row.dtype.kind == "f":
        zero = 2**15
        gap = np.min(np.abs(keys[keys != zero] - zero), initial=2**15) - 1
        gap = 0 if gap == 2**15 - 1 else gap
        keys = keys - np.sign(keys - zero) * gap
    span = keys.max() - keys.min()
    return max(4 * lanes.WIDTH, 1 << int(span).bit_length())


@pytest.mark.parametrize("longest", ANY_VECTORS)
@pytest.mark.parametrize("n", [15, 16, 49, 512, 513, 800, 3072, 3073, 2**15, 2**15 + 1])
def test_values_are_scaled_and_rounded_row_by_row(rng, monkeypatch, longest, n):
    """Rows of many levels, of few, and both; so few of them that they are looked up, and more."""
    for module, own in zip((side_by_side, short_rows), longest, strict=True):
        monkeypatch.setattr(module, "LONGEST", own)
    table = rng.normal(size=2 * n - 1).astype(np.float32)
    weight, bias = rng.normal(size=(2, n)).astype(np.float32)
    spans, asked = (1, 1, 1, n), {"with_order": False, "threads": 1}
    plain = Scaling.of(weight, bias, spans, np.dtype("float32"))
    for n_rows in (3, 40):
        for kind in ("normal", "few", "bits"):
            x = halves_of(kind, "float16", (n_rows, n), rng)
            x[1::3] = halves_of("few", "float16", x[1::3].shape, rng)
            counts, columns = counted(x), np.asfortranarray(x)
            for rule, is_bfloat in product(COUNTING_TIES.values(), (False, True)):
                scaling = Scaling.of(weight, bias, spans, np.dtype("float16"), is_bfloat)
                found, _ = rank.map_rows(x, table, rule, scaling=scaling, **asked)
                of_columns, _ = rank.map_rows(columns, table, rule, scaling=scaling, **asked)
                np.testing.assert_array_equal(as_bits(of_columns), as_bits(found))
                wide, _ = rank.map_rows(x, table, rule, scaling=plain, **asked)
                y = table[rule.doubled_midrank(*counts)] * weight + bias
                np.testing.assert_array_equal(wide, y)
                expected = np.empty(y.shape, dtype=np.uint16)
                if is_bfloat:
                    rounding.round_to_bfloat(as_bits(y), expected)
                else:
                    expected[...] = as_bits(y.astype(np.float16))
                np.testing.assert_array_equal(as_bits(found), expected)


def counted(rows):
    """How many entries of its row are less than each, and how many at most equal to it."""
    rows = rows.astype(np.float32)  # NumPy does not sort all floats of 16 bits
    return [
        np.stack([np.searchsorted(np.sort(row), row, side) for row in rows])
        for side in ("left", "right")
    ]


@pytest.mark.parametrize("way", ["lanes", "side by side", "keys"])
def test_a_row_that_is_not_finite_is_found(rng, monkeypatch, way):
    n = {"lanes": 2000, "side by side": 100, "keys": 2000}[way]
    monkeypatch.setattr(short_rows, "LONGEST", 0 if way == "keys" else 3072)
    if way != "lanes":
        monkeypatch.setattr(halves, "SHORTEST", 2**15)
    x = np.round(rng.normal(size=(20, n))).astype(np.float16)
    table, limit = np.arange(2 * n - 1, dtype=np.float32), np.uint16(0x7C00)
    weight = np.ones(n, dtype=np.float32)
    scaling = Scaling.of(weight, None, (1, 1, 1, n), np.dtype("float16"))
    for each in (None, scaling):
        asked = {"with_order": False, "limit": limit, "scaling": each, "threads": 1}
        x[17, 5] = 1
        assert rank.map_rows(x, table, COUNTING_TIES["average"], **asked) is not None
        x[17, 5] = np.nan
        assert rank.map_rows(x, table, COUNTING_TIES["average"], **asked) is None
