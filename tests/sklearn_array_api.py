"""scikit-learn's array API checks, which ask for SCIPY_ARRAY_API=1 before SciPy is imported.

Run by tests/test_sklearn_conformance.py in a process of its own.
"""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import groupmap as gm


@pytest.mark.filterwarnings("ignore:n_quantiles .* is greater")  # their tables are small
@parametrize_with_checks([gm.GroupMapTransformer(), gm.GroupMapTransformer("all", cdf="sample")])
def test_sklearn_checks(estimator, check):
    check(estimator)
