"""GroupMapTransformer: the map for tables, fitted on some rows and applied to others."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Self

import array_api_compat as compat
import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from groupmap._typing import Array, Namespace, RandomSource
from groupmap.backends import Ops, namespace_and_ops
from groupmap.cdf import check_tails
from groupmap.counts import checked_count
from groupmap.dtypes import as_widest_real, check_real, result_dtype
from groupmap.feature_groups import TableLayout, feature_groups
from groupmap.grouping import pool_axes
from groupmap.interpolation import interpolate
from groupmap.knots import Knots, knots_of_sample
from groupmap.mapping import MapRule
from groupmap.pipeline import map_groups
from groupmap.positions import plotting_parameters
from groupmap.tables import probabilities_of_values, quantiles_of_probabilities
from groupmap.targets import Target
from groupmap.user_targets import as_target

CDFS = ("fitted", "sample")
TABLE_NDIM = 2


def _is_fitted_kind(transformer: GroupMapTransformer) -> bool:
    return bool(transformer.cdf == "fitted")


class GroupMapTransformer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Map features to a target distribution: y = Q(F(x)), with F fitted on the training rows.

    Parameters
    ----------
    groups : None, int, "all", labels or list of lists, default None
        Which features share one cdf F. None: each has its own. An int: that many equal blocks of
        consecutive features. "all": one for all. A sequence of labels, one a feature: features
        of equal label. A list of lists: the features of each group, by index or column name.
    target_quantiles : str, callable, distribution or 1-D array, default "gaussian"
        The target Q, as in `groupmap.quantile_map`.
    n_quantiles : int, default 1000
        How many quantiles of each group are kept; not more than it has values.
    positions : str or pair of float, default "linear"
        How quantiles are computed, by `numpy.quantile`'s names, and where ranks lie.
    tails : {"clip", "linear"}, default "clip"
        What values outside of the training range become: the map of the nearest end, or on along
        the map's outermost segment.
    subsample : int, optional
        Fit to so many rows, drawn without replacement; None takes all.
    cdf : {"fitted", "sample"}, default "fitted"
        "fitted" learns F from the training rows. "sample" ranks the values of each group within
        each row, as the layers do, and learns nothing.
    eps : float, default 0.0
        Standard deviation of Gaussian noise that is added to the data before F, in their units.
    random_state : int, RandomState or None, default None
        The randomness of `subsample` and `eps`.
    copy : bool, default True
        False writes the result of `transform` into its input, where that is an array of the
        same dtype that can be written.

    Attributes
    ----------
    quantiles_ : array of shape ``(n_quantiles_, n_groups)``
        The quantiles of each group (cdf="fitted").
    references_ : array of shape ``(n_quantiles_,)``
        Their probabilities, 0 … 1 (cdf="fitted").
    n_quantiles_ : int
        How many there are (cdf="fitted").
    groups_ : tuple of tuples of int
        The features of each group.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape ``(n_features_in_,)``
        Only where the training data had column names that are all strings.

    Notes
    -----
    NumPy arrays, data frames and torch tensors are accepted; tensors stay tensors, on their
    device. float32 stays float32; integers become the default real dtype (fitted cdfs compare them
    in float64, so those above 2^53 can merge; cdf="sample" ranks them exactly). NaN is left out of
    the fit and kept by `transform`; infinity is refused. Values that are tied in the training data
    map to the middle of their run's probabilities: where more than half of a feature is 0, 0 does
    not map to the least value of the target but to the middle of its share. Gradients do not pass.

    See Also
    --------
    sklearn.preprocessing.QuantileTransformer : uniform and normal targets, one feature a cdf.

    References
    ----------
    Hyndman, R. J. and Fan, Y. (1996). Sample quantiles in statistical packages. The American
    Statistician 50 (4), 361-365.

    Examples
    --------
    >>> import numpy as np
    >>> import groupmap as gm
    >>> X = np.array([[1.0, 200.0], [2.0, 400.0], [3.0, 900.0]])
    >>> gm.GroupMapTransformer(target_quantiles="uniform", n_quantiles=3).fit_transform(X)
    array([[0. , 0. ],
           [0.5, 0.5],
           [1. , 1. ]])
    """

    def __init__(
        self,
        groups: object = None,
        *,
        target_quantiles: object = "gaussian",
        n_quantiles: int = 1000,
        positions: object = "linear",
        tails: str = "clip",
        subsample: int | None = None,
        cdf: str = "fitted",
        eps: float = 0.0,
        random_state: RandomSource = None,
        copy: bool = True,
    ) -> None:
        self.groups = groups
        self.target_quantiles = target_quantiles
        self.n_quantiles = n_quantiles
        self.positions = positions
        self.tails = tails
        self.subsample = subsample
        self.cdf = cdf
        self.eps = eps
        self.random_state = random_state
        self.copy = copy

    def fit(self, X: Array, y: None = None) -> Self:
        """Learn the cdf of each group of features.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Real data; NaN means missing.
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X is not two-dimensional, has no samples or no features, holds infinity; or if a
            parameter is out of its range.
        TypeError
            If X has no real dtype, or a parameter is of a wrong type.
        """
        del y
        before = dict(self.__dict__)
        try:
            self._forget()
            self._fit(X)
        except BaseException:  # a fit that fails leaves the estimator as it was
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_") and name[0] != "_"]:
            delattr(self, name)

    def _fit(self, X: Array) -> None:
        X = self._checked_table(X, reset=True)
        rule, _ = self._checked_parameters(X)
        xp, ops = namespace_and_ops(X=X)
        names = getattr(self, "feature_names_in_", None)
        self.groups_ = feature_groups(self.groups, X.shape[1], names)
        if self.cdf == "fitted":
            random = check_random_state(self.random_state)
            X = self._noisy(self._subsampled(X, random, xp), rule, random, xp, ops)
            self._fit_quantiles(X, xp, ops)

    def _checked_parameters(self, X: Array) -> tuple[MapRule, Target]:
        rule = MapRule.checked(self.positions, "average", self.eps)
        if compat.is_array_api_obj(self.target_quantiles):
            namespace_and_ops(X=X, target_quantiles=self.target_quantiles)
        target = as_target(self.target_quantiles, self.positions)
        check_tails(self.tails)
        checked_count(self.n_quantiles, "n_quantiles")
        if self.cdf not in CDFS:
            raise ValueError(f"cdf={self.cdf!r} is not known; use one of {list(CDFS)}.")
        if self.cdf == "sample" and self.groups is None:
            raise ValueError(
                "cdf='sample' ranks within each row, where groups=None leaves groups of one value; "
                "say which features belong together, for instance groups='all'."
            )
        if self.subsample is not None:
            checked_count(self.subsample, "subsample")
        return rule, target

    def _subsampled(self, X: Array, random: np.random.RandomState, xp: Namespace) -> Array:
        if self.subsample is None or self.subsample >= X.shape[0]:
            return X
        rows = np.sort(random.choice(X.shape[0], self.subsample, replace=False))
        return xp.take(X, xp.asarray(rows, device=compat.device(X)), axis=0)

    def _noisy(
        self,
        X: Array,
        rule: MapRule,
        random: np.random.RandomState,
        xp: Namespace,
        ops: Ops,
    ) -> Array:
        if not rule.eps:
            return X
        X = xp.astype(X, result_dtype(X, xp), copy=False)
        return X + rule.eps * ops.standard_normal(X, X.dtype, _seed(random), xp)

    def _fit_quantiles(self, X: Array, xp: Namespace, ops: Ops) -> None:
        layout = TableLayout(self.groups_)
        grouped, is_feature = layout.to_groups(X, xp)
        smallest = X.shape[0] * int(layout.is_feature.sum(axis=1).min())
        n_quantiles = min(self.n_quantiles, smallest)
        if n_quantiles < self.n_quantiles:
            warnings.warn(
                f"n_quantiles ({self.n_quantiles}) is greater than the number of values in the "
                f"smallest group ({smallest}); n_quantiles is set to {n_quantiles}.",
                stacklevel=4,
            )
        grouping = pool_axes((0, 2), 3)
        missing = None if is_feature is None else ~grouping.to_rows(is_feature, xp)
        knots = knots_of_sample(
            grouping.to_rows(grouped, xp),
            missing,
            n_quantiles,
            plotting_parameters(self.positions),
            xp,
            ops,
        )
        self.quantiles_ = xp.permute_dims(knots.values, (1, 0))
        self.references_ = knots.probabilities[0, :]
        self.n_quantiles_ = n_quantiles

    def transform(self, X: Array) -> Array:
        """Map the features.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Of the library of the training data. NaN stays NaN.

        Returns
        -------
        array of shape (n_samples, n_features)
            Of X's dtype (integers: the default real dtype), namespace and device.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        ValueError, TypeError
            As `fit`; and if X has other features, or is of another library.
        """
        given, X, rule, target = self._begin(X)
        if self.cdf == "sample":
            return self._result(self._map_rows(X, target, rule), given)
        xp, ops = namespace_and_ops(**{"the training data": self.quantiles_, "X": X})
        X = self._noisy(X, rule, check_random_state(self.random_state), xp, ops)
        knots, mapped_values = self._knots(target, xp, ops)
        cdf = knots.cdf(extrapolate=False, xp=xp, ops=ops)

        def forward(x: Array) -> Array:
            p = cdf(x)
            return quantiles_of_probabilities(target, p, p.dtype, xp=xp, ops=ops)

        return self._through(forward, knots.values, mapped_values, X, given, xp, ops)

    def _begin(self, X: Array) -> tuple[Array, Array, MapRule, Target]:
        """What `transform` and `inverse_transform` check alike."""
        check_is_fitted(self, "quantiles_" if self.cdf == "fitted" else "groups_")
        checked = self._checked_table(X, reset=False)
        return X, checked, *self._checked_parameters(checked)

    def _through(
        self,
        function: Callable[[Array], Array],
        knots: Array,
        heights: Array,
        X: Array,
        given: Array,
        xp: Namespace,
        ops: Ops,
    ) -> Array:
        """What `transform` and `inverse_transform` do alike, with the features as rows."""
        dtype = result_dtype(X, xp)

        def on_samples(X: Array) -> Array:
            x = xp.permute_dims(X, (1, 0))
            y = function(x)
            if self.tails == "linear":
                y = _with_linear_tails(as_widest_real(x, xp, ops), y, knots, heights, xp, ops)
            return xp.permute_dims(xp.astype(y, dtype, copy=False), (1, 0))

        return self._result(ops.in_blocks(on_samples, X, dtype), given)

    def _map_rows(self, X: Array, target: Target, rule: MapRule) -> Array:
        """The layers' map, on each group of each row."""
        xp, ops = namespace_and_ops(X=X)
        layout = TableLayout(self.groups_)
        grouped, is_feature = layout.to_groups(X, xp)
        rng = _seed(check_random_state(self.random_state)) if rule.eps else None
        mapped = map_groups(
            grouped, pool_axes(-1, 3), target, rule, where=is_feature, rng=rng, xp=xp, ops=ops
        )
        return layout.from_groups(mapped, xp)

    def _knots(self, target: Target, xp: Namespace, ops: Ops) -> tuple[Knots, Array]:
        """Each feature's knots, and what their values map to."""
        values = TableLayout(self.groups_).per_feature(self.quantiles_, xp)
        p = xp.broadcast_to(self.references_, values.shape)
        counts = xp.astype(~xp.isnan(values[:, :1]), xp.int64)  # none, or enough for its knots
        mapped = quantiles_of_probabilities(
            target, self.references_, self.quantiles_.dtype, xp=xp, ops=ops
        )
        return Knots(values, p, counts, keeps_all=False), xp.broadcast_to(mapped, values.shape)

    @available_if(_is_fitted_kind)  # type: ignore[untyped-decorator]  # sklearn has no types
    def inverse_transform(self, X: Array) -> Array:
        """Map back: exact inside the training range, where the training data have no ties.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Mapped data. Values at or beyond the clamp of the target become the first or the last
            quantile of the training data, unless tails="linear" continues the map.

        Returns
        -------
        array of shape (n_samples, n_features)
            Of X's dtype (integers: the default real dtype), namespace and device.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        NotImplementedError
            If the target is a callable, which has no cdf.
        ValueError, TypeError
            As `transform`.
        """
        given, X, _, target = self._begin(X)
        xp, ops = namespace_and_ops(**{"the training data": self.quantiles_, "X": X})
        knots, mapped_values = self._knots(target, xp, ops)
        ppf = knots.ppf(extrapolate=False, xp=xp, ops=ops)

        def back(y: Array) -> Array:
            return ppf(probabilities_of_values(target, y, xp=xp, ops=ops))

        return self._through(back, mapped_values, knots.values, X, given, xp, ops)

    def _result(self, result: Array, given: Array) -> Array:
        if self.copy or not compat.is_array_api_obj(given):
            return result
        if not compat.is_writeable_array(given) or given.dtype != result.dtype:
            return result
        _, ops = namespace_and_ops(X=given)
        ops.detach(given)[...] = result
        return given

    def _checked_table(self, X: Array, *, reset: bool) -> Array:
        """X as a real table: by sklearn's checks, or in its words where they would convert X."""
        if not compat.is_array_api_obj(X) or compat.is_numpy_array(X):
            if isinstance(X, np.ma.MaskedArray):
                check_real(X, "X", np)
            X = validate_data(self, X, reset=reset, dtype="numeric", ensure_all_finite="allow-nan")
            check_real(X, "X", namespace_and_ops(X=X)[0])
            return X
        xp, ops = namespace_and_ops(X=X)
        check_real(X, "X", xp)
        _check_shape(X, type(self).__name__)
        if reset:
            self.n_features_in_ = X.shape[1]
        elif X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        if xp.isdtype(X.dtype, "real floating") and ops.can_read(X) and bool(xp.any(xp.isinf(X))):
            raise ValueError("Input X contains infinity; clip it, or mark it as missing by NaN.")
        return ops.detach(X)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _seed(random: np.random.RandomState) -> int:
    return int(random.randint(np.iinfo(np.int32).max))


def _check_shape(X: Array, estimator: str) -> None:
    if X.ndim != TABLE_NDIM:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead: shape {tuple(X.shape)}. Reshape "
            "with X.reshape(-1, 1) if it is a single feature, or X.reshape(1, -1) if it is a "
            "single sample."
        )
    for axis, unit in enumerate(("sample", "feature")):
        if X.shape[axis] == 0:
            raise ValueError(
                f"Found array with 0 {unit}(s) (shape={tuple(X.shape)}) while a minimum of 1 is "
                f"required by {estimator}."
            )


def _with_linear_tails(
    x: Array, y: Array, knots: Array, heights: Array, xp: Namespace, ops: Ops
) -> Array:
    """Y, and outside of the knots the outermost segments of (knots, heights), continued."""
    k = knots.shape[-1]
    for end, is_outside in (
        (slice(0, 2), x < knots[..., :1]),
        (slice(k - 2, k), x > knots[..., -1:]),
    ):
        if k >= 2:  # a segment
            line = interpolate(
                x, knots[..., end], heights[..., end], extrapolate=True, xp=xp, ops=ops
            )
            y = xp.where(is_outside, line, y)
    return y
