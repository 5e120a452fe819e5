"""GroupMapTransformer: the map for tables, fitted on some rows and applied to others."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Self

import array_api_compat as compat
import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context, clone
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from groupmap._typing import Array, Namespace, RandomSource
from groupmap.backends import Ops, namespace_and_ops
from groupmap.cdf import TAILS
from groupmap.dtypes import result_dtype
from groupmap.feature_groups import TableLayout, feature_groups
from groupmap.fitted_map import FittedMap
from groupmap.grouping import pool_axes
from groupmap.learned import Learned, Learning
from groupmap.mapping import MapRule
from groupmap.pipeline import map_groups
from groupmap.positions import POSITIONS
from groupmap.table_input import check_same_place, checked_table, checked_weights
from groupmap.targets import NAMED_TARGETS, Target
from groupmap.user_targets import as_target

if TYPE_CHECKING:
    from groupmap.nn.frozen import FrozenMap

CDFS = ("fitted", "sample")
LEARNED = ("quantiles_", "references_", "_weight_seen", "_values_seen", "_place")


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
    n_samples_seen_ : int
        How many rows `fit`, or `partial_fit` since, has learned from (cdf="fitted").
    groups_ : tuple of tuples of int
        The features of each group.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape ``(n_features_in_,)``
        Only where the training data had column names that are all strings.

    Notes
    -----
    NumPy, CuPy and JAX arrays, torch tensors and all others of the array API standard are accepted
    as they are, with scikit-learn's `array_api_dispatch` or without: the result is of the
    same library, on the same device, and so are the fitted arrays; `move_to` moves them. Data
    frames come back as `set_output` says. float32 stays float32; integers become the default real
    dtype (fitted cdfs compare them in float64, so those above 2^53 can merge; cdf="sample" ranks
    them exactly). NaN is left out of the fit and kept by `transform`; infinity is refused. Values
    that are tied in the training data map to the middle of their run's probabilities: where more
    than half of a feature is 0, 0 does not map to the least value of the target but to the middle
    of its share. Gradients do not pass.

    See Also
    --------
    sklearn.preprocessing.QuantileTransformer : uniform and normal targets, one feature a cdf.
    groupmap.quantile_transform : the same in one call, without an estimator.

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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "groups": [
            None, Interval(Integral, 1, None, closed="left"), StrOptions({"all"}), "array-like",
        ],
        "target_quantiles": [
            StrOptions(set(NAMED_TARGETS)), callable, "array-like", HasMethods("ppf"),
            HasMethods("icdf"),
        ],
        "n_quantiles": [Interval(Integral, 1, None, closed="left")],
        "positions": [StrOptions(set(POSITIONS)), tuple, list],
        "tails": [StrOptions(set(TAILS))],
        "subsample": [Interval(Integral, 1, None, closed="left"), None],
        "cdf": [StrOptions(set(CDFS))],
        "eps": [Interval(Real, 0.0, None, closed="left")],
        "random_state": ["random_state"],
        "copy": ["boolean"],
    }  # fmt: skip

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

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]  # sklearn has no types
    def fit(self, X: Array, y: None = None, sample_weight: Array | None = None) -> Self:
        """Learn the cdf of each group of features, and forget what was learned before.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Real data; NaN means missing.
        y : None
            Ignored.
        sample_weight : array of shape (n_samples,) or float, optional
            How often each sample counts: whole weights give what repeated rows give, by
            `scipy.stats.quantile`'s definition. Their sum matters, not only their ratios: with
            weights that sum to 1 all data count as one sample. Quantiles that fall, as they can
            by that definition where weights are not whole, are put in order.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X is not two-dimensional, has no samples or no features, holds infinity; if a
            weight is negative, not finite, or all are 0; or if a parameter is out of its range.
        TypeError
            If X has no real dtype, or a parameter is of a wrong type.
        """
        del y
        return self._learn(X, sample_weight, self._fit)

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]  # likewise
    def partial_fit(self, X: Array, y: None = None, sample_weight: Array | None = None) -> Self:
        """Learn from some more rows.

        While the rows seen are at most `n_quantiles` and have no weights, the result is that of
        `fit` on all of them. Beyond, the cdf of the rows seen and that of the new ones are
        averaged, weighted by how many there are, and thinned to `n_quantiles` again, K. After a
        chunk that brings the rows from N to N + n, what was learned differs from the cdf of all
        of them by at most E in p (plus what is tied), where E grows by

            E ← (N·E + n/(K − 1))/(N + n) + 1/(K − 1) + 4/(N + n).

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`. With weights, N and n are their sums.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            As `fit`, and if X is of another library than the rows before; a chunk that fails
            changes nothing. `subsample` must be None: there is no telling what is yet to come.
        """
        del y
        return self._learn(X, sample_weight, self._fit_more)

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
        return X + rule.eps * ops.standard_normal(X, X.dtype, _seed(random), xp)

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
        given, X, rule, target = self._begin(X, "transform")
        if self.cdf == "sample":
            return self._result(self._map_rows(X, target, rule), given)
        noisy = self._noisy(X, rule, check_random_state(self.random_state))
        return self._result(self._map(X, target).forward(noisy), given)

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
        given, X, _, target = self._begin(X, "inverse_transform")
        return self._result(self._map(X, target).back(X), given)

    def _begin(self, X: Array, method: str) -> tuple[Array, Array, MapRule, Target]:
        """What `transform` and `inverse_transform` check alike."""
        check_is_fitted(self, "quantiles_" if self.cdf == "fitted" else "groups_")
        checked = checked_table(self, X, reset=False)
        check_same_place(self._place, checked, self, method)
        return X, checked, *self._checked_parameters(checked)

    def _map(self, X: Array, target: Target) -> FittedMap:
        """The fitted map, for data like X."""
        xp, ops = namespace_and_ops(X=X)
        quantiles = TableLayout(self.groups_).per_feature(self.quantiles_, xp)
        return FittedMap(quantiles, self.references_, target, self.tails, xp, ops)

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

    def _result(self, result: Array, given: Array) -> Array:
        if self.copy or not compat.is_array_api_obj(given):
            return result
        if not compat.is_writeable_array(given) or given.dtype != result.dtype:
            return result
        _, ops = namespace_and_ops(X=given)
        ops.detach(given)[...] = result
        return given

    def move_to(self, xp: Namespace, device: object = None) -> Self:
        """Return a copy of the fitted estimator whose arrays are of another library, or elsewhere.

        Parameters
        ----------
        xp : module
            The namespace to move to: ``numpy``, ``torch``, ``cupy``, ``jax.numpy``.
        device : object, optional
            One of its devices; by default its own default device.

        Returns
        -------
        GroupMapTransformer

        Raises
        ------
        NotFittedError
            If there is nothing to move.

        Examples
        --------
        >>> import numpy as np
        >>> import torch
        >>> import groupmap as gm
        >>> fitted = gm.GroupMapTransformer(n_quantiles=2).fit(np.array([[0.0], [1.0]]))
        >>> fitted.move_to(torch).quantiles_
        tensor([[0.],
                [1.]], dtype=torch.float64)
        """
        check_is_fitted(self, "groups_")
        moved: Self = clone(self)
        for name, value in vars(self).items():
            moves = name in {*LEARNED, "target_quantiles"} and compat.is_array_api_obj(value)
            setattr(moved, name, _moved(value, xp, device) if moves else value)
        return moved

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted estimator to one ``.npz`` file of plain arrays and a JSON header.

        Nothing in it is pickled. The file is written whole or not at all.

        Parameters
        ----------
        path : str or path
            Where to; the name is taken as it is.

        Raises
        ------
        NotFittedError
            If there is nothing to save.
        TypeError
            If the target is a callable or a distribution, or `random_state` a generator: these
            have no form in JSON. Use joblib or skops for them.
        ValueError
            If the file cannot be written.

        Examples
        --------
        >>> import numpy as np, tempfile, pathlib
        >>> import groupmap as gm
        >>> fitted = gm.GroupMapTransformer(n_quantiles=2).fit(np.array([[0.0], [1.0]]))
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "fitted.npz"
        >>> fitted.save(path)
        >>> gm.GroupMapTransformer.load(path).quantiles_
        array([[0.],
               [1.]])
        """
        from groupmap.saved import save

        check_is_fitted(self, "groups_")
        save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read an estimator that `save` has written, with NumPy arrays; `move_to` moves them.

        Parameters
        ----------
        path : str or path
            The file.

        Returns
        -------
        GroupMapTransformer

        Raises
        ------
        ValueError
            If the file is truncated, no file of this kind, of a later format, or says what
            cannot be; with its name and the reason.
        """
        from groupmap.saved import load

        return load(cls, path)

    @available_if(_is_fitted_kind)  # type: ignore[untyped-decorator]  # sklearn has no types
    def to_module(self) -> FrozenMap:
        """Return the fitted map as a torch module without parameters, a network's first layer.

        Returns
        -------
        groupmap.nn.FrozenMap
            Buffers in float64 and elementary operations, which ``torch.export`` and
            ``torch.onnx`` take. It maps ``(n_samples, n_features)`` of any real dtype.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        TypeError
            If the target is evaluated by NumPy (a SciPy distribution).
        ValueError
            If eps is not 0: what is frozen has no noise.
        """
        from groupmap.nn.frozen import frozen_map

        check_is_fitted(self, "quantiles_")
        if self.eps:
            raise ValueError(f"eps={self.eps} adds noise, which a frozen map has not; set eps=0.")
        layout, xp = TableLayout(self.groups_), namespace_and_ops(x=self.quantiles_)[0]
        target = as_target(self.target_quantiles, self.positions)
        return frozen_map(
            layout.per_feature(self.quantiles_, xp), self.references_, target, self.tails
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.array_api_support = True
        return tags


def _seed(random: np.random.RandomState) -> int:
    return int(random.randint(np.iinfo(np.int32).max))


def _moved(array: Array, xp: Namespace, device: object) -> Array:
    _, ops = namespace_and_ops(x=array)
    return xp.asarray(np.array(ops.to_host(ops.detach(array))), device=device)


def quantile_transform(
    X: Array,
    *,
    axis: int = 0,
    groups: object = None,
    target_quantiles: object = "gaussian",
    n_quantiles: int = 1000,
    positions: object = "linear",
    tails: str = "clip",
    subsample: int | None = None,
    cdf: str = "fitted",
    eps: float = 0.0,
    random_state: RandomSource = None,
    copy: bool = True,
) -> Array:
    """Fit a `GroupMapTransformer` to a table and map that table, in one call.

    Whoever trains a model on the result and tests it on a part of the same table has let it look:
    put a `GroupMapTransformer` into the pipeline instead.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Real data; NaN means missing.
    axis : {0, 1}, default 0
        0 maps each feature (column), 1 each sample (row).
    groups, target_quantiles, n_quantiles, positions, tails, subsample, cdf, eps, random_state, copy
        As in `GroupMapTransformer`; with axis=1, `groups` are groups of samples.

    Returns
    -------
    array of shape (n_samples, n_features)
        Of X's dtype (integers: the default real dtype), namespace and device; NaN stays NaN. No
        gradient passes.

    Raises
    ------
    ValueError, TypeError
        As `GroupMapTransformer.fit`, and if axis is neither 0 nor 1.

    See Also
    --------
    GroupMapTransformer : the same as an estimator, with references.

    Examples
    --------
    >>> import numpy as np
    >>> import groupmap as gm
    >>> X = np.array([[1.0, 20.0, 3.0], [400.0, 5.0, 6.0]])
    >>> gm.quantile_transform(X, axis=1, target_quantiles="uniform", n_quantiles=3)
    array([[0. , 1. , 0.5],
           [1. , 0. , 0.5]])
    """
    if isinstance(axis, bool) or axis not in (0, 1):
        raise ValueError(f"axis={axis!r} is none of a table's; use 0 for features, 1 for samples.")
    transformer = GroupMapTransformer(
        groups, target_quantiles=target_quantiles, n_quantiles=n_quantiles, positions=positions,
        tails=tails, subsample=subsample, cdf=cdf, eps=eps, random_state=random_state, copy=copy,
    )  # fmt: skip
    if axis == 0:
        return transformer.fit_transform(X)
    if not compat.is_array_api_obj(X):
        X = np.asarray(X)
    mapped = transformer.fit_transform(compat.array_namespace(X).permute_dims(X, (1, 0)))
    return compat.array_namespace(mapped).permute_dims(mapped, (1, 0))
