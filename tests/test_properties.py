"""What holds for every input, searched for counterexamples by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import groupmap as gm
from groupmap.positions import RankPositions
from tests import oracle

SIZES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=17)
ANY_FLOATS = {
    dtype: st.floats(width=8 * np.dtype(dtype).itemsize, allow_nan=True)
    for dtype in ("float16", "float32", "float64")
}
# Few distinct values: most draws have ties.
TIED_FLOATS = st.sampled_from([-np.inf, -2.5, -0.0, 0.0, 5e-324, 1.0, 1.7e308, np.inf, np.nan])
TARGETS = st.sampled_from(sorted(oracle.QUANTILES))
SYMMETRIC = st.sampled_from(["gaussian", "cauchy", "laplace", "logistic"])
MIRRORED_POSITIONS = st.sampled_from(sorted(oracle.POSITIONS))  # all of them have a = b
TIES = st.sampled_from(["average", "min", "max", "ordinal"])


@st.composite
def arrays(draw, elements=None, shapes=SIZES):
    if elements is None and draw(st.booleans()):
        elements = TIED_FLOATS
    if elements is None:
        dtype = draw(st.sampled_from(sorted(ANY_FLOATS)))
        return draw(hnp.arrays(dtype, shapes, elements=ANY_FLOATS[dtype]))
    return draw(hnp.arrays("float64", shapes, elements=elements))


INTEGERS = st.sampled_from(["int8", "uint8", "int64", "uint64"]).flatmap(
    lambda dtype: hnp.arrays(dtype, SIZES)
)
FINITE = arrays(elements=st.floats(-1e6, 1e6, width=32))


def assert_close_to_oracle(y, expected, target):
    """To four units in the last place, and where numbers are subnormal."""
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


@given(st.one_of(arrays(), INTEGERS), TARGETS, MIRRORED_POSITIONS, TIES)
def test_equals_the_oracle(x, target, positions, ties):
    before = x.copy()
    y = gm.quantile_map(x, target, positions=positions, ties=ties)
    expected = oracle.map_rows(x, target, positions=positions, ties=ties)
    assert_close_to_oracle(y, expected, target)
    np.testing.assert_array_equal(x, before)


@given(arrays(), st.data())
def test_a_mask_is_as_good_as_nan(x, data):
    where = data.draw(hnp.arrays(np.bool_, x.shape))
    masked = gm.quantile_map(x, where=where)
    marked = gm.quantile_map(np.where(where, x, np.nan).astype(x.dtype))
    np.testing.assert_array_equal(masked, marked)


@given(arrays(), TARGETS)
def test_monotone(x, target):
    y = gm.quantile_map(x, target)
    for row, mapped in zip(x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1]), strict=True):
        order = np.argsort(row)  # NaN last
        assert np.all(np.diff(mapped[order][: np.sum(~np.isnan(row))]) >= 0)


@given(arrays(), TARGETS, st.data())
def test_permutation_equivariant(x, target, data):
    order = data.draw(st.permutations(range(x.shape[-1])))
    np.testing.assert_array_equal(
        gm.quantile_map(x[..., order], target), gm.quantile_map(x, target)[..., order]
    )


@given(FINITE)
def test_invariant_under_increasing_maps(x):
    y = gm.quantile_map(x)
    for increasing in (lambda v: 3 * v, lambda v: v**3 * 8, np.cbrt):
        image = increasing(x)
        # Rounding can tie what was distinct; only a map that stays strict says something.
        if len(np.unique(image)) == len(np.unique(x)):
            np.testing.assert_array_equal(gm.quantile_map(image), y)


@given(arrays(), SYMMETRIC, MIRRORED_POSITIONS)
def test_antisymmetric_for_symmetric_targets(x, target, positions):
    y = gm.quantile_map(x, target, positions=positions)
    np.testing.assert_array_equal(gm.quantile_map(-x, target, positions=positions), -y)


@given(arrays(shapes=hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)), st.data())
def test_independent_of_the_other_rows(x, data):
    """To the last bit, though a NaN elsewhere changes how Q is evaluated for all of them."""
    alone = gm.quantile_map(x[:1])
    others = data.draw(
        hnp.arrays(x.dtype, (3, x.shape[1]), elements=st.sampled_from([0.0, 1.0, np.nan]))
    )
    together = gm.quantile_map(np.concatenate([x[:1], others]))
    np.testing.assert_array_equal(together[:1], alone)


@given(arrays(shapes=st.integers(1, 30)))
def test_nan_is_as_if_it_were_not_there(x):
    valid = ~np.isnan(x)
    y = gm.quantile_map(x)
    assert np.all(np.isnan(y[~valid]))
    np.testing.assert_array_equal(y[valid], gm.quantile_map(x[valid]))


@given(FINITE, st.integers(1, 40), MIRRORED_POSITIONS)
def test_matching_keeps_to_the_range_of_the_reference(x, m, positions):
    reference = np.random.default_rng(m).normal(size=m)
    y = gm.match_quantiles(x, reference, positions=positions)
    assert y.min() >= reference.min()
    assert y.max() <= reference.max()
    np.testing.assert_array_equal(
        gm.match_quantiles(reference, reference, positions=positions), reference
    )


@given(FINITE)
def test_a_fitted_cdf_and_its_inverse(x):
    flat = x.reshape(-1)
    fitted = gm.EmpiricalCDF.fit(flat)
    p = fitted.cdf(flat)
    assert p.min() >= 0
    assert p.max() <= 1
    inside = np.unique(flat).size == flat.size
    if inside:
        np.testing.assert_allclose(fitted.ppf(p), flat, rtol=1e-12, atol=1e-9)
    # At its own data, the fitted cdf is the cdf of the map, ties included.
    np.testing.assert_allclose(p, gm.quantile_map(flat, "uniform"), rtol=1e-12, atol=1e-15)


def test_a_reference_a_row_is_as_good_as_one_by_one():
    rng = np.random.default_rng(0)
    x, reference = rng.normal(size=(3, 20_000)), rng.gamma(2.0, size=(3, 15_000))
    x[:, ::7] = 0.0
    for ties in ("average", "ordinal"):
        together = gm.match_quantiles(x, reference, axis=1, ties=ties)
        for row, of_row, expected in zip(x, reference, together, strict=True):
            np.testing.assert_array_equal(gm.match_quantiles(row, of_row, ties=ties), expected)


SHARE = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 1 / 3, 0.4])


@given(st.integers(1, 300), SHARE, SHARE)
def test_positions_are_probabilities(n, a, b):
    positions = RankPositions(np.arange(2.0 * n - 1), n, a, b, xp=np)
    for p in (positions.p, positions.complement):
        assert np.all((p >= 0) & (p <= 1))
    assert np.all(np.diff(positions.p) > 0)


@given(st.integers(1, 300), SHARE)
def test_a_constant_group_lies_at_one_half(n, a):
    y = gm.quantile_map(np.zeros(n), "uniform", positions=(a, a))
    np.testing.assert_array_equal(y, 0.5)
