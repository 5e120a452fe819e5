"""What `fit` and `partial_fit` of the transformer do."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Self

import array_api_compat as compat
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from groupmap._typing import Array, Namespace, RandomSource
from groupmap.backends import Ops, is_array, namespace_and_ops
from groupmap.dtypes import result_dtype
from groupmap.feature_groups import FeatureGroups, TableLayout, feature_groups
from groupmap.grouping import pool_axes
from groupmap.learned import Learned, Learning
from groupmap.mapping import MapRule
from groupmap.table_input import check_same_place, checked_table, checked_weights
from groupmap.targets import Target
from groupmap.user_targets import as_target

# Attributes that are arrays of the training data's library, and their names in files.
ARRAYS = {
    "quantiles_": "quantiles", "references_": "references", "_weight": "weight",
    "_recent": "recent", "_recent_count": "recent_count",
    "_quantiles_before": "quantiles_before", "_references_before": "references_before",
    "_weight_before": "weight_before",
}  # fmt: skip
PLACE = "_place"  # another one, without entries, that says where these lie


class TableLearner(BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """An estimator that learns the quantiles of groups of features."""

    groups: object
    target_quantiles: Any
    n_quantiles: int
    positions: object
    subsample: int | None
    cdf: str
    eps: float
    random_state: RandomSource

    groups_: FeatureGroups
    quantiles_: Array
    references_: Array
    n_quantiles_: int
    n_samples_seen_: int
    _n_counted: int

    def _learn(
        self, X: Array, sample_weight: Array | None, how: Callable[[Array, Array | None], Self]
    ) -> Self:
        before = dict(self.__dict__)
        try:
            return how(X, sample_weight)
        except BaseException:  # what fails leaves the estimator as it was
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _fit(self, X: Array, sample_weight: Array | None) -> Self:
        for name in [*vars(self)]:
            if name in {*ARRAYS, PLACE, "_n_counted"} or (name.endswith("_") and name[0] != "_"):
                del self.__dict__[name]
        X, weights, rule = self._checked(X, sample_weight, is_first=True)
        if self.cdf == "fitted":
            random = check_random_state(self.random_state)
            X, weights = self._subsampled(X, weights, random)
            self._set_learned(self._learned_from(X, weights, rule, random), X, weights)
            self._warn_of_few_values()
        return self

    def _fit_more(self, X: Array, sample_weight: Array | None) -> Self:
        self._validate_params()  # again: they may have been set since
        if self.subsample is not None:
            raise ValueError(
                f"subsample={self.subsample} needs all rows at once; leave it None, and call "
                "partial_fit with the rows that shall count."
            )
        is_first = not hasattr(self, "quantiles_" if self.cdf == "fitted" else "groups_")
        X, weights, rule = self._checked(X, sample_weight, is_first=is_first)
        if self.cdf == "sample":
            return self
        random = check_random_state(self.random_state)
        if isinstance(self.random_state, (int, np.integer)) and not is_first:
            # Or each chunk would get the noise of the first.
            random = np.random.RandomState([int(self.random_state), self.n_samples_seen_])
        new = self._learned_from(X, weights, rule, random)
        if not is_first:
            xp, ops = namespace_and_ops(X=X)
            learning = self._learning(self._n_counted + _stands_for(X, weights), xp, ops)
            new = learning.of_both(self._learned(xp), new)
        self._set_learned(new, X, weights)
        return self

    def _checked(
        self, X: Array, sample_weight: Array | None, *, is_first: bool
    ) -> tuple[Array, Array | None, MapRule]:
        """What comes in; and on the first time, which features it groups, and where it lies."""
        X = checked_table(self, X, reset=is_first)
        rule, _ = self._checked_parameters(X)
        xp, ops = namespace_and_ops(X=X)
        weights = checked_weights(sample_weight, X, xp, ops)
        groups = feature_groups(self.groups, X.shape[1], getattr(self, "feature_names_in_", None))
        if is_first:
            self.groups_ = groups
            self._place = xp.zeros((0,), dtype=ops.widest_real(X, xp), device=compat.device(X))
        check_same_place(self._place, X, self, "partial_fit")
        if groups != self.groups_:
            raise ValueError(
                f"groups={self.groups!r} are other groups than those learned so far, "
                f"{self.groups_}; call fit to begin anew."
            )
        return X, weights, rule

    def _checked_parameters(self, X: Array) -> tuple[MapRule, Target]:
        rule = MapRule.checked(self.positions, "average", self.eps)
        if is_array(self.target_quantiles):
            namespace_and_ops(X=X, target_quantiles=self.target_quantiles)
        if self.cdf == "sample" and self.groups is None:
            raise ValueError(
                "cdf='sample' ranks within each row, where groups=None leaves groups of one value; "
                "say which features belong together, for instance groups='all'."
            )
        return rule, as_target(self.target_quantiles, self.positions)

    def _subsampled(
        self, X: Array, weights: Array | None, random: np.random.RandomState
    ) -> tuple[Array, Array | None]:
        xp, ops = namespace_and_ops(X=X)
        rows = np.arange(X.shape[0])
        if weights is not None:
            rows = np.flatnonzero(ops.to_host(weights) > 0.0)  # the others would not count
        if self.subsample is None or self.subsample >= len(rows):
            return X, weights
        rows = np.sort(random.choice(rows, self.subsample, replace=False))
        rows = xp.asarray(rows, device=compat.device(X))
        return xp.take(X, rows, axis=0), None if weights is None else xp.take(weights, rows, axis=0)

    def _noisy(self, X: Array, rule: MapRule, random: np.random.RandomState) -> Array:
        if not rule.eps:
            return X
        xp, ops = namespace_and_ops(X=X)
        X = xp.astype(X, result_dtype(X, xp), copy=False)
        return X + rule.eps * ops.standard_normal(X, X.dtype, seed_of(random), xp)

    def _learned_from(
        self, X: Array, weights: Array | None, rule: MapRule, random: np.random.RandomState
    ) -> Learned:
        xp, ops = namespace_and_ops(X=X)
        grouped, is_feature = TableLayout(self.groups_).to_groups(self._noisy(X, rule, random), xp)
        grouping = pool_axes((0, 2), 3)
        missing = None if is_feature is None else ~grouping.to_rows(is_feature, xp)
        if weights is not None:
            of_each = xp.broadcast_to(xp.reshape(weights, (-1, 1, 1)), grouped.shape)
            of_each = grouping.to_rows(of_each, xp)
        learning = self._learning(_stands_for(X, weights), xp, ops)
        rows = grouping.to_rows(grouped, xp)
        return learning.of_sample(rows, missing, None if weights is None else of_each)

    def _learning(self, n_rows: int, xp: Namespace, ops: Ops) -> Learning:
        """How to learn from so many rows: not more quantiles than the smallest group has values."""
        sizes = [len(members) for members in self.groups_]
        rule = MapRule.checked(self.positions, "average", 0.0)
        n_quantiles = min(self.n_quantiles, n_rows * min(sizes))
        n_kept = self.n_quantiles * max(sizes)
        return Learning(n_quantiles, n_kept, rule.plotting_parameters, xp, ops)

    def _set_learned(self, learned: Learned, X: Array, weights: Array | None) -> None:
        """Keep what was learned, of these rows among others."""
        xp, before = namespace_and_ops(X=X)[0], learned.before
        self.quantiles_ = xp.permute_dims(learned.quantiles, (1, 0))
        self.references_ = learned.probabilities
        self._weight = learned.weight
        self._recent, self._recent_count = learned.recent, learned.recent_count
        self._quantiles_before = None if before is None else before.quantiles
        self._references_before = None if before is None else before.probabilities
        self._weight_before = None if before is None else before.weight
        self.n_quantiles_ = int(self.references_.shape[0])
        self.n_samples_seen_ = getattr(self, "n_samples_seen_", 0) + X.shape[0]
        self._n_counted = getattr(self, "_n_counted", 0) + _stands_for(X, weights)

    def _learned(self, xp: Namespace) -> Learned:
        before = None
        if self._quantiles_before is not None:
            before = Learned(self._quantiles_before, self._references_before, self._weight_before)
        return Learned(
            xp.permute_dims(self.quantiles_, (1, 0)), self.references_, self._weight,
            self._recent, self._recent_count, before,
        )  # fmt: skip

    def _warn_of_few_values(self) -> None:
        if self.n_quantiles_ < self.n_quantiles:
            warnings.warn(
                f"n_quantiles ({self.n_quantiles}) is greater than the number of values in the "
                f"smallest group ({self.n_quantiles_}); n_quantiles is set to {self.n_quantiles_}.",
                stacklevel=6,
            )


def _stands_for(X: Array, weights: Array | None) -> int:
    """How many rows these count for: as many as their weights sum to, if there are not more."""
    if weights is None:
        return int(X.shape[0])
    xp, _ = namespace_and_ops(X=X)
    return max(int(xp.count_nonzero(weights)), math.floor(float(xp.sum(weights))))


def seed_of(random: np.random.RandomState) -> int:
    """A seed for the generators of other libraries."""
    return int(random.randint(np.iinfo(np.int32).max))
