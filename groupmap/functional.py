"""The public functions: infer the namespace, validate, group, map, ungroup."""

from __future__ import annotations

from collections.abc import Sequence

from array_api_compat import is_dask_array

from groupmap._typing import Array, Namespace, RandomSource
from groupmap.backends import is_array, namespace_and_ops
from groupmap.dtypes import check_real
from groupmap.gradients import GradientRule
from groupmap.grouping import (
    Grouping,
    along_axis,
    channel_groups,
    each_channel,
    normalized_channel_axis,
    pool_axes,
    trailing_axes,
)
from groupmap.mapping import MapRule
from groupmap.pipeline import map_groups
from groupmap.references import check_one_sample
from groupmap.targets import Target
from groupmap.user_targets import as_target

Axis = int | Sequence[int] | None


def quantile_map(
    x: Array,
    target_quantiles: object = "gaussian",
    *,
    axis: Axis = -1,
    positions: object = "linear",
    ties: str = "average",
    where: Array | None = None,
    eps: float = 0.0,
    rng: RandomSource = None,
    gradient: str | None = "transport",
    gradient_window: int | None = None,
    gradient_floor: float = 1.0,
) -> Array:
    r"""Map each group of values to a target distribution: y = Q(F(x)).

    F is the cdf of the group's own values, Q the target's quantile function, so the smallest
    value becomes Q(0), the median Q(½) and the greatest Q(1). This is the increasing
    rearrangement, the optimal transport between two distributions on the line.

    Parameters
    ----------
    x : array
        Real data of any shape, of NumPy, PyTorch, CuPy, JAX, Dask or any other library that
        follows the array API standard. ±inf are the extreme ranks.
    target_quantiles : str, callable, distribution or 1-D array, default "gaussian"
        The target Q: one of "uniform", "gaussian" (= "normal"), "cauchy", "sparse", "laplace",
        "logistic"; a callable from probabilities in [0, 1] to values of the same shape, in x's
        library; a frozen or new-style SciPy distribution; a torch distribution; or a reference
        sample of any length, whose order statistics are interpolated at `positions`.
    axis : int, sequence of int or None, default -1
        The axes whose entries form one group; None pools all of them.
    positions : str or pair of float, default "linear"
        Where the ranks lie in [0, 1]: p = (rank + 1 − a)/(n + 1 − a − b), rank from 0, with
        (a, b) = (alphap, betap) of `scipy.stats.mstats.plotting_positions`, or a name:
        "linear" (1, 1), "hazen" (½, ½), "weibull" (0, 0), "normal_unbiased" = "blom" (⅜, ⅜),
        "median_unbiased" (⅓, ⅓), "cunnane" (0.4, 0.4). A group of one sits at ½.
    ties : {"average", "min", "max", "ordinal", "random"}, default "average"
        Which rank equal values get, as in `scipy.stats.rankdata`. "ordinal" ranks them in order
        of appearance and "random" in random order, so that the output has the target
        distribution exactly; the other three give equal outputs to equal inputs. −0.0 equals 0.0.
    where : array of bool, optional
        True where an entry counts; broadcasts to x. Masked entries are NaN in the result.
    eps : float, default 0.0
        Standard deviation of Gaussian noise that is added to x before F, in the units of x.
    rng : generator, seed or key, optional
        The source of randomness for `eps` and ties="random": a `numpy.random.Generator` or a
        seed; a `torch.Generator`, a seed or None (torch's default generator) for tensors; a
        CuPy or Dask generator; a JAX key.
    gradient : {"transport", "affine", "straight_through", None}, default "transport"
        What passes back to x where x is a torch tensor or a JAX array, since the map's own
        derivative is 0 almost everywhere: the population's derivative as estimated from the group;
        that of the best affine map; dL/dy as it is; or nothing. The result is the same in all of
        them. Estimates are blind to shifts and scalings of a group, give equal inputs equal
        gradients, and 0 to what is missing or infinite; a second derivative takes them as
        constant in x. Targets that learn always get their exact gradients.
    gradient_window : int, optional
        How many ranks to either side "transport" looks at; by default √n, rounded.
    gradient_floor : float, default 1.0
        What "transport" takes for the least distance of neighbours, as a share of that of evenly
        spread ones: greater is smoother, 0 trusts every gap.

    Returns
    -------
    array
        Of x's shape, namespace and device. The dtype is x's; integers give the namespace's
        default real dtype, and are ranked as the integers that they are. NaN means missing: it
        comes out as NaN in its place, and the others map as if it were not there.

    Raises
    ------
    TypeError
        If x is no array of a supported library, or has no real dtype; if arrays of several
        libraries are mixed; if the target is a device.
    ValueError
        If an option is unknown or out of range, or a generator is needed and missing.

    References
    ----------
    Villani, C. (2003). Topics in Optimal Transportation, section 2.2. AMS.

    Hyndman, R. J. and Fan, Y. (1996). Sample quantiles in statistical packages. The American
    Statistician 50 (4), 361-365.

    Examples
    --------
    >>> import numpy as np
    >>> import groupmap as gm
    >>> gm.quantile_map(np.array([3.0, 10.0, -2.0]), "uniform")
    array([0.5, 1. , 0. ])
    >>> gm.quantile_map(np.array([1.0, 2.0, 2.0, 50.0]), np.array([0.0, 10.0, 20.0, 30.0]))
    array([ 0., 15., 15., 30.])
    """
    xp, ops = namespace_and_ops(x=x, where=where)
    check_real(x, "x", xp)
    return map_groups(
        x,
        pool_axes(axis, x.ndim),
        _target_for(x, target_quantiles),
        _rule(positions, ties, eps, gradient, gradient_window, gradient_floor),
        where=where,
        rng=rng,
        xp=xp,
        ops=ops,
    )


def group_map(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    target_quantiles: object = "gaussian",
    channel_axis: int = 1,
    positions: object = "linear",
    ties: str = "average",
    where: Array | None = None,
    eps: float = 0.0,
    rng: RandomSource = None,
    gradient: str | None = "transport",
    gradient_window: int | None = None,
    gradient_floor: float = 1.0,
) -> Array:
    r"""Map each sample's equal blocks of channels: y = Q(F(x))·γ + β.

    The layout of `torch.nn.functional.group_norm`; the whole distribution of each block becomes
    the target's, not only its mean and variance.

    Parameters
    ----------
    x : array
        ``(N, C, *)``, or with the channels elsewhere.
    num_groups : int
        The number of blocks, which divides C.
    weight, bias : array, optional
        γ and β, ``(C,)``.
    target_quantiles : as in `quantile_map`, or a sequence of such targets, default "gaussian"
        A sequence has one target a block.
    positions, ties, where, eps, rng, gradient, gradient_window, gradient_floor
        As in `quantile_map`.
    channel_axis : int, default 1
        The axis of the channels; the first axis is the batch.

    Returns
    -------
    array
        Of x's shape, dtype, namespace and device (integers: the default real dtype; half
        precisions are scaled in float32 and rounded once). NaN and masked entries are NaN.

    Raises
    ------
    ValueError
        If num_groups does not divide the channels, or weight and bias are not ``(C,)``; and as
        `quantile_map`.
    TypeError
        As `quantile_map`.

    See Also
    --------
    quantile_map : the same map on any axes, its gradient, and its references.

    Examples
    --------
    >>> import numpy as np
    >>> import groupmap as gm
    >>> x = np.array([[[1.0, 2.0], [3.0, 4.0], [70.0, 80.0], [60.0, 50.0]]])  # (1, 4, 2)
    >>> gm.group_map(x, 2, target_quantiles="uniform")[0].round(2)
    array([[0.  , 0.33],
           [0.67, 1.  ],
           [0.67, 1.  ],
           [0.33, 0.  ]])
    """
    xp, ops = namespace_and_ops(x=x, where=where, weight=weight, bias=bias)
    grouping = channel_groups(x.shape, num_groups, channel_axis)
    return map_groups(
        x,
        grouping,
        _targets_for(x, target_quantiles),
        _rule(positions, ties, eps, gradient, gradient_window, gradient_floor),
        where=where,
        rng=rng,
        weight=_along_channels(weight, "weight", x, channel_axis, xp),
        bias=_along_channels(bias, "bias", x, channel_axis, xp),
        xp=xp,
        ops=ops,
    )


def instance_map(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    target_quantiles: object = "gaussian",
    channel_axis: int = 1,
    positions: object = "linear",
    ties: str = "average",
    where: Array | None = None,
    eps: float = 0.0,
    rng: RandomSource = None,
    gradient: str | None = "transport",
    gradient_window: int | None = None,
    gradient_floor: float = 1.0,
) -> Array:
    r"""Map each channel of each sample: y = Q(F(x))·γ + β.

    The layout of `torch.nn.functional.instance_norm`.

    Parameters
    ----------
    x : array
        ``(N, C, *)``, or with the channels elsewhere. Without further axes each group is a
        single value, which maps to Q(½).
    weight, bias : array, optional
        γ and β, ``(C,)``.
    target_quantiles : as in `quantile_map`, or a sequence of such targets, default "gaussian"
        A sequence has one target a channel.
    positions, ties, where, eps, rng, gradient, gradient_window, gradient_floor
        As in `quantile_map`.
    channel_axis : int, default 1
        The axis of the channels; the first axis is the batch.

    Returns
    -------
    array
        As `group_map`.

    Raises
    ------
    ValueError, TypeError
        As `group_map`.

    See Also
    --------
    quantile_map : the same map on any axes, its gradient, and its references.

    Examples
    --------
    >>> import numpy as np
    >>> import groupmap as gm
    >>> x = np.array([[[1.0, 5.0, 2.0], [30.0, 10.0, 20.0]]])  # (1, 2, 3)
    >>> gm.instance_map(x, weight=np.array([1.0, 10.0]), target_quantiles="uniform")[0]
    array([[ 0. ,  1. ,  0.5],
           [10. ,  0. ,  5. ]])
    """
    xp, ops = namespace_and_ops(x=x, where=where, weight=weight, bias=bias)
    return map_groups(
        x,
        each_channel(x.shape, channel_axis),
        _targets_for(x, target_quantiles),
        _rule(positions, ties, eps, gradient, gradient_window, gradient_floor),
        where=where,
        rng=rng,
        weight=_along_channels(weight, "weight", x, channel_axis, xp),
        bias=_along_channels(bias, "bias", x, channel_axis, xp),
        xp=xp,
        ops=ops,
    )


def layer_map(
    x: Array,
    normalized_shape: int | Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    target_quantiles: object = "gaussian",
    positions: object = "linear",
    ties: str = "average",
    where: Array | None = None,
    eps: float = 0.0,
    rng: RandomSource = None,
    gradient: str | None = "transport",
    gradient_window: int | None = None,
    gradient_floor: float = 1.0,
) -> Array:
    r"""Map the trailing axes together: y = Q(F(x))·γ + β.

    The layout of `torch.nn.functional.layer_norm`: ``(B, T, D)`` with normalized_shape D maps
    each token by itself.

    Parameters
    ----------
    x : array
        ``(*, *normalized_shape)``.
    normalized_shape : int or sequence of int
        The trailing shape; an int is the length of the last axis.
    weight, bias : array, optional
        γ and β, of shape normalized_shape.
    target_quantiles, positions, ties, where, eps, rng, gradient, gradient_window, gradient_floor
        As in `quantile_map`.

    Returns
    -------
    array
        As `group_map`.

    Raises
    ------
    ValueError
        If x, weight or bias do not have the trailing shape; and as `quantile_map`.
    TypeError
        As `quantile_map`.

    See Also
    --------
    quantile_map : the same map on any axes, its gradient, and its references.

    Examples
    --------
    >>> import numpy as np
    >>> import groupmap as gm
    >>> gm.layer_map(np.array([[1.0, 5.0, 2.0], [30.0, 10.0, 20.0]]), 3).round(2)
    array([[-4.26,  4.26,  0.  ],
           [ 4.26, -4.26,  0.  ]])
    """
    xp, ops = namespace_and_ops(x=x, where=where, weight=weight, bias=bias)
    grouping = trailing_axes(x.shape, normalized_shape)
    return map_groups(
        x,
        grouping,
        _target_for(x, target_quantiles),
        _rule(positions, ties, eps, gradient, gradient_window, gradient_floor),
        where=where,
        rng=rng,
        weight=_over_trailing(weight, "weight", x, grouping),
        bias=_over_trailing(bias, "bias", x, grouping),
        xp=xp,
        ops=ops,
    )


def _rule(
    positions: object, ties: object, eps: object, gradient: object, window: object, floor: object
) -> MapRule:
    return MapRule.checked(positions, ties, eps, GradientRule.checked(gradient, window, floor))


def _targets_for(x: Array, target_quantiles: object) -> Target | Array | list[Target | Array]:
    """The target that is named, or one for each group."""
    if isinstance(target_quantiles, (list, tuple)):
        lies_in_blocks = is_dask_array(x)
        if any(
            is_array(each) and (lies_in_blocks or is_dask_array(each)) for each in target_quantiles
        ):
            raise TypeError(
                "target_quantiles holds a sample, which no block of a Dask array can read; pass a "
                "function that interpolates it, such as lambda p: numpy.quantile(sample, p), or "
                "map the groups one by one."
            )
        return [_target_for(x, each) for each in target_quantiles]
    return _target_for(x, target_quantiles)


def _target_for(x: Array, target_quantiles: object) -> Target | Array:
    """The target that is named, or the reference sample that stands for one."""
    if not is_array(target_quantiles):
        return as_target(target_quantiles)
    namespace_and_ops(x=x, target_quantiles=target_quantiles)
    return check_one_sample(target_quantiles)


def _along_channels(
    parameter: Array | None, name: str, x: Array, channel_axis: int, xp: Namespace
) -> Array | None:
    """A parameter ``(C,)``, shaped to broadcast against x."""
    if parameter is None:
        return None
    channel = normalized_channel_axis(x.shape, channel_axis)
    if tuple(parameter.shape) != (x.shape[channel],):
        raise ValueError(
            f"Expected {name} to be a vector of size equal to the number of channels in input, "
            f"but got {name} of shape {list(parameter.shape)} and input of shape {list(x.shape)}"
        )
    return along_axis(parameter, channel, x.ndim, xp)


def _over_trailing(
    parameter: Array | None, name: str, x: Array, grouping: Grouping
) -> Array | None:
    """A parameter of the trailing shape, which broadcasts against x as it is."""
    trailing = x.shape[x.ndim - len(grouping.pooled) :]
    if parameter is not None and tuple(parameter.shape) != tuple(trailing):
        raise ValueError(
            f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape "
            f"{list(parameter.shape)} and normalized_shape = {list(trailing)}"
        )
    return parameter
