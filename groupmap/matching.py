"""The public functions that match samples to samples: to a reference, or to the mean of all."""

from __future__ import annotations

from functools import partial

import numpy as np

from groupmap._typing import Array, Namespace, RandomSource
from groupmap.backends import namespace_and_ops
from groupmap.dtypes import check_real, result_dtype
from groupmap.functional import Axis
from groupmap.grouping import Grouping, normalized_axis, pool_axes
from groupmap.mapping import MapRule
from groupmap.pipeline import map_groups
from groupmap.positions import line_of_order_statistics
from groupmap.ranks import COUNTING_TIES
from groupmap.samples import mean_quantiles


def match_quantiles(
    x: Array,
    reference: Array,
    *,
    axis: Axis = None,
    positions: object = "linear",
    ties: str = "average",
    where: Array | None = None,
    rng: RandomSource = None,
) -> Array:
    r"""Map each group to the distribution of a reference sample (histogram matching).

    y = Q(F(x)), where Q interpolates the order statistics of the reference at `positions`. A
    reference of n values is reproduced exactly by n distinct values of x.

    Parameters
    ----------
    x : array
        Real data of any shape and supported library.
    reference : array
        Finite values of the same library: 1-D, which serves every group, or with as many axes as
        x and pooled over the same ones; the others have x's lengths, or 1.
    axis : int, sequence of int or None, default None
        The axes whose entries form one group; None pools all of them. An image ``(H, W, 3)`` is
        matched channel by channel with ``axis=(0, 1)``.
    positions, ties, where, rng
        As in `quantile_map`.

    Returns
    -------
    array
        Of x's shape, dtype, namespace and device (integers: the default real dtype); NaN where
        x is NaN or masked. No gradient passes to x; one passes to the reference, in torch and JAX.

    Raises
    ------
    TypeError
        If x and reference are of different libraries or have no real dtype.
    ValueError
        If the reference is empty, holds NaN or infinities, or has another number of axes.

    See Also
    --------
    quantile_map : the same map to any target, with its options and references.

    Notes
    -----
    ``skimage.exposure.match_histograms`` counts ties as ``ties="max"`` does, and places each value
    of the reference at the share of values at most equal to it. So images of few values, such as
    those of 8 bits, differ by some levels, and values without ties by up to a rank.

    Examples
    --------
    >>> import numpy as np
    >>> import groupmap as gm
    >>> gm.match_quantiles(np.array([3.0, 1.0, 2.0]), np.array([10.0, 30.0, 20.0]))
    array([30., 10., 20.])
    """
    xp, ops = namespace_and_ops(x=x, reference=reference, where=where)
    check_real(x, "x", xp)
    check_real(reference, "reference", xp)
    rule = MapRule.checked(positions, ties, 0.0)
    grouping = pool_axes(axis, x.ndim)
    reference = _aligned_reference(x, reference, grouping, xp)
    return map_groups(x, grouping, reference, rule, where=where, rng=rng, xp=xp, ops=ops)


def normalize_quantiles(
    x: Array,
    *,
    axis: int,
    positions: object = "linear",
    ties: str = "average",
    rng: RandomSource = None,
) -> Array:
    r"""Give every row the mean quantile function of all rows (quantile normalisation).

    Each row (the values along `axis`) is mapped to Q(p), the mean over all rows of their p-th
    quantiles, so that afterwards all rows have one and the same distribution. It is known at the
    positions of n values and interpolated in between, where n is the length of the axis: rows that
    miss values take part with their own quantiles at these n positions (Bolstad's method for rows
    of unequal length).

    Parameters
    ----------
    x : array
        Real data of any shape and supported library, with at least one row. Of a table of genes
        × samples, ``axis=0`` normalises the samples.
    axis : int
        The axis along which the values of one row lie.
    positions, ties, rng
        As in `quantile_map`.

    Returns
    -------
    array
        Of x's shape, dtype, namespace and device (integers: the default real dtype). NaN means
        missing: it stays NaN, and its row takes part with the quantiles of its other values; a
        row of NaN takes no part. No gradient passes to x.

    Raises
    ------
    TypeError
        If x is no array of a supported library, or has no real dtype.
    ValueError
        If an option is unknown, or x holds infinities, which have no mean.

    References
    ----------
    Bolstad, B. M. et al. (2003). A comparison of normalization methods for high density
    oligonucleotide array data based on variance and bias. Bioinformatics 19 (2), 185-193.

    Examples
    --------
    >>> import numpy as np
    >>> import groupmap as gm
    >>> gm.normalize_quantiles(np.array([[1.0, 2.0, 3.0], [30.0, 10.0, 20.0]]), axis=1)
    array([[ 5.5, 11. , 16.5],
           [16.5,  5.5, 11. ]])
    """
    xp, ops = namespace_and_ops(x=x)
    check_real(x, "x", xp)
    rule = MapRule.checked(positions, ties, 0.0)
    grouping = pool_axes(normalized_axis(axis, x.ndim), x.ndim)
    if 0 in x.shape:
        return xp.astype(x, result_dtype(x, xp))
    if rule.ties != "random":
        rows = partial(grouping.to_rows, x, xp)
        alphap, betap = rule.plotting_parameters
        line = partial(line_of_order_statistics, alphap=alphap, betap=betap, xp=np)
        native = ops.normalize_rows(x, rows, COUNTING_TIES.get(rule.ties), line)
        if native is not None:
            return grouping.from_rows(native, x.shape, xp)
    mean = mean_quantiles(ops.detach(x), grouping, rule.plotting_parameters, xp=xp, ops=ops)
    return map_groups(x, grouping, mean, rule, rng=rng, xp=xp, ops=ops)


def _aligned_reference(x: Array, reference: Array, grouping: Grouping, xp: Namespace) -> Array:
    """The reference with x's lengths along the axes that are not pooled."""
    if reference.ndim == 1:
        return reference
    if reference.ndim == x.ndim:
        shape = tuple(
            m if axis in grouping.pooled else n
            for axis, (m, n) in enumerate(zip(reference.shape, x.shape, strict=True))
        )
        if all(m in (1, n) for m, n in zip(reference.shape, shape, strict=True)):
            return xp.broadcast_to(reference, shape)
    raise ValueError(
        f"reference has shape {tuple(reference.shape)} and x has {tuple(x.shape)}, pooled over "
        f"axes {grouping.pooled}; give a 1-D reference, or one with x's lengths (or 1) along the "
        "other axes."
    )
