"""What scikit-learn asks of its own: of all estimators, and of its QuantileTransformer."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import groupmap as gm

pytest.importorskip("sklearn")

from sklearn.preprocessing import QuantileTransformer
from sklearn.preprocessing.tests import test_common, test_data
from sklearn.utils import estimator_checks as checks

few_values = pytest.mark.filterwarnings("ignore:n_quantiles .* is greater")

# What sklearn's test suite runs on its own estimators only (sklearn/tests/test_common.py).
OWN_CHECKS = (
    "check_dataframe_column_names_consistency",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_get_feature_names_out_error",
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_global_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_set_output_transform_polars",
    "check_inplace_ensure_writeable",
    "check_all_zero_sample_weights_error",
)


@few_values
@pytest.mark.filterwarnings("ignore:X .* feature names")  # which theirs say, too
@pytest.mark.parametrize("name", OWN_CHECKS)
@pytest.mark.parametrize("parameters", [{}, {"groups": "all", "cdf": "sample"}], ids=str)
def test_checks_of_its_own_estimators(name, parameters):
    estimator = gm.GroupMapTransformer(**parameters)
    if name == "check_inplace_ensure_writeable":
        estimator.set_params(copy=False)
    getattr(checks, name)("GroupMapTransformer", estimator)


# Devices that a machine may lack: the only reason for a check not to run.
ABSENT = re.compile(
    r"(cupy|dpnp) is not installed|requires cuda|no XPU device|PYTORCH_ENABLE_MPS_FALLBACK"
)


def test_array_api_checks():
    """All of them, with the switch that sklearn asks for: SCIPY_ARRAY_API=1."""
    pytest.importorskip("torch")
    file = Path(__file__).with_name("sklearn_array_api.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
         str(file)],
        env={**os.environ, "SCIPY_ARRAY_API": "1"}, cwd=file.parent.parent,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    skipped = [line for line in run.stdout.splitlines() if line.startswith("SKIPPED")]
    assert all(ABSENT.search(line) for line in skipped), skipped
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|skipped)", run.stdout)}
    said = sum(int(re.search(r"\[(\d+)\]", line)[1]) for line in skipped)
    assert counts["skipped"] == said
    assert counts["passed"] > 100


TARGETS = {"uniform": "uniform", "normal": gm.gaussian.clamped(1e-7)}


def adapter(
    *, n_quantiles=1000, output_distribution="uniform", subsample=10_000, random_state=None,
    copy=True,
):  # fmt: skip
    """Ours by the names and the defaults of theirs."""
    return gm.GroupMapTransformer(
        target_quantiles=TARGETS[output_distribution], n_quantiles=n_quantiles,
        subsample=subsample, random_state=random_state, copy=copy,
    )  # fmt: skip


def adapted_function(X, *, axis=0, **parameters):
    defaults = {"subsample": 100_000, "target_quantiles": "uniform"}
    return gm.quantile_transform(X, axis=axis, **{**defaults, **parameters})


def dense(*arguments, format, **parameters):
    return test_data._sparse_random_array(*arguments, format=format, **parameters).toarray()


def on_ours(test):
    """A test of theirs, with our names in place of theirs."""
    test = getattr(test, "__wrapped__", test)
    names = {
        **test.__globals__,
        "QuantileTransformer": adapter,
        "quantile_transform": adapted_function,
        "_sparse_random_array": dense,  # of the one test that looks at both kinds of table
    }
    rebuilt = types.FunctionType(
        test.__code__, names, test.__name__, test.__defaults__, test.__closure__
    )
    return functools.wraps(test)(rebuilt)


DENSE = {
    "test_quantile_transform_dense_toy": (),
    "test_quantile_transform_subsampling": (),
    "test_quantile_transform_subsampling_disabled": (),
    "test_quantile_transform_axis1": (),
    "test_quantile_transform_and_inverse": (),
    "test_quantile_transform_nan": (),
    "test_quantile_transformer_sorted_quantiles": ("array",),
}
EXCLUDED = {
    "test_quantile_transform_iris": "maps a sparse table",
    "test_quantile_transform_check_error": "fits sparse tables only",
    "test_quantile_transform_sparse_ignore_zeros": "fits sparse tables",
    "test_quantile_transform_sparse_toy": "fits sparse tables only",
    "test_quantile_transformer_sparse_subsampling": "fits sparse tables only",
    "test_quantile_transform_bounds": "asks that the first run of equals, and a constant column, "
    "map to the lower bound; here equals map to the middle of their run",
}


def test_every_test_of_theirs_is_run_or_named():
    theirs = {
        name for name in vars(test_data)
        if name.startswith(("test_quantile_transform_", "test_quantile_transformer_"))
    }  # fmt: skip
    assert theirs == set(DENSE) | set(EXCLUDED)


@few_values
@pytest.mark.parametrize("name", DENSE)
def test_theirs_pass(name):
    on_ours(getattr(test_data, name))(*DENSE[name])


@few_values
def test_theirs_of_missing_values():
    on_ours(test_common.test_missing_value_handling)(
        adapter(n_quantiles=10), adapted_function, False, False, []
    )


def test_the_adapter_reaches_ours():
    """Or the tests above would be of QuantileTransformer itself."""
    test = on_ours(test_data.test_quantile_transform_bounds)
    with pytest.raises(AssertionError, match="not almost equal"):
        test(np.asarray)


@few_values
@pytest.mark.parametrize("output_distribution", ["uniform", "normal"])
@pytest.mark.parametrize("n_quantiles", [10, 100, 1000, 5000])
def test_the_same_numbers(rng, output_distribution, n_quantiles):
    X = rng.gamma(2.0, size=(2000, 3))
    X[rng.random(X.shape) < 0.02] = np.nan
    theirs = QuantileTransformer(
        n_quantiles=n_quantiles, output_distribution=output_distribution, subsample=None
    ).fit(X)
    ours = adapter(
        n_quantiles=n_quantiles, output_distribution=output_distribution, subsample=None
    ).fit(X)
    np.testing.assert_allclose(ours.quantiles_, theirs.quantiles_, rtol=1e-13)
    new = np.concatenate([X, rng.gamma(2.0, size=(500, 3)), [[-1.0] * 3, [99.0] * 3]])
    p = gm.GroupMapTransformer(target_quantiles="uniform", n_quantiles=n_quantiles).fit(X)
    p = p.transform(new)
    inside = (p > 1e-7) & (p < 1 - 1e-7)
    found, expected = ours.transform(new), theirs.transform(new)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-12, atol=1e-12)
    clipped = ~inside & ~np.isnan(new)
    assert clipped.any()
    np.testing.assert_allclose(found[clipped], expected[clipped], rtol=1e-9, atol=1e-9)
    back = theirs.inverse_transform(expected)
    np.testing.assert_allclose(ours.inverse_transform(expected), back, rtol=1e-9, atol=1e-9)
