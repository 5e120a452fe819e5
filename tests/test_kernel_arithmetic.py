"""The compiled kernels that go over arrays entry by entry: copies, scales, roundings, sums."""

from __future__ import annotations

import decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

import groupmap as gm
from groupmap.backends._bits import INFINITY
from tests.backends import kernels_for_all_sizes, no_kernels

pytest.importorskip("numba")

from groupmap.backends.kernels import normal, rounding, screening
from groupmap.backends.kernels.affine import affine
from groupmap.backends.kernels.columns import AT_ONCE, copy_rows
from groupmap.backends.kernels.compiled import kernel
from groupmap.backends.kernels.exponential import exp
from groupmap.backends.kernels.memory import Contiguous, lent
from groupmap.backends.kernels.scaling import Scaling, round_to_bfloat, round_to_half
from tests.rows import FLOATS

NUMBERS = st.floats(-9, 9) | st.sampled_from([np.nan, np.inf, -np.inf, 1e200, -1e200])


@given(st.sampled_from(FLOATS).flatmap(lambda dtype: hnp.arrays(dtype, st.integers(1, 300))))
def test_screening(x):
    infinity = INFINITY[x.dtype.itemsize]
    found = screening.screen(x, infinity, threads=1)
    assert found == (bool(np.any(np.isnan(x))), not np.all(np.isfinite(x)))


@given(
    hnp.arrays("float64", hnp.array_shapes(max_dims=2), elements=NUMBERS),
    st.integers(0, 3),
    st.sampled_from([1e-5, 1e-300]),
)
def test_normal_probabilities(x, view, clamp):
    given = (x, x.T, x[::-2], np.broadcast_to(x[..., :1], (3, *x.shape)))[view]
    target = gm.gaussian.clamped(clamp)
    with kernels_for_all_sizes():
        found = target.cdf(given)
    # SciPy's are off by 7e-15 at −8.
    last = -special.ndtri(clamp)
    inside = np.abs(given) < last * (1 - 1e-15)
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(30):
        exact = [float(mpmath.ncdf(float(each))) for each in given[inside]]
    np.testing.assert_allclose(found[inside], exact, rtol=2e-15)
    with no_kernels():
        np.testing.assert_array_equal(found[~inside], target.cdf(given)[~inside])


@kernel
def exps(x, y):
    for i in range(x.size):
        y[i] = exp(x[i], 0.0)


def exps_of(x):
    y = np.empty_like(x)
    exps(x, y)
    return y


@given(st.lists(st.floats(-744, 0) | st.floats(-1, 0), min_size=1, max_size=20))
def test_exponentials_of_what_is_not_positive(numbers):
    with decimal.localcontext(prec=40):
        expected = [float(decimal.Decimal(x).exp()) for x in numbers]
    # One unit in the last place, also of subnormal numbers.
    np.testing.assert_allclose(exps_of(np.asarray(numbers)), expected, rtol=2.3e-16, atol=5e-324)


def test_exponentials_of_special_numbers():
    x = np.array([0.0, -0.0, -1e-320, -1e-17, -746.0, -1e300, -np.inf, np.nan])
    np.testing.assert_array_equal(exps_of(x), [1, 1, 1, 1, 0, 0, 0, 0])


@given(
    hnp.arrays(
        "float64",
        st.tuples(st.integers(1, 4), st.integers(0, 40)),
        elements=st.floats(-0.5, 1.5)
        | st.sampled_from([np.nan, 0.0, 1e-300, 1e-12, 0.075, 0.5, 0.925, 1 - 1e-16, 1.0]),
    ),
    st.integers(0, 3),
    st.sampled_from([1e-5, 1e-300, 0.08, 0.4]),
)
def test_normal_quantiles(p, view, clamp):
    given, target = (p, p.T, p[::-2], p[:, ::3])[view], gm.gaussian.clamped(clamp)
    with kernels_for_all_sizes(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(normal, "AT_ONCE", 32)
        found, mirrored = target.ppf(given), target.ppf(1.0 - given)
    with no_kernels():
        np.testing.assert_array_equal(target.ppf(given), found)
    lower = np.minimum(given, 1.0 - given)
    expected = special.ndtri(np.where(lower < clamp, clamp, lower))
    np.testing.assert_allclose(found, np.where(given <= 0.5, 1, -1) * expected, rtol=4e-15)
    is_exact = 1.0 - (1.0 - given) == given
    np.testing.assert_array_equal(mirrored[is_exact], -found[is_exact])


@pytest.mark.parametrize("context", [kernels_for_all_sizes, no_kernels])
def test_the_median_is_no_negative_zero(context):
    with context():
        for medians in (gm.gaussian.ppf(np.array([0.5])), gm.quantile_map(np.ones((1, 3)))):
            np.testing.assert_array_equal(np.signbit(medians), False)


@pytest.mark.parametrize("context", [kernels_for_all_sizes, no_kernels])
@given(st.floats(1e-300, 0.4))
def test_the_cdf_at_the_clamped_ends_is_0_and_1(context, clamp):
    target = gm.gaussian.clamped(clamp)
    with context():
        ends = target.cdf(target.ppf(np.array([0.0, clamp, 1.0])))
    np.testing.assert_array_equal(ends, [0.0, 0.0, 1.0])


def test_normal_quantiles_of_many_are_close_to_those_of_scipy(rng):
    p = np.concatenate([rng.random(2**14), 10.0 ** -rng.uniform(0, 300, 2**12)])
    found = gm.gaussian.clamped(1e-300).ppf(p)
    np.testing.assert_allclose(found, special.ndtri(p), rtol=2e-15)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@given(
    n_rows=st.integers(1, 9),
    n=st.sampled_from([1, 5, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE]),
    some=st.slices(9),
    lie=st.sampled_from(["rows", "columns", "reversed", "every other"]),
)
def test_rows_of_any_strides_are_copied(dtype, n_rows, n, some, lie):
    def rows_among(numbers):
        return {
            "rows": numbers[: n_rows * n].reshape(n_rows, n),
            "columns": numbers[: n_rows * n].reshape(n, n_rows).T,
            "reversed": numbers[: n_rows * n].reshape(n, n_rows).T[:, ::-1],
            "every other": numbers.reshape(n_rows, 2 * n)[:, ::2],
        }[lie][some]

    numbers = np.random.default_rng(0).integers(1, 200, 2 * n_rows * n).astype(dtype)
    rows, written = rows_among(numbers), np.zeros_like(numbers)
    with lent() as lend:
        copied = Contiguous(rows, len(rows), lend())(rows)
        assert copied.flags.c_contiguous
        np.testing.assert_array_equal(copied, rows)
        copy_rows(copied, rows_among(written))
    np.testing.assert_array_equal(rows_among(written), rows)
    assert np.count_nonzero(written) == rows.size  # and nothing else


def parameter_of(spans, parameter, r, i):
    """Which entry of a parameter serves the entry i of row r, as `Scale` says."""
    each_rows, own_rows, each_entries, own_entries = spans
    return parameter[r // each_rows % own_rows * own_entries + i // each_entries]


@pytest.mark.parametrize("spans", [(1, 1, 1, 12), (1, 3, 4, 3), (2, 2, 12, 1)])
@given(has_weight=st.booleans(), has_bias=st.booleans(), cut=st.integers(0, 12))
def test_scaling_rounds_twice(spans, has_weight, has_bias, cut):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(6, 12)).astype(np.float32)
    y[0, 0] = -0.0
    weight, bias = rng.normal(size=(2, spans[1] * spans[3])).astype(np.float32)
    has_bias = has_bias or not has_weight
    expected = y.copy()
    for r, i in np.ndindex(y.shape):
        if has_weight:
            expected[r, i] *= parameter_of(spans, weight, r, i)
        if has_bias:
            expected[r, i] += parameter_of(spans, bias, r, i)
    scaling = Scaling.of(weight if has_weight else None, bias if has_bias else None, spans, y.dtype)
    out = np.empty_like(y)
    scaling(y[:1].copy(), 0, out[:1])
    scaling(y[1:, cut:].copy(), 1, out[1:, cut:], start=cut)  # the other rows, in two parts
    scaling(y[1:, :cut].copy(), 1, out[1:, :cut])
    assert out.tobytes() == expected.tobytes()


HALVES = np.arange(2**16, dtype=np.uint16)  # every number of 16 bits


def floats_that_are_hard_to_round():
    """Every number of 16 bits, halfway to the next, one unit to either side; and any bits."""
    rng = np.random.default_rng(0)
    yield rng.integers(0, 2**32, size=2**20, dtype=np.uint32).view(np.float32)
    for exact in (HALVES.view(np.float16).astype(np.float32),
                  (HALVES.astype(np.uint32) << 16).view(np.float32)):  # fmt: skip
        numbers = np.sort(exact[np.isfinite(exact)])
        for x in (numbers, numbers[:-1] / 2 + numbers[1:] / 2):
            yield from (
                x,
                np.nextafter(x, np.float32(np.inf)),
                np.nextafter(x, np.float32(-np.inf)),
            )


def round_without_instruction(bits, out):
    rounding.round_words_to_half(bits[0], out[0], np.empty_like(bits[0]))


def test_rounding_to_16_bits():
    torch = pytest.importorskip("torch")
    for x in floats_that_are_hard_to_round():
        out = np.empty((1, x.size), dtype=np.uint16)
        ways = ((round_to_half, torch.float16), (round_without_instruction, torch.float16),
                (round_to_bfloat, torch.bfloat16))  # fmt: skip
        for rounded, dtype in ways:
            rounded(x.view(np.uint32)[None], out)
            expected = torch.as_tensor(x).to(dtype)
            found = torch.as_tensor(out[0].view(np.int16)).view(dtype)
            number = ~expected.isnan()
            assert torch.equal(found[number].view(torch.int16), expected[number].view(torch.int16))
            assert found[~number].isnan().all()


def affine_in_long_doubles(x, y, grad, inside):
    expected = np.zeros(x.shape)
    for r, each in enumerate(inside):
        own_x, own_y, own_grad = (values[r, each].astype(np.longdouble) for values in (x, y, grad))
        centred, rest = own_x - own_x.mean(), own_grad - own_grad.mean()
        square = (centred**2).sum()
        rest -= (centred * rest).sum() / square * centred
        expected[r, each] = (centred * own_y).sum() / square * rest
    return expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [3, 40, 5000])
@pytest.mark.parametrize("missing", [False, True])
def test_affine_sums_lose_few_digits(rng, dtype, n, missing):
    """Neither far from zero nor where the entry that differences are taken from is far away."""
    far, outlier = 1e6 + rng.normal(size=(2, n)), rng.normal(size=(2, n))
    outlier[:, 0] = 1e6
    x = np.concatenate([far, outlier]).astype(dtype)
    y, grad = 1000 + np.sort(rng.normal(size=(2, *x.shape)), axis=-1).astype(dtype)
    inside = np.ones(x.shape, dtype=bool)
    if missing:
        inside[:, 3::4] = False
    found = affine(x, y, grad, ~inside if missing else None, threads=1)
    expected = affine_in_long_doubles(x, y, grad, inside)
    scale = np.max(np.abs(expected), axis=-1, keepdims=True)
    assert np.all(np.abs(found - expected) <= 1e-7 * scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("missing", [False, True])
def test_affine_gradients_of_constant_rows_are_zero(rng, dtype, missing):
    """Whatever the ties became: no digit that a mean lacks is taken for a spread."""
    greatest = 0.9 * np.finfo(dtype).max
    x = np.repeat([[0.1], [0.3], [-7.7e9], [greatest]], 5001, axis=1).astype(dtype)
    y, grad = 1 + rng.normal(size=(2, *x.shape)).astype(dtype)
    outside = np.zeros(x.shape, dtype=bool)
    if missing:
        outside[:, ::3] = True
        x[outside] = 5.0
    found = affine(x, y, grad, outside if missing else None, threads=1)
    np.testing.assert_array_equal(found, 0.0)
