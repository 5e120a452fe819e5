"""The transformer's map in one call."""

from __future__ import annotations

import array_api_compat as compat

from groupmap._typing import Array, RandomSource
from groupmap.table_input import checked_table
from groupmap.transformer import GroupMapTransformer


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
    X = checked_table(transformer, X, reset=True)
    transformer.set_output(transform="default")  # what is transposed has no names
    mapped = transformer.fit_transform(compat.array_namespace(X).permute_dims(X, (1, 0)))
    return compat.array_namespace(mapped).permute_dims(mapped, (1, 0))
