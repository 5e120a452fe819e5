"""What the transformer learns of weighted rows, and of rows that come in chunks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

import groupmap as gm

pytest.importorskip("sklearn")

POSITIONS = ("linear", "hazen", "weibull", "median_unbiased", "normal_unbiased")
VALUES = st.integers(-8, 8) | st.floats(-1e6, 1e6, width=32)
few_values = pytest.mark.filterwarnings("ignore:n_quantiles .* is greater")


def uniform(n_quantiles=11, **parameters):
    return gm.GroupMapTransformer(target_quantiles="uniform", n_quantiles=n_quantiles, **parameters)


def assert_same(library, found, expected):
    np.testing.assert_array_equal(library.to_numpy(found), library.to_numpy(expected))


@few_values
@given(
    hnp.arrays(np.float64, (9, 2), elements=VALUES),
    hnp.arrays(np.int64, 9, elements=st.integers(0, 4)),
    st.sampled_from(POSITIONS),
)
def test_whole_weights_are_repeated_rows(X, weights, positions):
    if not weights.any():
        weights[0] = 1
    weighted = uniform(5, positions=positions).fit(X, sample_weight=weights)
    repeated = uniform(5, positions=positions).fit(np.repeat(X, weights, axis=0))
    np.testing.assert_array_equal(weighted.quantiles_, repeated.quantiles_)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("groups", [None, "all", [[0, 2], [1]]], ids=str)
def test_weights_by_scipys_definition(library, rng, positions, groups):
    X, weights = rng.normal(size=(60, 3)), rng.random(60) * 3
    X[7, 1] = np.nan
    weights[3] = 0
    fitted = uniform(21, positions=positions, groups=groups)
    fitted.fit(library.asarray(X), sample_weight=library.asarray(weights))
    p = library.to_numpy(fitted.references_)
    for column, members in enumerate(fitted.groups_):
        values, of_values = X[:, members].ravel(), np.repeat(weights, len(members))
        of_values = of_values[~np.isnan(values)]
        expected = stats.quantile(values[~np.isnan(values)], p, weights=of_values, method=positions)
        found = library.to_numpy(fitted.quantiles_)[:, column]
        np.testing.assert_allclose(found, np.sort(expected), rtol=1e-12, atol=1e-12)


def test_where_scipys_quantiles_fall_ours_do_not(rng):
    """With weights that are not whole, which it says may have no valid interpretation."""
    X, weights = rng.normal(size=(40, 1)), rng.random(40)
    fitted = uniform(500)
    with pytest.warns(UserWarning, match="is set to 40"):
        fitted.fit(X, sample_weight=weights)
    p = np.linspace(0, 1, 2000)
    theirs = stats.quantile(X[:, 0], p, weights=weights)
    assert np.any(np.diff(theirs) < 0)
    assert np.all(np.diff(fitted.quantiles_, axis=0) >= 0)


@few_values
def test_weights_are_checked(rng):
    X = rng.normal(size=(5, 2))
    fitted = uniform(3).fit(X)
    before = fitted.quantiles_.copy()
    for weights, text in (
        (np.ones(4), r"sample_weight.shape == \(4,\), expected \(5,\)"),
        (np.ones((5, 1)), "must be 1D array or scalar"),
        (np.zeros(5), "at least one non-zero"),
        (np.asarray([1, 1, 1, 1, -1.0]), "Negative values"),
        (np.asarray([1, 1, 1, 1, np.nan]), "NaN or infinity"),
        (np.full(5, 1e308), "the sum is infinite"),
        (np.full(5, 0.2), "sums to 1: .* by 5, so that"),
    ):
        with pytest.raises(ValueError, match=text):
            fitted.fit(X, sample_weight=weights)
        np.testing.assert_array_equal(fitted.quantiles_, before)
    np.testing.assert_array_equal(
        uniform(3, positions="hazen").fit(X, sample_weight=2.0).quantiles_,
        uniform(3, positions="hazen").fit(np.repeat(X, 2, axis=0)).quantiles_,
    )


def test_weights_of_what_is_missing_do_not_count():
    X = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, np.nan], [4.0, np.nan]])
    with pytest.raises(ValueError, match=r"sums to 0\.6 over the values of a group"):
        uniform(5).fit(X, sample_weight=[0.3, 0.3, 5.0, 5.0])
    one = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, 7.0]])
    fitted = uniform(3).fit(one, sample_weight=[1.0, 1.0, 0.5])  # of one value there are no others
    np.testing.assert_array_equal(fitted.quantiles_[:, 1], 7.0)


def test_weights_reach_fit_through_a_pipeline(rng):
    import sklearn
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    X, y, weights = rng.normal(size=(50, 2)), rng.normal(size=50), rng.integers(0, 3, size=50)
    with sklearn.config_context(enable_metadata_routing=True):
        transformer = uniform(5).set_fit_request(sample_weight=True)
        model = make_pipeline(transformer, Ridge().set_fit_request(sample_weight=False))
        model.fit(X, y, sample_weight=weights)
    expected = uniform(5).fit(np.repeat(X, weights, axis=0)).quantiles_
    np.testing.assert_allclose(model[0].quantiles_, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("groups", [None, "all", [[0, 2], [1]]], ids=str)
@pytest.mark.parametrize("positions", ["linear", "hazen"])
@few_values
def test_chunks_that_fit_are_exact(library, rng, groups, positions):
    # JAX compiles every operation anew for every length.
    if library.module == "jax" and (groups == "all") == (positions == "linear"):
        pytest.skip("the other positions are enough of a test of these groups")
    X = np.round(rng.normal(size=(60, 3)), 1)
    X[5:9, 1] = np.nan
    together = uniform(60, groups=groups, positions=positions).fit(library.asarray(X))
    apart = uniform(60, groups=groups, positions=positions)
    ends = (0, 1, 60) if library.module == "jax" else (0, 1, 30, 33, 60)
    for begin, end in pairwise(ends):
        apart.partial_fit(library.asarray(X[begin:end]))
        so_far = uniform(60, groups=groups, positions=positions).fit(library.asarray(X[:end]))
        assert_same(library, apart.quantiles_, so_far.quantiles_)
    assert apart.n_samples_seen_ == together.n_samples_seen_ == 60
    given = library.asarray(X)
    assert_same(library, apart.transform(given), together.transform(given))


@given(
    st.lists(st.integers(1, 400), min_size=2, max_size=12),
    st.sampled_from([20, 50, 100]),
    st.integers(0, 2**32 - 1),
)
def test_chunks_beyond_are_within_the_documented_bound(lengths, n_quantiles, seed):
    rng = np.random.default_rng(seed)
    chunks = [(rng.normal(size=(length, 1)) + rng.normal()) * rng.lognormal() for length in lengths]
    transformer = uniform(n_quantiles)
    before = since = 0  # values before the last ones that are kept, and those
    bound_before = bound = 0.0
    for chunk in chunks:
        transformer.partial_fit(chunk)
        if before + since > 0 and since + len(chunk) > n_quantiles:
            before, since, bound_before = before + since, 0, bound
        since += len(chunk)
        step = 1 / (transformer.n_quantiles_ - 1) if transformer.n_quantiles_ > 1 else 1.0
        seen = before + since
        bound = (before * bound_before + since * step) / seen + step + 4 / seen
        if seen <= n_quantiles:
            bound = 0.0
    values = np.sort(np.concatenate(chunks)[:, 0])
    p = transformer.transform(values[:, None])[:, 0]
    # The cdf of all rows is a staircase: nowhere is p outside of its steps by more than that.
    above = np.searchsorted(values, values, side="right") / len(values)
    below = np.searchsorted(values, values, side="left") / len(values)
    assert np.all(p <= above + bound)
    assert np.all(p >= below - bound)


def test_a_chunk_that_fails_changes_nothing(rng):
    X = rng.normal(size=(30, 2))
    transformer = uniform(10).partial_fit(X)
    before = {name: np.copy(value) for name, value in vars(transformer).items()}
    for chunk, text in (
        (X[:, :1], "1 features"),
        (np.full((3, 2), np.inf), "infinity"),
        (X[0], "2D array"),
    ):
        with pytest.raises(ValueError, match=text):
            transformer.partial_fit(chunk)
        assert vars(transformer).keys() == before.keys()
        for name, value in vars(transformer).items():
            np.testing.assert_array_equal(value, before[name])
    with pytest.raises(ValueError, match="subsample=5 needs all rows"):
        transformer.set_params(subsample=5).partial_fit(X)


def test_chunks_go_on_where_fit_stopped(rng):
    X = rng.normal(size=(4000, 1))
    transformer = uniform(200).fit(X[:1000])
    for begin in range(1000, 4000, 500):
        transformer.partial_fit(X[begin : begin + 500])
    assert transformer.n_samples_seen_ == 4000
    whole = uniform(200).fit(X)
    difference = whole.transform(X) - transformer.transform(X)
    assert np.abs(difference).max() < 0.02
    np.testing.assert_array_equal(transformer.fit(X).quantiles_, whole.quantiles_)


def test_weighted_chunks(rng):
    X, weights = rng.normal(size=(3000, 2)), rng.integers(0, 4, size=3000)
    transformer = uniform(300)
    for begin in range(0, 3000, 1000):
        part = slice(begin, begin + 1000)
        transformer.partial_fit(X[part], sample_weight=weights[part])
    whole = uniform(300).fit(np.repeat(X, weights, axis=0))
    assert np.abs(whole.transform(X) - transformer.transform(X)).max() < 0.02


def test_chunks_for_sample_cdfs_learn_the_groups_alone(rng):
    X = rng.normal(size=(4, 6))
    transformer = gm.GroupMapTransformer(2, cdf="sample").partial_fit(X).partial_fit(X)
    assert transformer.groups_ == ((0, 1, 2), (3, 4, 5))
    np.testing.assert_array_equal(transformer.transform(X), gm.group_map(X, 2))


@pytest.mark.parametrize("axis", [0, 1])
def test_in_one_call(library, rng, axis):
    X = rng.normal(size=(40, 30))
    given = library.asarray(X)
    mapped = gm.quantile_transform(given, axis=axis, n_quantiles=20)
    library.check_like(mapped, given)
    table = X if axis == 0 else X.T
    expected = gm.GroupMapTransformer(n_quantiles=20).fit_transform(table)
    np.testing.assert_allclose(
        library.to_numpy(mapped), expected if axis == 0 else expected.T, rtol=1e-12, atol=1e-12
    )


def test_samples_of_data_frames_in_one_call(rng):
    pd = pytest.importorskip("pandas")
    import sklearn

    X = rng.normal(size=(6, 4))
    asked = {"axis": 1, "n_quantiles": 2}
    expected = gm.quantile_transform(X, **asked)
    with sklearn.config_context(transform_output="pandas"):
        np.testing.assert_array_equal(gm.quantile_transform(X, **asked), expected)
        np.testing.assert_array_equal(gm.quantile_transform(pd.DataFrame(X), **asked), expected)
    frame = pd.DataFrame({"a": pd.array([1, 2, None, 4], dtype="Int64"), "b": [4.0, 3.0, 2.0, 1.0]})
    table = frame.to_numpy(dtype=float, na_value=np.nan)
    np.testing.assert_array_equal(
        gm.quantile_transform(frame, **asked), gm.quantile_transform(table, **asked)
    )


def test_sparse_tables_are_refused_by_name():
    from scipy import sparse

    for axis in (0, 1):
        with pytest.raises(TypeError, match=r"[Ss]parse"):
            gm.quantile_transform(sparse.eye_array(4).tocsr(), axis=axis)


def test_tables_only(rng):
    for x in (rng.normal(size=4), rng.normal(size=(2, 2, 2))):
        with pytest.raises(ValueError, match=r"(Expected 2D array|dim 3)"):
            gm.quantile_transform(x, axis=1)


def test_there_is_no_third_axis(rng):
    for axis in (2, True, None):
        with pytest.raises(ValueError, match=f"axis={axis!r} is none of a table's"):
            gm.quantile_transform(rng.normal(size=(4, 4)), axis=axis)


def test_weights_that_are_no_numbers_yet(rng):
    X, which = rng.normal(size=(20, 2)), rng.random(20) < 0.5
    expected = uniform(5).fit(X, sample_weight=which.astype(float)).quantiles_
    for weights in (which, which.astype(object), which.tolist()):
        np.testing.assert_array_equal(uniform(5).fit(X, sample_weight=weights).quantiles_, expected)
    with pytest.raises(TypeError, match=r"sample_weight holds what is no number: .*'a'"):
        uniform(5).fit(X, sample_weight=np.array(["a"] * 20, dtype=object))


@pytest.mark.parametrize(("size", "n"), [(1, 1000), (7, 3000)])
def test_small_chunks_have_no_bias(rng, size, n):
    X = rng.lognormal(size=(n, 1))
    transformer = uniform(500)
    for begin in range(0, len(X), size):
        transformer.partial_fit(X[begin : begin + size])
    difference = uniform(500).fit(X).transform(X) - transformer.transform(X)
    assert np.abs(difference).max() < 0.01


def test_a_weighted_chunk_counts_for_the_rows_that_it_stands_for(rng):
    X, weights = rng.normal(size=(10, 1)), np.full(10, 100.0)
    transformer = gm.GroupMapTransformer().partial_fit(X, sample_weight=weights)
    assert transformer.n_quantiles_ == 1000
    assert transformer.partial_fit(X, sample_weight=weights).n_quantiles_ == 1000


def test_a_subsample_is_of_what_counts(rng):
    X, weights = rng.normal(size=(100, 1)), np.zeros(100)
    weights[:8] = 1
    fitted = uniform(5, subsample=5, random_state=0).fit(X, sample_weight=weights)
    assert set(fitted.quantiles_[:, 0]) <= set(X[:8, 0])


def test_what_was_set_since_is_checked(rng):
    X = rng.normal(size=(30, 4))
    transformer = uniform(10).partial_fit(X)
    before = transformer.quantiles_.copy()
    for parameters, text in (
        ({"n_quantiles": 0}, "n_quantiles"),
        ({"groups": 2}, "other groups than those learned"),
    ):
        with pytest.raises(ValueError, match=text):
            transformer.set_params(**parameters).partial_fit(X)
        np.testing.assert_array_equal(transformer.quantiles_, before)
        transformer.set_params(n_quantiles=10, groups=None)
    for weights, groups, text in ((np.ones(3), None, "sample_weight"), (None, 3, "divisible")):
        fresh = uniform(10, groups=groups)
        with pytest.raises(ValueError, match=text):
            fresh.partial_fit(X, sample_weight=weights)
        assert set(vars(fresh)) == set(vars(uniform(10)))


def test_each_chunk_has_noise_of_its_own():
    transformer = uniform(200, eps=1.0, random_state=0)
    for _ in range(4):
        transformer.partial_fit(np.zeros((50, 1)))
    assert len(np.unique(transformer.quantiles_)) == 200


@few_values
@given(
    hnp.arrays(np.float64, (st.integers(2, 60)), elements=st.integers(-9, 9) | VALUES),
    st.integers(1, 3),
    st.sampled_from(["clip", "linear"]),
)
def test_as_many_quantiles_as_values_are_the_values(x, times, tails):
    """To the bit, so that ties lie on runs of knots, and have the middle of their probabilities."""
    X = np.repeat(x, times)[:, np.newaxis]
    fitted = uniform(len(X), tails=tails).fit(X)
    np.testing.assert_array_equal(fitted.quantiles_, np.sort(X, axis=0))
    expected = gm.quantile_map(X, "uniform", axis=0)
    np.testing.assert_allclose(fitted.transform(X), expected, rtol=0, atol=1e-13)
    cdf = gm.EmpiricalCDF.fit(X[:, 0], n_quantiles=len(X), tails=tails).cdf(X[:, 0])
    np.testing.assert_allclose(cdf, expected[:, 0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_quantile_at_a_value_is_that_value(positions):
    """On five levels no quantile lies a rounding away from one, where slopes would explode."""
    for n in range(11, 70):
        X = np.sort(np.arange(n) % 5.0)[:, np.newaxis]
        for n_quantiles in (6, 11):
            fitted = uniform(n_quantiles, positions=positions, tails="linear").fit(X)
            away = np.abs(fitted.quantiles_ - np.round(fitted.quantiles_))
            assert not np.any((away > 0) & (away < 1e-9))


def test_a_feature_without_values_leaves_the_others_as_they_are(rng):
    for n_rows in [3, 4, 5] * 9:
        X = 3.0 * rng.integers(0, 2, size=(n_rows, 3))
        X[:, 1] = np.nan
        others = [0, 2]
        asked = rng.integers(-3, 8, size=(3, 3)).astype(float)
        for n_quantiles in (2, 3):
            fitted = uniform(n_quantiles, tails="linear").fit(X)
            alone = uniform(n_quantiles, tails="linear").fit(X[:, others])
            for way in ("transform", "inverse_transform"):
                found = getattr(fitted, way)(asked)
                assert np.isnan(found[:, 1]).all()
                expected = getattr(alone, way)(asked[:, others])
                np.testing.assert_array_equal(found[:, others], expected)


@few_values
def test_a_greater_group_is_known_by_all_that_the_first_rows_had_of_it():
    fitted = gm.GroupMapTransformer([[0], [1, 2]], n_quantiles=4, target_quantiles="uniform")
    fitted.partial_fit(np.array([[0.0, -100.0, 100.0]]))
    for _ in range(2):
        fitted.partial_fit(np.arange(27.0).reshape(9, 3))
        np.testing.assert_array_equal(fitted.quantiles_[[0, -1], 1], [-100.0, 100.0])


def test_weights_that_sum_to_two_but_for_rounding(rng):
    X = rng.normal(size=(442, 1))
    weights = np.ones(442) * 2 / 442
    assert weights.sum() < 2.0
    uniform().fit(X, sample_weight=weights)


def test_dask_tables_are_refused():
    array = pytest.importorskip("dask.array")
    with pytest.raises(TypeError, match=r"Dask array; fit it to X\.compute"):
        uniform().fit(array.ones((9, 2)))


UNEVEN = [[5], [0, 2, 3], [6], [7, 1, 4]]


@pytest.mark.parametrize("chunks", [1, 3, 9])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_groups_of_several_sizes_learn_what_each_learns_alone(library, rng, chunks, is_weighted):
    """In chunks that are kept, and then thinned; a small group has as many values as quantiles."""
    X, weights = rng.normal(size=(chunks, 15, 8)), 3 * rng.random((chunks, 15)) + 1
    X[0, 4, 2] = np.nan
    fitted, alone = uniform(15, groups=UNEVEN), [uniform(15, groups="all") for _ in UNEVEN]
    for rows, of_rows in zip(X, weights, strict=True):
        weighted = {"sample_weight": library.asarray(of_rows)} if is_weighted else {}
        fitted.partial_fit(library.asarray(rows), **weighted)
        for each, members in zip(alone, UNEVEN, strict=True):
            each.partial_fit(library.asarray(rows[:, members]), **weighted)
    for column, each in enumerate(alone):
        assert_same(library, fitted.quantiles_[:, column], each.quantiles_[:, 0])


def test_of_a_large_group_beside_many_small_ones_no_more_is_kept_than_of_the_table(rng):
    X = rng.normal(size=(10, 2000))
    fitted = uniform(10, groups=[0] * 1000 + list(range(1, 1001))).fit(X)
    kept = sum(each.nbytes for each in vars(fitted).values() if isinstance(each, np.ndarray))
    assert kept <= 3 * X.nbytes
