"""GroupMapTransformer: the map for tables, fitted on some rows and applied to others."""

from __future__ import annotations

import copy
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Self

import array_api_compat as compat
import numpy as np
from sklearn.base import OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from groupmap._typing import Array, Namespace, RandomSource
from groupmap.backends import is_array, namespace_and_ops
from groupmap.cdf import TAILS, check_tails
from groupmap.feature_groups import TableLayout
from groupmap.fitted_map import FittedMap
from groupmap.fitting import ARRAYS, PLACE, TableLearner, seed_of
from groupmap.grouping import pool_axes
from groupmap.mapping import MapRule
from groupmap.pipeline import map_groups
from groupmap.positions import POSITIONS
from groupmap.table_input import check_same_place, checked_table, may_overlap_itself
from groupmap.targets import NAMED_TARGETS, Target
from groupmap.user_targets import as_target

if TYPE_CHECKING:
    from groupmap.nn.frozen import FrozenMap

CDFS = ("fitted", "sample")


def _is_fitted_kind(transformer: GroupMapTransformer) -> bool:
    return bool(transformer.cdf == "fitted")


class GroupMapTransformer(OneToOneFeatureMixin, TransformerMixin, TableLearner):  # type: ignore[misc]  # sklearn has no types
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
        How many quantiles of each group are kept; not more than the smallest one has values,
        missing ones among them.
    positions : str or pair of float, default "linear"
        How quantiles are computed, by `numpy.quantile`'s names (the least and the greatest value
        lie at 0 and 1 all the same), or where ranks lie (cdf="sample").
    tails : {"clip", "linear"}, default "clip"
        What values outside of the training range become: the ends of the target, for which F is
        0 and 1, or on along the map's outermost segment. Where several training values are equal
        to the least, they have the middle of their share, and what is less has not; so 0.1, which
        float32 rounds, is to be fitted in the dtype in which it is mapped.
    subsample : int, optional
        Fit to so many rows, drawn without replacement; None takes all.
    cdf : {"fitted", "sample"}, default "fitted"
        "fitted" learns F from the training rows. "sample" ranks the values of each group within
        each row, as the layers do, and learns nothing.
    eps : float, default 0.0
        Standard deviation of Gaussian noise that is added to the data before F, in their units.
    random_state : int, RandomState or None, default None
        The randomness of `subsample` and `eps`. With an int, each call of `transform` adds the
        same noise.
    copy : bool, default True
        False writes the results of `transform` and `inverse_transform` into their input, where
        that is an array of the same dtype that can be written, and no two entries of it share
        memory.

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
            StrOptions(set(NAMED_TARGETS)), callable, HasMethods("ppf"), HasMethods("icdf"),
            HasMethods("__array__"), HasMethods("__array_namespace__"),
            list, tuple,  # which `as_target` refuses, and says what to write
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
            `scipy.stats.quantile`'s definition. Their sum matters, not only their ratios: it says
            for how many rows they stand. Quantiles that fall, as they can by that definition
            where weights are not whole, are put in order. Ignored where cdf="sample".

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X is not two-dimensional, has no samples or no features, holds infinity; if a
            weight is negative or not finite, all are 0, or several sum to less than 2, of all rows
            or of those where a group has values; or if a parameter is out of its range.
        TypeError
            If X has no real dtype, or a parameter is of a wrong type.
        """
        del y
        return self._learn(X, sample_weight, self._fit)

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]  # likewise
    def partial_fit(self, X: Array, y: None = None, sample_weight: Array | None = None) -> Self:
        """Learn from some more rows.

        While the rows seen are at most `n_quantiles` and have no weights, the result is that of
        `fit` on all of them. Beyond, the last rows, up to as many, are still kept as they are, and
        what was seen before them is known by K = `n_quantiles` quantiles. The cdf of both is
        averaged, weighted by how many values there are, and thinned to K quantiles. With N values
        seen before and n since, it differs from the cdf of all of them by at most E in p (plus
        what is tied),

            E = (N·E₀ + n/(K − 1))/(N + n) + 1/(K − 1) + 4/(N + n),

        where E₀ is the E of the values before, 0 if there are none.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`. Rows with weights are not kept; N and n are sums of weights then.

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

        As exact as X: where the target is so flat that its dtype merges values, they stay merged.

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
        check_tails(self.tails)
        if self.cdf not in CDFS:
            raise ValueError(f"cdf={self.cdf!r} is not known; use one of {list(CDFS)}.")
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
        layout, random = TableLayout(self.groups_), check_random_state(self.random_state)
        grouping = pool_axes(-1, 3)

        def mapped(part: Array) -> Array:
            rng = seed_of(random) if rule.eps else None
            return map_groups(part, grouping, target, rule, where=None, rng=rng, xp=xp, ops=ops)

        return layout.from_parts([mapped(part) for part in layout.to_parts(X, xp)], xp)

    def _result(self, result: Array, given: Array) -> Array:
        if self.copy or not compat.is_array_api_obj(given):
            return result
        if not compat.is_writeable_array(given) or given.dtype != result.dtype:
            return result
        if isinstance(given, np.ndarray) and may_overlap_itself(given):
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
            One of its devices; by default its own default device. Where it has no float64 (JAX
            without x64), the quantiles are rounded.

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
        if isinstance(xp, str):
            raise TypeError(f"xp={xp!r} is a name; pass the module itself, as in move_to(torch).")
        moved = copy.copy(self)
        for name in (*ARRAYS, PLACE, "target_quantiles"):
            value = getattr(self, name, None)
            if is_array(value):
                setattr(moved, name, _moved(value, xp, device))
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
        """Return the fitted map as a torch module without state of its own to train.

        Returns
        -------
        groupmap.nn.FrozenMap
            Buffers in float64 and elementary operations, which ``torch.export`` and
            ``torch.onnx.export(..., dynamo=True)`` take. It maps ``(n_samples, n_features)`` of
            any real dtype. A target that is a module stays a part of it, with its parameters.

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


def _moved(array: Array, xp: Namespace, device: object) -> Array:
    _, ops = namespace_and_ops(x=array)
    host = np.array(ops.to_host(ops.detach(array)))
    there = compat.array_namespace(xp.asarray(host))  # which knows devices, as xp itself may not
    return there.asarray(host, device=device)
