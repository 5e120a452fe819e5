"""Target quantile functions: the Q of y = Q(F(x)).

A new target is one class here: its formula on the lower half suffices where it is symmetric.

References
----------
Johnson, N. L., Kotz, S. and Balakrishnan, N. (1994, 1995). Continuous Univariate Distributions.
2nd ed., volumes 1 (normal and Cauchy) and 2 (logistic, Laplace and uniform). Wiley.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Self, final

import numpy as np
from array_api_compat import device

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import Formula, Ops, namespace_and_ops, ops_for
from groupmap.dtypes import as_widest_real, check_real, result_dtype
from groupmap.positions import Positions, Probabilities

DEFAULT_CLAMP = 1e-5


class Target(ABC):
    """Anything that says Q: where positions in [0, 1] lie in the target distribution."""

    is_namespace_bound: ClassVar[bool] = True
    """Whether `quantiles` computes in the namespace of its positions; otherwise NumPy's alone."""

    is_tabulated: ClassVar[bool] = True
    """Whether one table of Q serves every group."""

    is_remembered: ClassVar[bool] = False
    """Whether a table of Q made in one call may serve a later one."""

    is_elementwise: ClassVar[bool] = False
    """Whether Q may be asked at some of a row's positions without the others; where it is not
    tabulated, at those of all rows."""

    is_mirrored: ClassVar[bool] = False
    """Whether Q(1 − p) = −Q(p) to the last bit."""

    keeps_nan: ClassVar[bool] = False
    """Whether both quantiles and probabilities of NaN are NaN."""

    @property
    def formula(self) -> Formula | None:
        """What compiled kernels evaluate for this target; None if they know it not."""
        return None

    def learns(self, ops: Ops) -> bool:
        """Whether gradients may pass to what Q is made of; if not, tables of it are but numbers."""
        del ops
        return True

    def of_rows(self) -> Sequence[Target] | None:
        """A target with a table for each row, where `is_tabulated` is false for all of them."""
        return None

    def own_table(
        self, n: int, parameters: tuple[float, float], dtype: DType, xp: Namespace, ops: Ops
    ) -> Array | None:
        """Q at all 2n − 1 positions of n values, where it is at hand and need not be evaluated."""
        del n, parameters, dtype, xp, ops
        return None

    @abstractmethod
    def quantiles(self, positions: Positions, dtype: DType, ops: Ops) -> Array:
        """Q at the positions, in the widest real dtype; user code is called in at least `dtype`."""

    def probabilities(self, x: Array, xp: Namespace, ops: Ops) -> Array:
        """The cdf at x; a target that cannot be inverted says so."""
        del x, xp, ops
        raise NotImplementedError(
            f"{self!r} has no cdf, so nothing can be mapped back from it; "
            "use a named target, a distribution or a reference sample."
        )


@dataclass(frozen=True)
class FormulaTarget(Target):
    """A target given by a formula: callable on arrays of every supported namespace."""

    is_remembered: ClassVar[bool] = True
    is_elementwise: ClassVar[bool] = True
    keeps_nan: ClassVar[bool] = True

    def learns(self, ops: Ops) -> bool:
        del ops
        return False

    def ppf(self, p: Array) -> Array:
        """Q(p), the quantile function.

        Parameters
        ----------
        p : array or float
            Probabilities in [0, 1], of any shape and namespace.

        Returns
        -------
        array
            Quantiles, of the shape, dtype, namespace and device of p (integers: the default
            real dtype). NaN where p is NaN.

        Raises
        ------
        TypeError
            If p is not a real array.
        """
        p, dtype, xp, ops = _argument(p, "p")
        q = ops.program(quantiles_of_formula, target=self, dtype=dtype, xp=xp, ops=ops)(p)
        return xp.astype(q, dtype, copy=q is p)

    def cdf(self, x: Array) -> Array:
        """F(x), the cumulative distribution function, the inverse of `ppf`.

        Parameters
        ----------
        x : array or float
            Values, of any shape and namespace.

        Returns
        -------
        array
            Probabilities in [0, 1], of the shape, dtype, namespace and device of x (integers:
            the default real dtype). At and beyond the clamp they are 0 and 1. NaN where x is.

        Raises
        ------
        TypeError
            If x is not a real array.
        """
        x, dtype, xp, ops = _argument(x, "x")
        p = ops.program(probabilities_of_formula, target=self, xp=xp, ops=ops)(x)
        return xp.astype(p, dtype, copy=False)

    def __call__(self, p: Array) -> Array:
        """Q(p), as `ppf`."""
        return self.ppf(p)


def _argument(x: Array, name: str) -> tuple[Array, DType, Namespace, Ops]:
    """What a formula is asked at, the dtype of that and of the result, and what computes it."""
    if isinstance(x, (int, float)) and not isinstance(x, bool):
        x = np.asarray(x, dtype=np.float64)
    xp, ops = namespace_and_ops(**{name: x})
    check_real(x, name, xp)
    dtype = result_dtype(x, xp)
    return xp.astype(x, dtype, copy=False), dtype, xp, ops


def quantiles_of_formula(
    p: Array, *, target: Target, dtype: DType, xp: Namespace, ops: Ops
) -> Array:
    """Q at p, in `dtype`; NaN where p is, as `keeps_nan` says."""
    positions = Probabilities(as_widest_real(p, xp, ops), xp)
    return xp.astype(target.quantiles(positions, dtype, ops), dtype, copy=False)


def probabilities_of_formula(x: Array, *, target: Target, xp: Namespace, ops: Ops) -> Array:
    """The target's cdf at x, in the widest real dtype; NaN where x is."""
    return as_widest_real(target.probabilities(x, xp, ops), xp, ops)


@final
@dataclass(frozen=True)
class Uniform(FormulaTarget):
    """The uniform distribution on [0, 1]: Q(p) = p.

    Its `ppf` and `cdf` take arrays of every supported library.

    >>> import groupmap as gm
    >>> float(gm.uniform.ppf(0.25)), float(gm.uniform.cdf(7.0))
    (0.25, 1.0)
    """

    @property
    def formula(self) -> Formula:
        return Formula("uniform", 0.0)

    def quantiles(self, positions: Positions, dtype: DType, ops: Ops) -> Array:
        del dtype, ops
        return positions.p

    def probabilities(self, x: Array, xp: Namespace, ops: Ops) -> Array:
        return xp.clip(as_widest_real(x, xp, ops), 0.0, 1.0)


@final
@dataclass(frozen=True)
class Sparse(FormulaTarget):
    """Few large values among many near 0: Q(p) = p^k.

    k = int(log(ninety_quantile) / log(0.9)), so that nine values in ten lie below about
    `ninety_quantile`, which is in (0, 0.9]; the default 0.05 gives k = 28. Another one is chosen by
    `with_ninety_quantile`. The method is that of GroupMap 0.1 (A. Liutkus, 2022).

    >>> import groupmap as gm
    >>> round(float(gm.sparse.ppf(0.9)), 3)
    0.052
    """

    ninety_quantile: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 < self.ninety_quantile <= 0.9:  # below it k would be 0
            raise ValueError(
                f"ninety_quantile={self.ninety_quantile!r} gives no exponent ≥ 1; "
                "choose one in (0, 0.9]."
            )

    def with_ninety_quantile(self, ninety_quantile: float) -> Self:
        """The same target with nine values in ten below about that one.

        >>> import groupmap as gm
        >>> gm.sparse.with_ninety_quantile(0.2)
        Sparse(ninety_quantile=0.2)
        """
        return replace(self, ninety_quantile=ninety_quantile)

    @property
    def exponent(self) -> int:
        """The k of p^k."""
        # Of powers of 0.9 the quotient is a whole number, but for rounding.
        return int(math.log(self.ninety_quantile) / math.log(0.9) + 1e-9)

    @property
    def formula(self) -> Formula:
        return Formula("sparse", self.exponent)

    def quantiles(self, positions: Positions, dtype: DType, ops: Ops) -> Array:
        del dtype, ops
        return _integer_power(positions.p, self.exponent)

    def probabilities(self, x: Array, xp: Namespace, ops: Ops) -> Array:
        return xp.clip(as_widest_real(x, xp, ops), 0.0, 1.0) ** (1.0 / self.exponent)


def _integer_power(x: Array, exponent: int) -> Array:
    """x^exponent by squaring: the same bits for one value and for many, which pow does not give."""
    if exponent == 1:
        return x
    half = _integer_power(x, exponent // 2)
    return half * half * x if exponent % 2 else half * half


@dataclass(frozen=True)
class SymmetricTarget(FormulaTarget):
    """A distribution that is symmetric about 0 and unbounded.

    Probabilities are clamped to [clamp, 1 − clamp], which keeps the extremes finite. Both tails
    are computed as the lower one, so that Q(1 − p) = −Q(p) to the last bit.
    """

    is_mirrored: ClassVar[bool] = True

    clamp: float = DEFAULT_CLAMP

    def __post_init__(self) -> None:
        check_clamp(self.clamp)
        object.__setattr__(self, "clamp", float(self.clamp))  # an array would be no key

    @property
    def formula(self) -> Formula:
        return Formula(type(self).__name__.lower(), self.clamp)

    def clamped(self, clamp: float) -> Self:
        """The same target with p clamped to [clamp, 1 − clamp].

        >>> import groupmap as gm
        >>> gm.gaussian.clamped(1e-7)
        Gaussian(clamp=1e-07)
        """
        return replace(self, clamp=clamp)

    @staticmethod
    @abstractmethod
    def lower_quantiles(p: Array, xp: Namespace, ops: Ops) -> Array:
        """Q on [0, ½]."""

    @staticmethod
    @abstractmethod
    def lower_probabilities(x: Array, xp: Namespace, ops: Ops) -> Array:
        """F on x ≤ 0."""

    def quantiles(self, positions: Positions, dtype: DType, ops: Ops) -> Array:
        del dtype
        native = self.native_quantiles(positions, ops)
        if native is not None:
            return native
        xp, p, complement = positions.xp, positions.p, positions.complement
        is_lower = p <= complement
        tail = xp.minimum(p, complement)
        if ops.wants_gradient(p):  # where both are ½, of one of them alone
            tail = xp.where(is_lower, p, complement)
        lower = self.lower_quantiles(xp.where(tail < self.clamp, self.clamp, tail), xp, ops)
        return xp.where(is_lower, lower, -lower)

    def probabilities(self, x: Array, xp: Namespace, ops: Ops) -> Array:
        wide = as_widest_real(x, xp, ops)
        last = self._last(x, wide, xp, ops)
        native = self.native_probabilities(wide, last, ops)
        if native is not None:
            return native
        lower = self.lower_probabilities(xp.where(wide <= 0.0, wide, -wide), xp, ops)
        p = xp.where(wide <= 0.0, lower, 1.0 - lower)
        return with_clamped_ends(p, x, -last, last, xp)

    def _last(self, x: Array, wide: Array, xp: Namespace, ops: Ops) -> Array:
        """The quantile of 1 − clamp, in x's dtype: asked once for all calls that are not traced."""
        on = device(wide)
        if ops.keeps_tables and ops.can_read(x):
            last = _remembered_last(self, x.dtype, wide.dtype, on, xp)
            return xp.full((), last, dtype=x.dtype, device=on)
        return _last_quantile(self, x.dtype, wide.dtype, on, xp, ops)

    def native_quantiles(self, positions: Positions, ops: Ops) -> Array | None:
        """All of it by a kernel of the backend, where there is one."""
        del positions, ops
        return None

    @staticmethod
    def native_probabilities(x: Array, last: Array, ops: Ops) -> Array | None:
        """The cdf by a kernel of the backend, where there is one."""
        del x, last, ops
        return None


def _last_quantile(
    target: SymmetricTarget, dtype: DType, wide: DType, on: object, xp: Namespace, ops: Ops
) -> Array:
    """The quantile of 1 − clamp, found in the wide dtype and rounded to the other."""
    clamp = xp.full((), target.clamp, dtype=wide, device=on)
    last = -target.lower_quantiles(clamp, xp, ops)
    other_last = target.native_quantiles(Probabilities(clamp, xp), ops)
    if other_last is not None:  # of which x may have been made, and the last digit is another
        last = xp.minimum(last, -other_last)
    return _rounded(last, dtype, xp)


@lru_cache(maxsize=64)
def _remembered_last(
    target: SymmetricTarget, dtype: DType, wide: DType, on: object, xp: Namespace
) -> float:
    return float(_last_quantile(target, dtype, wide, on, xp, ops_for(xp)))


def with_clamped_ends(p: Array, x: Array, first: Array, last: Array, xp: Namespace) -> Array:
    """The probabilities p of x, and 0 and 1 at or beyond the quantiles of the clamp.

    The extremes of a mapped group lie on those, rounded to the dtype that x has.
    """
    first, last = (_rounded(each, x.dtype, xp) for each in (first, last))
    return xp.where(x <= first, 0.0, xp.where(x >= last, 1.0, p))


def _rounded(end: Array, dtype: DType, xp: Namespace) -> Array:
    """An end in that dtype; one beyond its numbers is infinite, of which NumPy would warn."""
    if end.dtype == dtype:
        return end
    greatest, eps = float(xp.finfo(dtype).max), float(xp.finfo(dtype).eps)
    beyond = greatest + greatest / (2.0 - eps) * eps / 2.0  # half a step, which rounds up
    end = xp.where(end >= beyond, xp.inf, xp.where(end <= -beyond, -xp.inf, end))
    return xp.astype(end, dtype)


def check_clamp(clamp: float) -> None:
    """Refuse a clamp that leaves no probabilities."""
    if isinstance(clamp, bool) or not hasattr(clamp, "__float__"):
        raise TypeError(f"clamp={clamp!r} is no number; choose one between 0 and 0.5.")
    if not 0.0 < clamp < 0.5:  # where nothing is left
        raise ValueError(f"clamp={clamp!r} leaves no probabilities; choose one between 0 and 0.5.")


@final
@dataclass(frozen=True)
class Gaussian(SymmetricTarget):
    """The standard normal distribution: Q(p) = √2·erfinv(2p − 1).

    p is clamped to [1e-5, 1 − 1e-5], so that values lie within ±4.265; `clamped` chooses another.

    >>> import groupmap as gm
    >>> [round(float(gm.gaussian.ppf(p)), 3) for p in (0.0, 0.5, 0.975)]
    [-4.265, 0.0, 1.96]
    """

    @staticmethod
    def lower_quantiles(p: Array, xp: Namespace, ops: Ops) -> Array:
        return ops.ndtri(p, xp)

    @staticmethod
    def lower_probabilities(x: Array, xp: Namespace, ops: Ops) -> Array:
        return ops.ndtr(x, xp)

    def native_quantiles(self, positions: Positions, ops: Ops) -> Array | None:
        return ops.normal_quantiles(positions.p, positions.complement, self.clamp)

    @staticmethod
    def native_probabilities(x: Array, last: Array, ops: Ops) -> Array | None:
        return ops.normal_probabilities(x, last)


@final
@dataclass(frozen=True)
class Cauchy(SymmetricTarget):
    """The standard Cauchy distribution: Q(p) = tan(π(p − ½)).

    p is clamped to [1e-5, 1 − 1e-5], so that values lie within ±31831; `clamped` chooses another.

    >>> import groupmap as gm
    >>> [round(float(gm.cauchy.ppf(p)), 3) for p in (0.0, 0.5, 0.75)]
    [-31830.989, 0.0, 1.0]
    """

    @staticmethod
    def lower_quantiles(p: Array, xp: Namespace, ops: Ops) -> Array:
        del ops
        # −cot(πp) in the tail, where p − ½ would round the last digits of p away.
        in_tail = p < 0.25  # a quarter
        tail = -1.0 / xp.tan(math.pi * xp.where(in_tail, p, 0.25))
        return xp.where(in_tail, tail, xp.tan(math.pi * (p - 0.5)))

    @staticmethod
    def lower_probabilities(x: Array, xp: Namespace, ops: Ops) -> Array:
        del ops
        in_tail = x < -1.0
        tail = -xp.atan(1.0 / xp.where(in_tail, x, -1.0)) / math.pi
        return xp.where(in_tail, tail, 0.5 + xp.atan(x) / math.pi)


@final
@dataclass(frozen=True)
class Laplace(SymmetricTarget):
    """The standard Laplace distribution: Q(p) = log(2p) for p ≤ ½, and −log(2(1 − p)) above.

    p is clamped to [1e-5, 1 − 1e-5], so that values lie within ±10.82; `clamped` chooses another.

    >>> import groupmap as gm
    >>> [round(float(gm.laplace.ppf(p)), 3) for p in (0.0, 0.5, 0.75)]
    [-10.82, 0.0, 0.693]
    """

    @staticmethod
    def lower_quantiles(p: Array, xp: Namespace, ops: Ops) -> Array:
        del ops
        return xp.log(2.0 * p)

    @staticmethod
    def lower_probabilities(x: Array, xp: Namespace, ops: Ops) -> Array:
        del ops
        return 0.5 * xp.exp(x)


@final
@dataclass(frozen=True)
class Logistic(SymmetricTarget):
    """The standard logistic distribution: Q(p) = log(p / (1 − p)).

    p is clamped to [1e-5, 1 − 1e-5], so that values lie within ±11.51; `clamped` chooses another.

    >>> import groupmap as gm
    >>> [round(float(gm.logistic.ppf(p)), 3) for p in (0.0, 0.5, 0.75)]
    [-11.513, 0.0, 1.099]
    """

    @staticmethod
    def lower_quantiles(p: Array, xp: Namespace, ops: Ops) -> Array:
        del ops
        return xp.log(p / (1.0 - p))

    @staticmethod
    def lower_probabilities(x: Array, xp: Namespace, ops: Ops) -> Array:
        del ops
        odds = xp.exp(x)
        return odds / (1.0 + odds)


uniform = Uniform()
gaussian = Gaussian()
cauchy = Cauchy()
sparse = Sparse()
laplace = Laplace()
logistic = Logistic()

NAMED_TARGETS: dict[str, FormulaTarget] = {
    "uniform": uniform,
    "gaussian": gaussian,
    "normal": gaussian,
    "cauchy": cauchy,
    "sparse": sparse,
    "laplace": laplace,
    "logistic": logistic,
}
