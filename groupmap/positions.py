"""Plotting positions: where ranks, or plain probabilities, lie in [0, 1].

The doubled mid-rank h among n values has the position p = (h/2 + 1 − a) / (n + 1 − a − b); a and
b, each in [0, 1], are alphap and betap of scipy.stats.mstats.plotting_positions.

References
----------
Hyndman, R. J. and Fan, Y. (1996). Sample quantiles in statistical packages. The American
Statistician 50 (4), 361-365.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from dataclasses import dataclass

from groupmap._typing import Array, Namespace

# numpy.quantile's names; (alphap, betap) as in scipy.stats.mstats.plotting_positions.
POSITIONS: dict[str, tuple[float, float]] = {
    "linear": (1.0, 1.0),
    "hazen": (0.5, 0.5),
    "weibull": (0.0, 0.0),
    "normal_unbiased": (3 / 8, 3 / 8),
    "blom": (3 / 8, 3 / 8),
    "median_unbiased": (1 / 3, 1 / 3),
    "cunnane": (0.4, 0.4),
}


def plotting_parameters(positions: object) -> tuple[float, float]:
    """The pair (alphap, betap) that `positions` names or is."""
    if isinstance(positions, str) and positions in POSITIONS:
        return POSITIONS[positions]
    if isinstance(positions, (tuple, list)):
        if len(positions) == 2 and all(  # alphap and betap
            isinstance(value, numbers.Real) and 0.0 <= float(value) <= 1.0 for value in positions
        ):
            alphap, betap = positions
            return float(alphap), float(betap)
    elif not isinstance(positions, str):
        raise TypeError(_positions_message(positions))
    raise ValueError(_positions_message(positions))


def _positions_message(positions: object) -> str:
    return (
        f"positions={positions!r} is not known; use one of {sorted(POSITIONS)}, "
        "or a pair of floats (alphap, betap), each in [0, 1]."
    )


ROUNDING = 4.0  # of an index, in units in the last place of the greatest one


class Positions(ABC):
    """Probabilities p at which a target is asked for its quantiles."""

    xp: Namespace

    @property
    @abstractmethod
    def p(self) -> Array:
        """The probabilities, in [0, 1]."""

    @property
    @abstractmethod
    def complement(self) -> Array:
        """1 − p, as exactly as can be said."""

    @abstractmethod
    def order_statistic(self, m: Array | int, alphap: float, betap: float) -> Array:
        """The zero-based real index of the quantile at p among m sorted values.

        numpy.quantile's m·p + a + p(1 − a − b) − 1, with the reference's own a and b; a whole
        number where it is one but for rounding.
        """


@dataclass(frozen=True)
class Probabilities(Positions):
    """Probabilities as they are given."""

    given: Array
    xp: Namespace

    @property
    def p(self) -> Array:
        return self.given

    @property
    def complement(self) -> Array:
        return 1.0 - self.given

    def order_statistic(self, m: Array | int, alphap: float, betap: float) -> Array:
        index = self.given * (m + (1.0 - alphap - betap)) + (alphap - 1.0)
        # What should be whole must be: a hair below, and the quantile is not the value itself, but
        # one that lies between it and the one before.
        whole = self.xp.round(index)
        off = m * (ROUNDING * float(self.xp.finfo(index.dtype).eps))
        return self.xp.where(self.xp.abs(index - whole) <= off, whole, index)


@dataclass(frozen=True)
class RankPositions(Positions):
    """Where doubled mid-ranks lie in [0, 1], in both tails alike.

    `h` is real; `n` is the number of valid values, an int or an array that broadcasts with h.
    """

    h: Array
    n: Array | int
    alphap: float
    betap: float
    xp: Namespace

    def _or_at_one(self, value: Array, at_one: float | Array) -> Array:
        """The value, and `at_one` in groups of one (or of none, whose positions mean nothing)."""
        if isinstance(self.n, int):
            return value if self.n > 1 else 0.0 * self.h + at_one
        return self.xp.where(self.n > 1, value, at_one)

    def _divisor(self) -> Array | float:
        return _divisor(self.n, self.alphap, self.betap, self.xp)

    @property
    def p(self) -> Array:
        """The positions p = (h/2 + 1 − a)/(n + 1 − a − b)."""
        return self._or_at_one((self.h / 2.0 + (1.0 - self.alphap)) / self._divisor(), 0.5)

    @property
    def complement(self) -> Array:
        """1 − p, by its own formula: exact where p is near 1, and mirrored where a = b."""
        above = (2.0 * self.n - 2.0 - self.h) / 2.0
        return self._or_at_one((above + (1.0 - self.betap)) / self._divisor(), 0.5)

    def order_statistic(self, m: Array | int, alphap: float, betap: float) -> Array:
        if (alphap, betap) != (self.alphap, self.betap):
            return Probabilities(self.p, self.xp).order_statistic(m, alphap, betap)
        ratio, offset = line_of_order_statistics(self.n, m, alphap, betap, self.xp)
        return self.h / 2.0 * ratio + offset


def line_of_order_statistics(
    n: Array | int, m: Array | int, alphap: float, betap: float, xp: Namespace
) -> tuple[Array | float, Array | float]:
    """The ratio and the offset of the line h/2·ratio + offset: the zero-based real index among m
    sorted values of the quantile at the position of h among n."""
    # Arranged such that it is h/2 to the last bit where m = n: a sample that is matched to
    # a reference of its own size reproduces it.
    m_total = _total(m, alphap, betap)
    # As arrays, where n is one: torch divides a number by an array in two roundings.
    ratio = (0.0 * n + m_total) / _divisor(n, alphap, betap, xp)
    at_one = 0.5 * m_total + alphap - 1.0
    offset = (1.0 - alphap) * (ratio - 1.0)
    if isinstance(n, int):
        return (ratio, offset) if n > 1 else (0.0 * ratio, at_one)
    return xp.where(n > 1, ratio, 0.0), xp.where(n > 1, offset, at_one)


def _total(n: Array | int, alphap: float, betap: float) -> Array | float:
    """n + 1 − a − b, summed as the positions are.

    So the middle one is ½ where a = b, and none is greater than 1.
    """
    return 2.0 * ((n - 1.0) / 2.0 + ((1.0 - alphap) + (1.0 - betap)) / 2.0)


def _divisor(n: Array | int, alphap: float, betap: float, xp: Namespace) -> Array | float:
    """n + 1 − a − b, and 1 for groups of one (or of none), whose positions are not divided."""
    total = _total(n, alphap, betap)
    if isinstance(n, int):
        return total if n > 1 else 1.0
    return xp.where(n > 1, total, 1.0)
