"""What comes into a transformer: tables and weights, checked by scikit-learn or in its words."""

from __future__ import annotations

import numbers
from typing import Any

import array_api_compat as compat
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from groupmap._typing import Array, Namespace
from groupmap.backends import Ops, namespace_and_ops
from groupmap.dtypes import as_widest_real, check_real, result_dtype
from groupmap.weighted import LEAST_TOTAL

TABLE_NDIM = 2


def checked_table(estimator: BaseEstimator, X: Array, *, reset: bool) -> Array:
    """X as a real table: by sklearn's checks, or in its words where they would convert X."""
    if compat.is_dask_array(X):
        raise TypeError(
            f"{type(estimator).__name__} takes tables in memory, and X is a Dask array; fit it to "
            "X.compute(), and transform block by block, as X.rechunk({1: -1}).map_blocks("
            f"fitted.transform, dtype={str(result_dtype(X, compat.array_namespace(X)))!r})."
        )
    if not compat.is_array_api_obj(X) or compat.is_numpy_array(X):
        if isinstance(X, np.ma.MaskedArray):
            raise TypeError(
                f"X is a masked array of dtype {X.dtype}; where NaN may stand for what is masked, "
                "pass X.astype(float).filled(numpy.nan)."
            )
        X = validate_data(estimator, X, reset=reset, dtype="numeric", ensure_all_finite="allow-nan")
        if X.dtype.kind == "O":  # of columns whose dtypes are no NumPy's, which sklearn leaves so
            X = table_of_numbers(X)
        check_real(X, "X", namespace_and_ops(X=X)[0])
        return X
    xp, ops = namespace_and_ops(X=X)
    check_real(X, "X", xp)
    _check_shape(X, type(estimator).__name__)
    if reset:
        estimator.n_features_in_ = X.shape[1]
    elif X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input"
        )
    if xp.isdtype(X.dtype, "real floating") and ops.can_read(X) and bool(xp.any(xp.isinf(X))):
        raise ValueError("Input X contains infinity; clip it, or mark it as missing by NaN.")
    return ops.detach(X)


def table_of_numbers(X: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A table of objects as one of numbers."""
    if any(isinstance(value, (bool, np.bool_)) for value in X.flat):
        raise TypeError("X holds bool, which has no distribution; convert it to a real dtype.")
    try:
        return X.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"X holds what is no number: {error}; encode it, or leave its column to another "
            "transformer, by a ColumnTransformer."
        ) from None


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


def check_same_place(fitted: Array, X: Array, estimator: BaseEstimator, method: str) -> None:
    """Refuse data of another library, or elsewhere, than what the estimator was fitted to."""
    places = [(compat.array_namespace(each), compat.device(each)) for each in (fitted, X)]
    if places[0] == places[1]:
        return
    (seen, seen_on), (given, given_on) = [
        (getattr(xp, "__name__", str(xp)).removeprefix("array_api_compat."), device)
        for xp, device in places
    ]
    on_device = "" if given == "numpy" else ", device=X.device"  # a data frame has none
    raise ValueError(
        f"X passed to {type(estimator).__name__}.{method}() must use the same namespace and "
        f"device as the training data: those are of {seen} on {seen_on}, X is of {given} on "
        f"{given_on}. Convert X, or the estimator: fitted = fitted.move_to({given}{on_device})."
    )


def checked_weights(sample_weight: object, X: Array, xp: Namespace, ops: Ops) -> Array | None:
    """The weights of X's samples, beside X: its namespace, its device, a real dtype."""
    if sample_weight is None:
        return None
    n_samples = X.shape[0]
    if isinstance(sample_weight, numbers.Real):
        sample_weight = np.full(n_samples, float(sample_weight))
    weights = _beside(sample_weight, X, xp)
    if xp.isdtype(weights.dtype, "bool"):
        weights = xp.astype(weights, xp.float32)
    check_real(weights, "sample_weight", xp)
    weights = ops.detach(as_widest_real(weights, xp, ops))
    if weights.ndim != 1:
        raise ValueError(
            f"Sample weights must be 1D array or scalar, got {weights.ndim}D array. Expected "
            f"either a scalar value or a 1D array of length {n_samples}."
        )
    if weights.shape != (n_samples,):
        raise ValueError(f"sample_weight.shape == {tuple(weights.shape)}, expected {(n_samples,)}!")
    if not bool(xp.all(xp.isfinite(weights))):
        raise ValueError("Input sample_weight contains NaN or infinity; give finite weights.")
    if bool(xp.any(weights < 0.0)):
        raise ValueError("Negative values in data passed to `sample_weight`; give weights ≥ 0.")
    n_positive, greatest = int(xp.count_nonzero(weights)), float(xp.max(weights))
    if n_positive == 0:
        raise ValueError("Sample weights must contain at least one non-zero number.")
    if greatest * n_samples == float("inf"):
        raise ValueError(f"sample_weight holds {greatest:g}: the sum is infinite; scale it down.")
    total = float(xp.sum(weights))
    if total < LEAST_TOTAL and n_positive > 1:
        raise ValueError(
            f"sample_weight sums to {total:g}: weights say how often each row counts, and of less "
            "than two rows there is no distribution. Where only ratios are meant, multiply them "
            f"by {n_samples / total:g}, so that they sum to the {n_samples} rows."
        )
    return weights


def _beside(values: object, X: Array, xp: Namespace) -> Array:
    """Values of any library, as an array of X's on X's device."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "O":
        try:
            values = values.astype(np.float64)  # as scikit-learn does
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"sample_weight holds what is no number: {error}; pass reals."
            ) from None
    if compat.is_array_api_obj(values):
        if compat.array_namespace(values) is not xp:
            _, ops = namespace_and_ops(sample_weight=values)
            values = xp.asarray(ops.to_host(ops.detach(values)))
        return compat.to_device(values, compat.device(X))
    return xp.asarray(np.asarray(values), device=compat.device(X))


def may_overlap_itself(table: np.ndarray[Any, Any]) -> bool:
    """Whether entries of a table may share memory, as those of a sliding window do."""
    axes = sorted((abs(step), n) for step, n in zip(table.strides, table.shape, strict=True))
    extent = table.itemsize
    for step, n in axes:
        if n > 1 and step < extent:
            return True
        extent += step * (n - 1)
    return False
