"""What `fit` and `partial_fit` of the transformer do."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import array_api_compat as compat
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from groupmap._typing import Array, Namespace, RandomSource
from groupmap.backends import Ops, is_array, namespace_and_ops
from groupmap.feature_groups import FeatureGroups, TableLayout, feature_groups
from groupmap.grouping import pool_axes
from groupmap.learned import Learned, Learning
from groupmap.mapping import MapRule
from groupmap.pipeline import with_noise
from groupmap.positions import plotting_parameters
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
    _quantiles_before: Array | None
    _weight_before: Array | None

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
            learnings = self._learnings(self._n_counted + _stands_for(X, weights), xp, ops)
            both = zip(learnings, self._learned(xp), new, strict=True)
            new = [learning.of_both(seen, added) for learning, seen, added in both]
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
        return with_noise(X, rule.eps, seed_of(random), xp, ops)

    def _learned_from(
        self, X: Array, weights: Array | None, rule: MapRule, random: np.random.RandomState
    ) -> list[Learned]:
        """What these rows teach of the groups of each size."""
        xp, ops = namespace_and_ops(X=X)
        parts = TableLayout(self.groups_).to_parts(self._noisy(X, rule, random), xp)
        grouping = pool_axes((0, 2), 3)
        learned = []
        for learning, part in zip(
            self._learnings(_stands_for(X, weights), xp, ops), parts, strict=True
        ):
            of_each = None
            if weights is not None:
                of_each = xp.broadcast_to(xp.reshape(weights, (-1, 1, 1)), part.shape)
                of_each = grouping.to_rows(of_each, xp)
            learned.append(learning.of_sample(grouping.to_rows(part, xp), of_each))
        return learned

    def _learnings(self, n_rows: int, xp: Namespace, ops: Ops) -> list[Learning]:
        """How to learn from so many rows what groups of each size are like: all of them not more
        quantiles than the smallest has values."""
        parameters = plotting_parameters(self.positions)
        sizes = TableLayout(self.groups_).sizes.tolist()
        n_quantiles = min(self.n_quantiles, n_rows * sizes[0])
        return [
            Learning(n_quantiles, self.n_quantiles, size, sizes[-1], parameters, xp, ops)
            for size in sizes
        ]

    def _set_learned(self, parts: list[Learned], X: Array, weights: Array | None) -> None:
        """Keep what was learned of the groups of each size, of these rows among others."""
        xp, layout = namespace_and_ops(X=X)[0], TableLayout(self.groups_)
        quantiles, self._weight = _of_all(parts, layout, xp)
        self.quantiles_ = xp.permute_dims(quantiles, (1, 0))
        self.references_ = parts[0].probabilities
        recent = [each.recent for each in parts if each.recent is not None]
        counts = [each.recent_count for each in parts if each.recent_count is not None]
        self._recent = layout.ravelled(recent, xp) if recent else None
        self._recent_count = layout.of_all(counts, xp) if counts else None
        before = [each.before for each in parts if each.before is not None]
        of_before = _of_all(before, layout, xp) if before else (None, None)
        self._quantiles_before, self._weight_before = of_before
        self._references_before = before[0].probabilities if before else None
        self.n_quantiles_ = int(self.references_.shape[0])
        self.n_samples_seen_ = getattr(self, "n_samples_seen_", 0) + X.shape[0]
        self._n_counted = getattr(self, "_n_counted", 0) + _stands_for(X, weights)

    def _learned(self, xp: Namespace) -> list[Learned]:
        """What was learned of the groups of each size."""
        layout = TableLayout(self.groups_)
        quantiles = xp.permute_dims(self.quantiles_, (1, 0))
        parts = _of_each_size(quantiles, self.references_, self._weight, layout, xp)
        if self._recent is not None:
            recent = layout.unravelled(self._recent, xp)
            counts = layout.of_each_size(self._recent_count, xp)
            both = zip(parts, recent, counts, strict=True)
            parts = [
                replace(part, recent=values, recent_count=count) for part, values, count in both
            ]
        if self._quantiles_before is not None:
            before = _of_each_size(
                self._quantiles_before, self._references_before, self._weight_before, layout, xp
            )
            both_learned = zip(parts, before, strict=True)
            parts = [replace(part, before=earlier) for part, earlier in both_learned]
        return parts

    def _warn_of_few_values(self) -> None:
        if self.n_quantiles_ < self.n_quantiles:
            warnings.warn(
                f"n_quantiles ({self.n_quantiles}) is greater than the number of values in the "
                f"smallest group ({self.n_quantiles_}); n_quantiles is set to {self.n_quantiles_}.",
                stacklevel=6,
            )


def _of_all(parts: list[Learned], layout: TableLayout, xp: Namespace) -> tuple[Array, Array]:
    """The quantiles and weights of all groups, from those of each size."""
    return (
        layout.of_all([each.quantiles for each in parts], xp),
        layout.of_all([each.weight for each in parts], xp),
    )


def _of_each_size(
    quantiles: Array, probabilities: Array, weight: Array, layout: TableLayout, xp: Namespace
) -> list[Learned]:
    both = zip(layout.of_each_size(quantiles, xp), layout.of_each_size(weight, xp), strict=True)
    return [Learned(own, probabilities, own_weight) for own, own_weight in both]


def _stands_for(X: Array, weights: Array | None) -> int:
    """How many rows these count for: as many as their weights sum to, if there are not more."""
    if weights is None:
        return int(X.shape[0])
    xp, _ = namespace_and_ops(X=X)
    return max(int(xp.count_nonzero(weights)), math.floor(float(xp.sum(weights))))


def seed_of(random: np.random.RandomState) -> int:
    """A seed for the generators of other libraries."""
    return int(random.randint(np.iinfo(np.int32).max))
