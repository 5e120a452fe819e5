"""The transformer: groups, targets, the way there and back, and scikit-learn's own checks."""

from __future__ import annotations

import copy
import pickle
import re
import tracemalloc

import numpy as np
import pytest
from scipy import stats

import groupmap as gm

sklearn = pytest.importorskip("sklearn")

from sklearn.exceptions import NotFittedError  # noqa: E402 (after the check that it is there)
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import QuantileTransformer  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

GROUPS = [None, 2, 3, "all", list("aabbab"), [0, 0, 0, 1, 2, 2], [[0, 3], [5, 1, 2, 4]]]


@pytest.fixture(name="X")
def table(rng):
    return rng.normal(size=(200, 6)) * np.arange(1, 7)


@pytest.mark.filterwarnings("ignore:n_quantiles .* is greater")  # their tables are small
@parametrize_with_checks([gm.GroupMapTransformer(), gm.GroupMapTransformer("all", cdf="sample")])
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("target", "name"), [("uniform", "uniform"), ("gaussian", "normal")])
@pytest.mark.parametrize("n_quantiles", [10, 100, 200])
def test_the_numbers_of_quantile_transformer(X, target, name, n_quantiles):
    X[3, 2] = np.nan
    ours = gm.GroupMapTransformer(target_quantiles=target, n_quantiles=n_quantiles)
    theirs = QuantileTransformer(n_quantiles=n_quantiles, output_distribution=name, subsample=None)
    bound = 4.0 if name == "normal" else 1.0  # where neither is clipped
    np.testing.assert_allclose(
        np.clip(ours.fit_transform(X), -bound, bound),
        np.clip(theirs.fit_transform(X), -bound, bound),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("groups", GROUPS, ids=str)
@pytest.mark.parametrize("tails", ["clip", "linear"])
def test_there_and_back(library, X, groups, tails):
    transformer = gm.GroupMapTransformer(groups, n_quantiles=50, tails=tails)
    given = library.asarray(X)
    mapped = transformer.fit(given).transform(given)
    library.check_like(mapped, given)
    back = transformer.inverse_transform(mapped)
    library.check_like(back, given)
    np.testing.assert_allclose(library.to_numpy(back), X, rtol=1e-11, atol=1e-11)
    assert sorted(sum(transformer.groups_, ())) == list(range(6))
    assert transformer.quantiles_.shape == (50, len(transformer.groups_))
    assert transformer.references_.shape == (transformer.n_quantiles_,) == (50,)


@pytest.mark.parametrize("groups", GROUPS, ids=str)
def test_a_group_pools_its_features(X, groups):
    """As one column that holds all its features' values."""
    fitted = gm.GroupMapTransformer(groups, n_quantiles=40, target_quantiles="uniform").fit(X)
    mapped = fitted.transform(X)
    for column, members in enumerate(fitted.groups_):
        pooled = X[:, members].reshape(-1, 1)
        alone = gm.GroupMapTransformer(n_quantiles=40, target_quantiles="uniform").fit(pooled)
        np.testing.assert_array_equal(alone.quantiles_[:, 0], fitted.quantiles_[:, column])
        expected = alone.transform(pooled).reshape(len(X), -1)
        np.testing.assert_array_equal(mapped[:, members], expected)


@pytest.mark.parametrize("groups", [2, 3, "all"])
def test_sample_cdf_is_the_layers_map(library, X, groups):
    given = library.asarray(X)
    mapped = gm.GroupMapTransformer(groups, cdf="sample").fit(given).transform(given)
    expected = gm.group_map(given, 1 if groups == "all" else groups)
    np.testing.assert_array_equal(library.to_numpy(mapped), library.to_numpy(expected))


def test_sample_cdf_of_unequal_groups(X):
    fitted = gm.GroupMapTransformer([[0, 3], [5, 1, 2, 4]], cdf="sample").fit(X)
    mapped = fitted.transform(X)
    for members in ([0, 3], [5, 1, 2, 4]):
        np.testing.assert_array_equal(mapped[:, members], gm.quantile_map(X[:, members]))
    assert not hasattr(fitted, "inverse_transform")
    assert not hasattr(fitted, "quantiles_")


@pytest.mark.parametrize(
    "target",
    ["uniform", "cauchy", "laplace", "logistic", "sparse", stats.norm(2, 3), stats.Normal(), "own"],
    ids=["uniform", "cauchy", "laplace", "logistic", "sparse", "frozen", "new-style", "reference"],
)
def test_targets(library, X, target):
    if not library.reads_host and not isinstance(target, str):
        pytest.skip("SciPy does not reach this device")
    if isinstance(target, str) and target == "own":
        target = library.asarray(np.linspace(-1, 1, 9) ** 3)
    transformer = gm.GroupMapTransformer(target_quantiles=target, n_quantiles=50)
    given = library.asarray(X)
    mapped = transformer.fit(given).transform(given)
    back = library.to_numpy(transformer.inverse_transform(mapped))
    # Sparse is all but flat near 0, where nothing tells its quantiles apart.
    is_sparse = isinstance(target, str) and target == "sparse"
    inside = np.quantile(X, 0.3, axis=0) < X if is_sparse else np.full(X.shape, True)
    np.testing.assert_allclose(back[inside], X[inside], rtol=1e-7, atol=1e-9)


def test_discrete_distributions_stay_in_their_support():
    X = np.arange(10.0)[:, None]
    mapped = gm.GroupMapTransformer(target_quantiles=stats.randint(0, 5), n_quantiles=10)
    assert set(np.unique(mapped.fit_transform(X))) == {0, 1, 2, 3, 4}


def test_labels_in_a_column(X):
    pd = pytest.importorskip("pandas")
    fitted = gm.GroupMapTransformer(pd.Series(list("aabbab")), n_quantiles=20).fit(X)
    assert fitted.groups_ == ((0, 1, 4), (2, 3, 5))


def test_groups_as_other_libraries_hold_them(X):
    pd = pytest.importorskip("pandas")
    table, blocks = pd.DataFrame(X, columns=list("abcdef")), ((0, 1, 2), (3, 4, 5))
    for groups in (
        np.array(2), np.arange(6).reshape(2, 3), [table.columns[:3], table.columns[3:]],
        [("a", 1)] * 3 + [("b", 1)] * 3, np.array(list("xxxyyy")),
    ):  # fmt: skip
        assert gm.GroupMapTransformer(groups, n_quantiles=20).fit(table).groups_ == blocks
    for groups in ([["a"], *"bcdef"], [[*"ab"], *"cdef"]):
        with pytest.raises(TypeError, match=r"holds lists and others.*also of a single one"):
            gm.GroupMapTransformer(groups).fit(table)


def test_torch_distributions_and_their_inverse(X):
    torch = pytest.importorskip("torch")
    given = torch.from_numpy(X)
    for target in (torch.distributions.Normal(1.0, 2.0), torch.distributions.Uniform(0.0, 2.0)):
        transformer = gm.GroupMapTransformer(target_quantiles=target, n_quantiles=50).fit(given)
        back = transformer.inverse_transform(transformer.transform(given))
        torch.testing.assert_close(back, given, rtol=1e-6, atol=1e-6)


def test_a_reference_of_one_value_sends_everything_to_the_median(X):
    transformer = gm.GroupMapTransformer(target_quantiles=np.array([7.0]), n_quantiles=51).fit(X)
    mapped = transformer.transform(X)
    assert np.all(mapped == 7.0)
    median = np.quantile(X, 0.5, axis=0)
    np.testing.assert_allclose(transformer.inverse_transform(mapped), np.tile(median, (200, 1)))


def test_integers_are_ranked_as_they_are(library):
    X = np.array([[2**53, 2**53 + 1, 2**53 + 2], [3, 2, 1]])
    mapped = gm.GroupMapTransformer("all", cdf="sample", target_quantiles="uniform").fit_transform(
        library.asarray(X)
    )
    np.testing.assert_array_equal(library.to_numpy(mapped), [[0, 0.5, 1], [1, 0.5, 0]])


def test_a_fit_that_fails_changes_nothing(X):
    torch = pytest.importorskip("torch")
    transformer = gm.GroupMapTransformer(n_quantiles=20).fit(X[:, :2])
    expected = transformer.transform(X[:, :2])
    with pytest.raises(ValueError, match="must be divisible"):
        transformer.set_params(groups=4).fit(X)
    transformer.set_params(groups=None)
    np.testing.assert_array_equal(transformer.transform(X[:, :2]), expected)
    transformer.set_params(groups="all", cdf="sample").fit(torch.from_numpy(X))
    assert not hasattr(transformer, "quantiles_")
    with pytest.raises(NotFittedError):
        transformer.set_params(cdf="fitted").transform(torch.from_numpy(X))


def test_tables_without_an_order(X):
    with pytest.raises(TypeError, match="masked array"):
        gm.GroupMapTransformer().fit(np.ma.masked_array(X, X > 0))
    with pytest.raises(TypeError, match="bool"):
        gm.GroupMapTransformer().fit(X > 0)


def test_callables_have_no_inverse(X):
    fitted = gm.GroupMapTransformer(target_quantiles=np.square, n_quantiles=50).fit(X)
    assert fitted.transform(X).max() == 1.0
    with pytest.raises(NotImplementedError, match="has no cdf"):
        fitted.inverse_transform(X)


def test_linear_tails_go_on_beyond_the_training_range(X):
    fitted = gm.GroupMapTransformer(n_quantiles=50, tails="linear").fit(X)
    beyond = 3 * X
    mapped = fitted.transform(beyond)
    np.testing.assert_allclose(fitted.inverse_transform(mapped), beyond, rtol=1e-10)
    clipped = gm.GroupMapTransformer(n_quantiles=50).fit(X).transform(beyond)
    assert mapped.max() > clipped.max() == pytest.approx(gm.gaussian(1.0))
    inside = (beyond > X.min(axis=0)) & (beyond < X.max(axis=0))
    np.testing.assert_array_equal(mapped[inside], clipped[inside])


def test_missing_values(library, X):
    X[:50, 0], X[:, 5], X[7, 2] = np.nan, np.nan, np.nan
    given = library.asarray(X)
    transformer = gm.GroupMapTransformer(n_quantiles=20).fit(given)
    for table in (transformer.transform(given), transformer.inverse_transform(given)):
        np.testing.assert_array_equal(np.isnan(library.to_numpy(table)), np.isnan(X))
    np.testing.assert_allclose(
        library.to_numpy(transformer.quantiles_)[:, 0],
        np.quantile(X[50:, 0], np.linspace(0, 1, 20)),
    )


def test_a_zero_inflated_feature_maps_zeros_to_the_middle_of_their_share():
    column = np.concatenate([np.zeros(70), np.arange(1.0, 31.0)])[:, None]
    fitted = gm.GroupMapTransformer(n_quantiles=100, target_quantiles="uniform").fit(column)
    assert fitted.transform(column)[0, 0] == pytest.approx(0.35, abs=0.01)


def test_one_training_row_and_constant_columns_map_to_the_middle(X):
    assert np.all(gm.GroupMapTransformer(n_quantiles=1).fit_transform(X[:1]) == 0.0)
    constant = np.ones((50, 2))
    for n_quantiles in (1, 2, 50):
        transformer = gm.GroupMapTransformer(n_quantiles=n_quantiles)
        assert np.all(transformer.fit_transform(constant) == 0.0)


def test_float32_stays(library, X):
    given = library.asarray(X, "float32")
    mapped = gm.GroupMapTransformer(n_quantiles=20).fit_transform(given)
    library.check_like(mapped, given)


def test_subsample_and_noise_are_repeatable(X):
    def fitted(seed):
        return gm.GroupMapTransformer(n_quantiles=20, subsample=50, eps=0.1, random_state=seed).fit(
            X
        )

    np.testing.assert_array_equal(fitted(1).quantiles_, fitted(1).quantiles_)
    assert np.any(fitted(1).quantiles_ != fitted(2).quantiles_)
    np.testing.assert_array_equal(fitted(1).transform(X), fitted(1).transform(X))


def test_copy_false_writes_into_the_input(X):
    given = X.copy()
    transformer = gm.GroupMapTransformer(n_quantiles=20).fit(X)
    expected = transformer.transform(given)
    np.testing.assert_array_equal(given, X)
    assert transformer.set_params(copy=False).transform(given) is given
    np.testing.assert_array_equal(given, expected)


def test_a_table_whose_entries_share_memory_is_not_written_to():
    values = np.arange(12.0)
    windows = np.lib.stride_tricks.sliding_window_view(values, 3, writeable=True)
    transformer = gm.GroupMapTransformer(n_quantiles=10).fit(windows)
    expected = transformer.transform(windows)
    np.testing.assert_array_equal(transformer.set_params(copy=False).transform(windows), expected)
    np.testing.assert_array_equal(values, np.arange(12.0))


def test_data_frames(X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("uvwxyz"))
    transformer = gm.GroupMapTransformer([["u", "x"], ["v", "w", "y", "z"]], n_quantiles=20)
    transformer.set_output(transform="pandas")
    mapped = transformer.fit_transform(frame)
    assert list(mapped.columns) == list("uvwxyz")
    assert transformer.groups_ == ((0, 3), (1, 2, 4, 5))
    assert list(transformer.get_feature_names_out()) == list("uvwxyz")


def test_in_a_pipeline(X):
    y = X[:, 0] ** 3 > X[:, 1]
    model = make_pipeline(gm.GroupMapTransformer(n_quantiles=50), LogisticRegression())
    assert model.fit(X, y).score(X, y) > 0.8
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_more_quantiles_than_values(X):
    with pytest.warns(UserWarning, match=r"n_quantiles \(1000\) is greater than .* \(200\)"):
        transformer = gm.GroupMapTransformer().fit(X)
    assert transformer.n_quantiles_ == 200


@pytest.mark.parametrize(
    ("parameters", "error", "text"),
    [
        ({"n_quantiles": 0}, ValueError, r"'n_quantiles' .* \[1, inf\). Got 0"),
        ({"n_quantiles": 2.5}, TypeError, "'n_quantiles' .* Got 2.5"),
        ({"n_quantiles": None}, TypeError, "'n_quantiles' .* Got None"),
        ({"target_quantiles": "norm"}, ValueError, "among .*'cauchy'.* Got 'norm'"),
        ({"positions": "blum"}, ValueError, "among .*'hazen'.* Got 'blum'"),
        ({"tails": "wrap"}, ValueError, "'tails' .* Got 'wrap'"),
        ({"cdf": "none"}, ValueError, "'cdf' .* Got 'none'"),
        ({"cdf": "sample"}, ValueError, "groups='all'"),
        ({"subsample": 0}, ValueError, "'subsample' .* Got 0"),
        ({"eps": -1.0}, ValueError, "'eps' .* Got -1.0"),
        ({"groups": 4}, ValueError, r"features \(6\) must be divisible by groups \(4\)"),
        ({"groups": 0}, ValueError, "'groups' .* Got 0"),
        ({"groups": True}, TypeError, "groups=True"),
        ({"groups": 2.5}, TypeError, "'groups' .* Got 2.5"),
        ({"groups": "each"}, ValueError, "'groups' .* Got 'each'"),
        ({"groups": list("abc")}, ValueError, "3 labels for 6 features"),
        ({"groups": [[0, 1], [1, 2, 3, 4, 5]]}, ValueError, r"more than once: \[1\]"),
        ({"groups": [[0, 1], [2, 3]]}, ValueError, r"not named: \[4, 5\]"),
        ({"groups": [[0, 1, 2, 3, 4, 5], []]}, ValueError, "no group may be empty"),
        ({"groups": [[0, 1, 2, 3, 4, 6]]}, ValueError, "feature 6; there are 6"),
        ({"groups": [[0, 1, 2, 3, 4, 5.0]]}, TypeError, "groups holds 5.0"),
        ({"groups": [["age"]]}, ValueError, "column 'age'"),
        ({"groups": ((0, 1), (2, 3, 4, 5))}, ValueError, "members of each group as a list"),
        ({"groups": [1.0, 1.0, 1.0, 2.0, np.nan, np.nan]}, ValueError, r"no label .* \[4, 5\]"),
        ({"groups": [1, 1, 1, 2, float("nan"), 2]}, ValueError, r"no label .* \[4\]"),
        ({"target_quantiles": [1.0, 2.0]}, TypeError, r"numpy\.asarray\(values\)"),
    ],
)
def test_parameters_are_checked_in_fit(X, parameters, error, text):
    transformer = gm.GroupMapTransformer(**parameters)
    with pytest.raises(error, match=text):
        transformer.fit(X)
    assert not hasattr(transformer, "groups_")


def test_remedies_mend_what_they_are_for(X):
    """What errors say to write instead."""
    masked = np.ma.masked_array(np.arange(12).reshape(6, 2), [[True, False]] + [[False] * 2] * 5)
    transformer = gm.GroupMapTransformer(n_quantiles=5)
    with pytest.raises(TypeError, match=r"pass X\.astype\(float\)\.filled\(numpy\.nan\)"):
        transformer.fit(masked)
    assert np.isnan(transformer.fit_transform(masked.astype(float).filled(np.nan))[0, 0])
    weights = np.full(len(X), 0.001)
    with pytest.raises(ValueError, match=r"multiply them by [\d.e+]+, so that") as error:
        transformer.fit(X, sample_weight=weights)
    factor = float(re.findall(r"by ([\d.e+]+),", str(error.value))[0])
    transformer.fit(X, sample_weight=weights * factor)


def test_frames_of_objects():
    pd = pytest.importorskip("pandas")
    numbers = pd.Categorical([3, 1, 2, 1, 2, 3])
    frame = pd.DataFrame({"a": numbers, "b": np.arange(6.0)})
    transformer = gm.GroupMapTransformer(n_quantiles=5, target_quantiles="uniform")
    mapped = transformer.fit_transform(frame)
    np.testing.assert_array_equal(mapped, transformer.fit_transform(frame.astype(float)))
    frame["a"] = pd.Categorical(list("xyzxyz"))
    with pytest.raises(ValueError, match=r"could not convert string to float: 'x'.*Column"):
        transformer.fit(frame)
    from groupmap.table_input import table_of_numbers

    with pytest.raises(TypeError, match="holds bool"):  # as of a frame of polars with nulls
        table_of_numbers(np.array([[True], [None], [False]], dtype=object))


def test_columns_by_name_are_found_at_once_or_by_the_nearest(X):
    pd = pytest.importorskip("pandas")
    names = ["height", "weight", "age", "sum", "mean", "max"]
    frame = pd.DataFrame(X, columns=names)
    with pytest.raises(ValueError, match=r"column 'hight'.*nearest are \['height', 'weight'"):
        gm.GroupMapTransformer([["hight"], names[1:]], n_quantiles=20).fit(frame)
    fitted = gm.GroupMapTransformer([names[::-2], names[::2]], n_quantiles=20).fit(frame)
    assert fitted.groups_ == ((5, 3, 1), (0, 2, 4))


@pytest.mark.filterwarnings("error")
def test_linear_tails_ask_of_a_segment_only_what_lies_beyond_it():
    X = np.array([[-1.7e308], [0.0], [1.7e308], [1e300]])
    fitted = gm.GroupMapTransformer(n_quantiles=4, tails="linear", target_quantiles="uniform")
    y = fitted.fit(X).transform(X)
    np.testing.assert_array_equal(fitted.inverse_transform(y), X)


def test_the_map_takes_little_memory_of_its_own(rng):
    """What it holds at once is at most a fifth more than input and output."""
    pytest.importorskip("numba")
    X = rng.gamma(2.0, size=(200_000, 20))
    for table in (X, X.astype(np.float32)):
        fitted = gm.GroupMapTransformer().fit(table)
        mapped = fitted.transform(table)
        for work in (fitted.transform, fitted.inverse_transform):
            work(mapped)
            tracemalloc.start()
            work(mapped)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert table.nbytes + peak < 1.2 * (table.nbytes + mapped.nbytes)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (np.zeros(3), "Expected 2D array, got 1D array"),
        (np.zeros((2, 3, 4)), r"(Expected 2D array, got 3D|Found array with dim 3)"),
        (np.zeros((0, 3)), r"0 sample\(s\)"),
        (np.zeros((3, 0)), r"0 feature\(s\)"),
        (np.array([[1.0], [np.inf]]), "infinity"),
    ],
)
def test_tables_are_checked(library, table, text):
    with pytest.raises(ValueError, match=text):
        gm.GroupMapTransformer(n_quantiles=1).fit(library.asarray(table))


def test_what_fit_and_transform_must_share(X):
    with pytest.raises(NotFittedError):
        gm.GroupMapTransformer().transform(X)
    torch = pytest.importorskip("torch")
    on_numpy = gm.GroupMapTransformer(n_quantiles=20).fit(X)
    on_torch = gm.GroupMapTransformer(n_quantiles=20).fit(torch.from_numpy(X))
    with pytest.raises(
        ValueError, match=r"same namespace and device .*move_to\(torch, device=X\.device"
    ):
        on_numpy.transform(torch.from_numpy(X))
    with pytest.raises(ValueError, match=r"same namespace and device .*move_to\(numpy"):
        on_torch.transform(X)
    with pytest.raises(
        ValueError, match="X has 5 features, but GroupMapTransformer is expecting 6"
    ):
        on_torch.transform(torch.from_numpy(X[:, :5]))
    with pytest.raises(TypeError, match=r"dtype torch\.bool"):
        on_torch.transform(torch.ones(3, 6, dtype=torch.bool))
    reference = gm.GroupMapTransformer(target_quantiles=np.arange(3.0), n_quantiles=20)
    with pytest.raises(TypeError, match="same namespace"):
        reference.fit(torch.from_numpy(X))


@pytest.mark.parametrize("tails", ["clip", "linear"])
@pytest.mark.parametrize("shape", [(50, 3000), (3000, 50), (5, 40_000)])
def test_many_features_are_mapped_as_each_alone(rng, shape, tails):
    X = rng.gamma(2.0, size=shape)
    X[:, ::5] = np.maximum(X[:, ::5] - 1.0, 0)
    X[::7, 4] = np.nan
    X[:, 7] = np.nan
    options = {"n_quantiles": min(shape[0], 1000), "tails": tails}
    new = np.concatenate([X[::2], 2 * X[1::2] - 1])
    fitted = gm.GroupMapTransformer(**options).fit(X)
    y = fitted.transform(new)
    back = fitted.inverse_transform(y)
    for feature in (0, 1, 4, 7, shape[1] // 2, shape[1] - 1):
        alone = gm.GroupMapTransformer(**options).fit(X[:, [feature]])
        np.testing.assert_array_equal(y[:, [feature]], alone.transform(new[:, [feature]]))
        np.testing.assert_allclose(
            back[:, [feature]], alone.inverse_transform(y[:, [feature]]), rtol=1e-12
        )


def test_equal_rows_of_a_large_table_become_equal(rng):
    """Whatever blocks they are mapped in: none is left to other functions for being small."""
    fitted = gm.GroupMapTransformer(n_quantiles=1000).fit(rng.normal(size=(3000, 200)))
    row = rng.normal(size=(1, 200))
    for work in (fitted.transform, fitted.inverse_transform):
        y = work(np.repeat(row, 1546, axis=0))
        np.testing.assert_array_equal(y, np.broadcast_to(y[:1], y.shape))


def test_few_samples_of_many_features(rng):
    """Their knots are bisected, and no table is made of them."""
    X = rng.gamma(2.0, size=(300, 9000))
    X[:, ::3] = np.maximum(X[:, ::3] - 2.0, 0)
    fitted = gm.GroupMapTransformer(n_quantiles=300).fit(X)
    y = fitted.transform(X)
    back = fitted.inverse_transform(y)
    np.testing.assert_array_equal(fitted.transform(X[:2]), y[:2])
    np.testing.assert_allclose(fitted.inverse_transform(y[:2]), back[:2], rtol=1e-12)


def test_options_set_since_are_checked(rng):
    fitted = gm.GroupMapTransformer(n_quantiles=5).fit(rng.normal(size=(9, 2)))
    for option in ("tails", "cdf"):
        changed = copy.deepcopy(fitted).set_params(**{option: "wrap"})
        with pytest.raises(ValueError, match=f"{option}='wrap' is not known; use one of"):
            changed.transform(rng.normal(size=(9, 2)))
