"""The compiled kernels of knots, against the searches without them."""

from __future__ import annotations

import math

import array_api_compat.numpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import ndtr, ndtri

import groupmap as gm
from groupmap.backends import ops_for
from tests.backends import kernels_for_all_sizes, no_kernels, with_kernels_and_without

pytest.importorskip("numba")

from tests.kernel_calls import from_python
from tests.rows import FLOATS


@given(hnp.arrays(st.sampled_from(FLOATS), st.integers(1, 50), elements=st.floats(-9, 9, width=16)))
def test_a_reference_of_as_many_values_has_its_table_at_once(sample):
    x = np.arange(3.0 * sample.size).reshape(3, -1).astype(sample.dtype)
    for positions in ("linear", "weibull"):
        found, expected = with_kernels_and_without(
            lambda positions=positions: gm.quantile_map(x, sample, positions=positions)
        )
        np.testing.assert_array_equal(found, np.broadcast_to(np.sort(sample), x.shape))
        np.testing.assert_array_equal(found, expected)
        tied = np.repeat(x[:, :1], sample.size, axis=1)
        found, expected = with_kernels_and_without(
            lambda positions=positions, tied=tied: gm.quantile_map(
                tied, sample, positions=positions
            )
        )
        np.testing.assert_array_equal(found, expected)


KNOTS = hnp.arrays("float64", st.integers(1, 30), elements=st.floats(-1e3, 1e3, width=16))


@given(
    KNOTS, hnp.arrays("float64", st.integers(1, 30), elements=st.floats(-2e3, 2e3)), st.booleans()
)
def test_interpolation_between_knots(knots, x, at_knots):
    from groupmap.backends.kernels.knots import ON_RUNS, Interpolator, bisect
    from groupmap.interpolation import interpolate

    knots = np.sort(knots)[None]
    values = np.cumsum(np.abs(knots), axis=-1)
    x = np.concatenate([knots[0] if at_knots else x, [np.nan, np.inf, -np.inf]])[None]
    xp, ops = np, ops_for(array_api_compat.numpy)
    for on_runs in ON_RUNS:
        with no_kernels():
            expected = interpolate(x, knots, values, on_runs=on_runs, xp=xp, ops=ops)
        found = Interpolator(knots, values, on_runs)(x, threads=1)
        np.testing.assert_array_equal(found, expected)
        found = bisect(x, knots, values, on_runs, threads=1)
        np.testing.assert_array_equal(found, expected)


HEAVY_TAILED = st.tuples(st.sampled_from([-1.0, 1.0]), st.floats(-40, 40)).map(
    lambda sign_and_log: sign_and_log[0] * math.exp(sign_and_log[1])
)


@given(
    hnp.arrays("float64", st.integers(1, 200), elements=HEAVY_TAILED),
    hnp.arrays("float64", st.integers(1, 30), elements=HEAVY_TAILED),
    st.sampled_from(["float32", "float64"]),
)
def test_buckets_of_knots_with_heavy_tails(knots, x, dtype):
    """They rise with what lies in them, and the steps suffice that are left."""
    from groupmap.backends.kernels.knot_buckets import Buckets, find_buckets, make_buckets

    knots, x = np.unique(knots.astype(dtype)), x.astype(dtype)
    x = np.sort(np.concatenate([x, knots, np.nextafter(knots, -np.inf), [-np.inf, np.inf]]))
    starts, line, _ = (each[0] for each in Buckets.for_knots(1, len(knots)))
    steps = from_python(make_buckets)(knots, starts, line)
    buckets = np.empty(len(x), dtype=np.int32)
    from_python(find_buckets)(x, line, len(starts) - 2, buckets)
    assert np.all(np.diff(buckets) >= 0)
    for side in ("left", "right"):
        rest = np.searchsorted(knots, x, side) - starts[buckets]
        assert np.all((rest >= 0) & (rest < 2**steps))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["normal", "lognormal", "reflected", "cauchy", "both"])
def test_few_steps_are_left_between_knots(kind, dtype):
    """Whichever way the tails are heavy; straight buckets would leave up to ten."""
    from groupmap.backends.kernels.knot_buckets import Buckets, make_buckets

    z = ndtri((np.arange(1000) + 0.5) / 1000)
    knots = {
        "normal": z,
        "lognormal": np.exp(2 * z),
        "reflected": -np.exp(-2 * z),
        "cauchy": np.tan(np.pi * (ndtr(z) - 0.5)),
        "both": np.sinh(3 * z),
    }[kind].astype(dtype)
    starts, line, _ = (each[0] for each in Buckets.for_knots(1, len(knots)))
    assert from_python(make_buckets)(knots, starts, line) <= 3


@given(
    hnp.arrays("float64", st.integers(5, 200), elements=HEAVY_TAILED),
    hnp.arrays("float64", st.integers(1, 600), elements=HEAVY_TAILED),
)
def test_interpolation_between_knots_with_heavy_tails(knots, x):
    from groupmap.backends.kernels.knots import Interpolator, bisect

    knots = np.sort(knots)[None]
    values = np.linspace(0, 1, knots.size)[None]
    x = np.concatenate([x, knots[0], [np.nan, np.inf, -np.inf]])[None]
    found = Interpolator(knots, values, "middle")(x, threads=1)
    np.testing.assert_array_equal(found, bisect(x, knots, values, "middle", threads=1))


@given(
    KNOTS, hnp.arrays("float64", st.integers(1, 30), elements=st.floats(-2e3, 2e3)), st.booleans()
)
def test_lines_through_knots_and_their_slopes(knots, x, is_continued):
    torch = pytest.importorskip("torch")
    from groupmap.nn._piecewise import middles_of_runs, through_knots

    knots = torch.as_tensor(np.sort(knots)[None])
    heights = torch.cumsum(knots.abs(), dim=-1)
    at_knots = middles_of_runs(knots, heights)
    x = torch.as_tensor(np.concatenate([x, knots[0], [np.nan, np.inf, -np.inf]])[None])
    found = []
    for context in (no_kernels, kernels_for_all_sizes):
        leaf = x.clone().requires_grad_()
        with context():
            y = through_knots(leaf, knots, heights, at_knots, is_continued=is_continued)
        y.sum().backward()
        found.append((y.detach(), leaf.grad))
    scale = heights.max().item() + 1.0
    torch.testing.assert_close(
        found[0][0], found[1][0], equal_nan=True, rtol=1e-9, atol=1e-12 * scale
    )
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-9, atol=0.0)


@given(
    hnp.arrays("float32", st.integers(2, 9), elements=st.floats(-20, 20, width=32)),
    st.floats(-1e4, 1e4, width=32),
)
def test_lines_of_single_precision_at_their_jumps(knots, offset):
    """A knot and its neighbour of one unit in the last place lie in the right segments."""
    torch = pytest.importorskip("torch")
    from groupmap.nn._piecewise import middles_of_runs, through_knots

    knots = np.sort(np.concatenate([knots, knots[-1:]])) + np.float32(offset)
    beside = np.concatenate([knots, np.nextafter(knots, -np.inf), np.nextafter(knots, np.inf)])
    knots, x = torch.as_tensor(knots)[None], torch.as_tensor(beside)[None]
    heights = torch.arange(knots.shape[1], dtype=torch.float32)[None]
    at_knots = middles_of_runs(knots, heights)
    with no_kernels():
        expected = through_knots(x, knots, heights, at_knots, is_continued=False)
    with kernels_for_all_sizes():
        found = through_knots(x, knots, heights, at_knots, is_continued=False)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("scale", [1.0, 1e300, 1e-310])
def test_knots_of_every_scale(rng, scale):
    from groupmap.backends.kernels.knots import Interpolator

    knots = np.sort(np.exp(5 * rng.normal(size=(3, 200))), axis=-1) * scale / 1e7
    values = np.broadcast_to(np.linspace(0, 1, 200), knots.shape)
    at_knots = Interpolator(knots, values, "middle")(knots, threads=2)
    np.testing.assert_allclose(at_knots, values, atol=1e-15 if scale > 1e-300 else 0.5)
    assert np.all(np.diff(at_knots, axis=-1) >= 0)


@pytest.mark.parametrize("target", ["uniform", "gaussian"])
def test_a_transformer_gives_the_same_bits_with_kernels_and_without(rng, target):
    pytest.importorskip("sklearn")
    X = rng.normal(size=(3000, 7))
    X[:, 2] = np.maximum(X[:, 2], 0)
    X[::50, 3] = np.nan
    results = []
    for context in (no_kernels, kernels_for_all_sizes):
        with context():
            fitted = gm.GroupMapTransformer(n_quantiles=100, target_quantiles=target).fit(X)
            y = fitted.transform(X)
            results.append((fitted.quantiles_, y, fitted.inverse_transform(y)))
    *exact, back = zip(*results, strict=True)
    for one, other in exact:
        np.testing.assert_array_equal(one, other)
    # The kernel of the normal cdf is another approximation than SciPy's.
    np.testing.assert_allclose(*back, rtol=1e-12 if target == "gaussian" else 0, atol=1e-14)
