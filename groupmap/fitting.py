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
from groupmap.backends import Ops, namespace_and_ops
from groupmap.dtypes import result_dtype
from groupmap.feature_groups import FeatureGroups, TableLayout, feature_groups
from groupmap.grouping import pool_axes
from groupmap.learned import Learned, Learning
from groupmap.mapping import MapRule
from groupmap.table_input import check_same_place, checked_table, checked_weights
from groupmap.targets import Target
from groupmap.user_targets import as_target

# Attributes that are arrays of the training data's library: those of `Learned`, and one, without
# entries, that says where these lie.
LEARNED = ("quantiles_", "references_", "_weight_seen", "_values_seen", "_place")


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
        self._forget()
        X = checked_table(self, X, reset=True)
        rule, _ = self._checked_parameters(X)
        xp, ops = namespace_and_ops(X=X)
        weights = checked_weights(sample_weight, X, xp, ops)
        names = getattr(self, "feature_names_in_", None)
        self.groups_ = feature_groups(self.groups, X.shape[1], names)
        self._place = xp.zeros((0,), dtype=ops.widest_real(X, xp), device=compat.device(X))
        if self.cdf == "fitted":
            random = check_random_state(self.random_state)
            X, weights = self._subsampled(X, weights, random, xp)
            self._set_learned(self._learned_from(X, weights, rule, random), X.shape[0], xp)
            self._warn_of_few_values()
        return self

    def _fit_more(self, X: Array, sample_weight: Array | None) -> Self:
        if self.subsample is not None:
            raise ValueError(
                f"subsample={self.subsample} needs all rows at once; leave it None, and call "
                "partial_fit with the rows that shall count."
            )
        is_first = not hasattr(self, "groups_")
        X = checked_table(self, X, reset=is_first)
        rule, _ = self._checked_parameters(X)
        if is_first:
            names = getattr(self, "feature_names_in_", None)
            self.groups_ = feature_groups(self.groups, X.shape[1], names)
        xp, ops = namespace_and_ops(X=X)
        weights = checked_weights(sample_weight, X, xp, ops)
        if is_first:
            self._place = xp.zeros((0,), dtype=ops.widest_real(X, xp), device=compat.device(X))
        check_same_place(self._place, X, self, "partial_fit")
        if self.cdf == "sample":
            return self
        seen = 0 if is_first else self.n_samples_seen_
        n_samples = seen + X.shape[0]
        new = self._learned_from(X, weights, rule, check_random_state(self.random_state))
        if not is_first:
            learning = self._learning(n_samples, xp, ops)
            keep_all = n_samples <= self.n_quantiles
            new = learning.of_both(self._learned(xp), new, keep_all=keep_all)
        self._set_learned(new, n_samples, xp)
        return self

    def _forget(self) -> None:
        fitted = [name for name in vars(self) if name.endswith("_") and name[0] != "_"]
        for name in (*fitted, *LEARNED):
            self.__dict__.pop(name, None)

    def _checked_parameters(self, X: Array) -> tuple[MapRule, Target]:
        rule = MapRule.checked(self.positions, "average", self.eps)
        if compat.is_array_api_obj(self.target_quantiles):
            namespace_and_ops(X=X, target_quantiles=self.target_quantiles)
        if self.cdf == "sample" and self.groups is None:
            raise ValueError(
                "cdf='sample' ranks within each row, where groups=None leaves groups of one value; "
                "say which features belong together, for instance groups='all'."
            )
        return rule, as_target(self.target_quantiles, self.positions)

    def _subsampled(
        self, X: Array, weights: Array | None, random: np.random.RandomState, xp: Namespace
    ) -> tuple[Array, Array | None]:
        if self.subsample is None or self.subsample >= X.shape[0]:
            return X, weights
        rows = np.sort(random.choice(X.shape[0], self.subsample, replace=False))
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
        n_values = X.shape[0]
        if weights is not None:
            # As many as the rows that they stand for; fewer only if there are fewer rows.
            n_values = max(int(xp.count_nonzero(weights)), math.floor(float(xp.sum(weights))))
            of_each = xp.broadcast_to(xp.reshape(weights, (-1, 1, 1)), grouped.shape)
            weights = grouping.to_rows(of_each, xp)
        learning = self._learning(n_values, xp, ops)
        keep_all = X.shape[0] <= self.n_quantiles
        rows = grouping.to_rows(grouped, xp)
        return learning.of_sample(rows, missing, weights, keep_all=keep_all)

    def _learning(self, n_samples: int, xp: Namespace, ops: Ops) -> Learning:
        """How to learn from so many samples: not more quantiles than the smallest group has."""
        smallest = n_samples * min(len(members) for members in self.groups_)
        rule = MapRule.checked(self.positions, "average", 0.0)
        return Learning(min(self.n_quantiles, smallest), rule.plotting_parameters, xp, ops)

    def _set_learned(self, learned: Learned, n_samples: int, xp: Namespace) -> None:
        self.quantiles_ = xp.permute_dims(learned.quantiles, (1, 0))
        self.references_ = learned.probabilities
        self._weight_seen = learned.weight
        self._values_seen = learned.everything
        self.n_quantiles_ = int(self.references_.shape[0])
        self.n_samples_seen_ = n_samples

    def _learned(self, xp: Namespace) -> Learned:
        quantiles = xp.permute_dims(self.quantiles_, (1, 0))
        return Learned(quantiles, self.references_, self._weight_seen, self._values_seen)

    def _warn_of_few_values(self) -> None:
        if self.n_quantiles_ < self.n_quantiles:
            warnings.warn(
                f"n_quantiles ({self.n_quantiles}) is greater than the number of values in the "
                f"smallest group ({self.n_quantiles_}); n_quantiles is set to {self.n_quantiles_}.",
                stacklevel=6,
            )


def seed_of(random: np.random.RandomState) -> int:
    return int(random.randint(np.iinfo(np.int32).max))
