"""Cdfs that are fitted to data once and evaluated on other data: fit, evaluate, invert, merge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import final

from array_api_compat import device, is_dask_namespace

from groupmap._typing import Array, Namespace
from groupmap.backends import namespace_and_ops
from groupmap.counts import checked_count
from groupmap.dtypes import as_widest_real, check_real, result_dtype
from groupmap.grouping import Grouping, broadcast_mask, pool_axes
from groupmap.knots import (
    Knots,
    averaged_knots,
    knots_of_sample,
    knots_of_weighted_sample,
    pooled_knots,
)
from groupmap.positions import plotting_parameters
from groupmap.samples import check_no_infinity
from groupmap.weighted import weights_of_entries

TAILS = ("clip", "linear")


@final
@dataclass(frozen=True, eq=False)
class EmpiricalCDF:
    """The cdf of a sample, or of many, one a group: piecewise linear between knots.

    Made by `fit` or `merge`. F goes through the knots (v_k, p_k). At a run of equal knots, which
    ties in the data give, it takes the middle of the run's probabilities. `ppf` reads the same
    knots the other way.

    Attributes
    ----------
    values : array
        The knots v_k, ``(..., k)``: the free axes of the data, then the knots in ascending
        order, in the widest real dtype of the device. NaN for groups without a valid value.
    probabilities : array
        The p_k of the same shape, in [0, 1].
    counts : array
        How many valid values each group had, ``(..., 1)``; of a weighted fit, their weight.
    keeps_all : bool
        Whether the knots are all the values, and not a number of quantiles of them.
    tails : {"clip", "linear"}
        Outside the knots: the probability of the nearest one (of several equal ones the first or
        the last, while at them it is the middle), or on along the outermost segment (then `cdf`
        can leave [0, 1]).

    Examples
    --------
    >>> import numpy as np
    >>> import groupmap as gm
    >>> ages = gm.EmpiricalCDF.fit(np.array([20.0, 30.0, 30.0, 50.0, 60.0]))
    >>> ages.cdf(np.array([0.0, 20.0, 30.0, 40.0, 60.0]))
    array([0.   , 0.   , 0.375, 0.625, 1.   ])
    >>> ages.ppf(np.array([0.0, 0.5, 1.0]))
    array([20., 30., 60.])
    """

    knots: Knots
    tails: str
    plotting_parameters: tuple[float, float]
    grouping: Grouping
    ndim: int

    @property
    def values(self) -> Array:
        """The knots v_k."""
        return self.knots.values

    @property
    def probabilities(self) -> Array:
        """The knots' p_k."""
        return self.knots.probabilities

    @property
    def counts(self) -> Array:
        """How many valid values each group had."""
        return self.knots.counts

    @property
    def keeps_all(self) -> bool:
        """Whether the knots are all the values."""
        return self.knots.keeps_all

    @classmethod
    def fit(
        cls,
        x: Array,
        *,
        axis: int | Sequence[int] | None = -1,
        n_quantiles: int | None = None,
        positions: object = "linear",
        where: Array | None = None,
        sample_weight: Array | None = None,
        tails: str = "clip",
    ) -> EmpiricalCDF:
        """Fit the cdf of each group.

        Parameters
        ----------
        x : array
            Finite real data of any shape and supported library; NaN means missing. Integers are
            compared in the widest real dtype, in float64 those above 2^53 merge.
        axis : int, sequence of int or None, default -1
            The axes whose entries form one group; None pools all of them.
        n_quantiles : int, optional
            How many knots to keep: the quantiles at p = 0 … 1 in equal steps (a single one: the
            median), by `numpy.quantile`'s method `positions`. None keeps every value, at its
            position.
        positions : str or pair of float, default "linear"
            As in `quantile_map`.
        where : array of bool, optional
            True where an entry counts; broadcasts to x.
        sample_weight : array, optional
            How often each entry counts, 0 or more; broadcasts to x, and needs `n_quantiles`. Whole
            weights give what repeated entries give, by `scipy.stats.quantile`'s definition. Their
            sum matters, not only their ratios: of several entries it is 2 at least.
        tails : {"clip", "linear"}, default "clip"
            What `cdf` and `ppf` do outside the knots.

        Returns
        -------
        EmpiricalCDF
            Its arrays are of x's namespace and on x's device.

        Raises
        ------
        TypeError
            If x or sample_weight is no real array, or they are of two libraries; if x is a Dask
            array, or n_quantiles is no integer.
        ValueError
            If x is empty along `axis` or holds infinities, or an option is unknown; if a weight is
            negative or not finite, weights sum to too little, or `n_quantiles` is missing beside
            them.

        References
        ----------
        Hyndman, R. J. and Fan, Y. (1996). Sample quantiles in statistical packages. The American
        Statistician 50 (4), 361-365.
        """
        xp, ops = namespace_and_ops(x=x, where=where, sample_weight=sample_weight)
        check_real(x, "x", xp)
        grouping = pool_axes(axis, x.ndim)
        _refuse_dask(x, grouping, xp)
        check_tails(tails)
        rows = grouping.to_rows(x, xp)
        if rows.shape[-1] == 0:
            raise ValueError(
                f"x of shape {tuple(x.shape)} has 0 sample(s) in a group; at least one is required."
            )
        missing = None
        if where is not None:
            missing = ~grouping.to_rows(broadcast_mask(where, x, xp), xp)
        parameters, wanted = plotting_parameters(positions), _count_or_none(n_quantiles)
        if sample_weight is None:
            knots = knots_of_sample(rows, missing, wanted, parameters, xp, ops)
        else:
            if wanted is None:
                raise ValueError(
                    "sample_weight says how often values count, and n_quantiles=None keeps each of "
                    "them once; pass a number of quantiles."
                )
            check_no_infinity(rows, missing, xp, ops)
            weights = grouping.to_rows(weights_of_entries(sample_weight, x, xp, ops), xp)
            weights = weights if missing is None else xp.where(missing, 0.0, weights)
            knots = knots_of_weighted_sample(rows, weights, wanted, parameters, xp, ops)
        return cls(knots, tails, parameters, grouping, x.ndim)

    def cdf(self, x: Array) -> Array:
        """F(x), the share of the fitted data below x.

        Parameters
        ----------
        x : array or float
            Values of any shape where one group was fitted; else with the axes of the fitted
            data, and its lengths (or 1) along those that were not pooled. A number is asked of
            every group.

        Returns
        -------
        array
            Probabilities of the dtype, namespace and device of x (integers: the default real
            dtype). NaN where x is NaN, and in groups that had no valid value. Non-decreasing in
            x; no gradient is promised.

        Raises
        ------
        TypeError
            If x is of another library than the fitted data, or has no real dtype.
        ValueError
            If x has other groups than the fitted data.
        """
        return self._read(x, "x", self.knots.cdf)

    def ppf(self, p: Array) -> Array:
        """Q(p), the quantile function, the inverse of `cdf`.

        Parameters
        ----------
        p : array or float
            Probabilities in [0, 1], shaped as x in `cdf`. Outside of [0, 1], as outside of the
            knots: the nearest end, or along the outermost segment.

        Returns
        -------
        array
            Quantiles of the dtype, namespace and device of p (integers: the default real dtype).
            NaN where p is NaN, and in groups that had no valid value.

        Raises
        ------
        TypeError, ValueError
            As `cdf`.
        """
        return self._read(p, "p", self.knots.ppf)

    def _read(self, x: Array, name: str, reading: Callable[..., Array]) -> Array:
        is_asked_of_one = self.values.ndim == 1  # where NumPy's numbers are arrays of their dtype
        if isinstance(x, (int, float) if is_asked_of_one else Real) and not isinstance(x, bool):
            x = self._in_every_group(float(x))
        xp, ops = namespace_and_ops(**{"the fitted data": self.values, name: x})
        check_real(x, name, xp)
        grouping, shape = self._evaluation_grouping(x, name)
        rows = grouping.to_rows(xp.broadcast_to(x, shape), xp)
        found = reading(extrapolate=self.tails == "linear", xp=xp, ops=ops)(rows)
        return xp.astype(grouping.from_rows(found, shape, xp), result_dtype(x, xp), copy=False)

    def _in_every_group(self, number: float) -> Array:
        xp, _ = namespace_and_ops(x=self.values)
        shape = () if self.values.ndim == 1 else (1,) * self.ndim
        return xp.full(shape, number, dtype=self.values.dtype, device=device(self.values))

    def _evaluation_grouping(self, x: Array, name: str) -> tuple[Grouping, tuple[int, ...]]:
        free_shape = tuple(self.values.shape[:-1])
        if not free_shape:
            return pool_axes(None, x.ndim), tuple(x.shape)
        if x.ndim == self.ndim:
            lengths = iter(free_shape)
            shape = tuple(
                size if axis in self.grouping.pooled else next(lengths)
                for axis, size in enumerate(x.shape)
            )
            if all(given in (1, size) for given, size in zip(x.shape, shape, strict=True)):
                return self.grouping, shape
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}, but groups of shape {free_shape} were fitted, "
            f"pooled over axes {self.grouping.pooled} of {self.ndim}; give {name} as many axes, "
            "and the groups' lengths (or 1) along the others."
        )

    def merge(self, other: EmpiricalCDF, *, n_quantiles: int | None = None) -> EmpiricalCDF:
        """The cdf of the pooled data of both.

        Exact where both keep all their values; then so does the result, unless `n_quantiles` says
        otherwise. Else it is the mean of both cdfs, weighted by their counts, thinned to knots at
        K probabilities in equal steps. With K₁ and K₂ knots of n₁ and n₂ values (K = n where all
        are kept) it differs from the cdf of the pooled data by at most
        w₁/(K₁−1) + w₂/(K₂−1) + 1/(K−1) + 4/(n₁+n₂) in p, w being the shares of the counts.

        Parameters
        ----------
        other : EmpiricalCDF
            Fitted with the same groups and positions, in the same namespace and on the same
            device.
        n_quantiles : int, optional
            The K of the result. By default all values where that is exact, else the greater of
            the two.

        Returns
        -------
        EmpiricalCDF

        Raises
        ------
        TypeError
            If `other` is no EmpiricalCDF or of another library.
        ValueError
            If the groups, positions or tails differ.

        Examples
        --------
        >>> import numpy as np
        >>> import groupmap as gm
        >>> first = gm.EmpiricalCDF.fit(np.array([0.0, 2.0]))
        >>> both = first.merge(gm.EmpiricalCDF.fit(np.array([1.0, 3.0, 4.0])))
        >>> both.values
        array([0., 1., 2., 3., 4.])
        """
        if not isinstance(other, EmpiricalCDF):
            raise TypeError(
                f"other is of type {type(other).__name__} and no EmpiricalCDF; fit one first."
            )
        xp, ops = namespace_and_ops(self=self.values, other=other.values)
        self._check_alike(other)
        wanted = _count_or_none(n_quantiles)
        if self.keeps_all and other.keeps_all:
            parameters = self.plotting_parameters
            knots = pooled_knots(self.knots, other.knots, wanted, parameters, xp, ops)
        else:
            wanted = wanted or max(self.values.shape[-1], other.values.shape[-1])
            parts = [self.knots, other.knots]
            if self.counts.dtype != other.counts.dtype:  # of one they are sums of weights
                parts = [
                    replace(each, counts=as_widest_real(each.counts, xp, ops)) for each in parts
                ]
            knots = averaged_knots(parts, wanted, xp, ops)
        return replace(self, knots=knots)

    def _check_alike(self, other: EmpiricalCDF) -> None:
        for name, mine, theirs in (
            ("groups", self.values.shape[:-1], other.values.shape[:-1]),
            ("pooled axes", self.grouping.pooled, other.grouping.pooled),
            ("positions", self.plotting_parameters, other.plotting_parameters),
            ("tails", self.tails, other.tails),
        ):
            if mine != theirs:
                raise ValueError(
                    f"the {name} differ: {mine} here and {theirs} in other; "
                    "fit both with the same ones."
                )


def _count_or_none(n_quantiles: object) -> int | None:
    return None if n_quantiles is None else checked_count(n_quantiles, "n_quantiles")


def check_tails(tails: object) -> str:
    """`tails` itself, if it is a rule for what lies outside of the knots."""
    if not isinstance(tails, str) or tails not in TAILS:
        raise ValueError(f"tails={tails!r} is not known; use one of {list(TAILS)}.")
    return tails


def _refuse_dask(x: Array, grouping: Grouping, xp: Namespace) -> None:
    if not is_dask_namespace(xp):
        return
    free = {axis: -1 for axis in range(x.ndim) if axis not in grouping.pooled}
    whole = f".rechunk({free})" if free else ""
    raise TypeError(
        "EmpiricalCDF is fitted to arrays in memory; fit it to x.compute(), and evaluate it block "
        f"by block, as x{whole}.map_blocks(fitted.cdf, dtype={str(result_dtype(x, xp))!r})."
    )
