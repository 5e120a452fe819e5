"""The normal cdf and its inverse in elementary functions, for libraries that have neither.

References
----------
Wichura, M. J. (1988). Algorithm AS 241: The percentage points of the normal distribution.
Applied Statistics 37 (3), 477-484. (`ndtri`, routine PPND16.)

Cody, W. J. (1969). Rational Chebyshev approximation for the error function. Mathematics of
Computation 23 (107), 631-637. (`ndtr`.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

from groupmap._typing import Array, Namespace


class Rational(NamedTuple):
    """A quotient of polynomials, coefficients from the constant term up."""

    numerator: tuple[float, ...]
    denominator: tuple[float, ...]

    def at(self, x: Array) -> Array:
        """Evaluate both polynomials by Horner's rule and divide."""
        return _horner(self.numerator, x) / _horner(self.denominator, x)


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    value = 0.0 * x + coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


# AS 241: the centre |p − ½| ≤ 0.425, and two ranges of r = √(−ln p) in the tail.
_CENTRE = Rational(
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
     1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
     3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
     5.2264952788528545610e3),
)  # fmt: skip
_TAIL = Rational(
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
     3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
     2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
     1.05075007164441684324e-9),
)  # fmt: skip
_FAR_TAIL = Rational(
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
     2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
     2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
     2.04426310338993978564e-15),
)  # fmt: skip


# By name, for kernels that are not written in Python.
NDTRI_RANGES = {"CENTRE": _CENTRE, "TAIL": _TAIL, "FAR_TAIL": _FAR_TAIL}


def ndtri(p: Array, xp: Namespace) -> Array:
    """The standard normal quantile function; −inf at 0, inf at 1, NaN outside [0, 1]."""
    from_centre = p - 0.5
    central = xp.abs(from_centre) <= 0.425
    # Each branch is given an argument of its own range, so that none of them raises a flag
    # (a division by 0, a logarithm of 0) for entries that another branch answers.
    tail = xp.where(central, 0.25, xp.minimum(p, 1.0 - p))
    inside = tail > 0.0
    r = xp.sqrt(-xp.log(xp.where(inside, tail, 0.25)))
    near = r <= 5.0
    distance = xp.where(
        near,
        _TAIL.at(xp.where(near, r - 1.6, 0.0)),
        _FAR_TAIL.at(xp.where(near, 0.0, r - 5.0)),
    )
    distance = xp.where(tail == 0.0, xp.inf, xp.where(inside, distance, xp.nan))
    squared = xp.where(central, 0.180625 - from_centre * from_centre, 0.0)
    return xp.where(
        central, from_centre * _CENTRE.at(squared), xp.where(p < 0.5, -distance, distance)
    )


# Cody: erf on |x| ≤ ½ in x², erfc·exp(x²) on [½, 4] in x, and beyond 4 in 1/x².
ERF = Rational(
    (3.20937758913846947e3, 3.77485237685302021e2, 1.13864154151050156e2,
     3.16112374387056560e0, 1.85777706184603153e-1),
    (2.84423683343917062e3, 1.28261652607737228e3, 2.44024637934444173e2,
     2.36012909523441209e1, 1.0),
)  # fmt: skip
ERFC = Rational(
    (1.23033935479799725e3, 2.05107837782607147e3, 1.71204761263407058e3,
     8.81952221241769090e2, 2.98635138197400131e2, 6.61191906371416295e1,
     8.88314979438837594e0, 5.64188496988670089e-1, 2.15311535474403846e-8),
    (1.23033935480374942e3, 3.43936767414372164e3, 4.36261909014324716e3,
     3.29079923573345963e3, 1.62138957456669019e3, 5.37181101862009858e2,
     1.17693950891312499e2, 1.57449261107098347e1, 1.0),
)  # fmt: skip
FAR_ERFC = Rational(
    (6.58749161529837803e-4, 1.60837851487422766e-2, 1.25781726111229246e-1,
     3.60344899949804439e-1, 3.05326634961232344e-1, 1.63153871373020978e-2),
    (2.33520497626869185e-3, 6.05183413124413191e-2, 5.27905102951428412e-1,
     1.87295284992346725e0, 2.56852019228982242e0, 1.0),
)  # fmt: skip
_NOTHING_LEFT = 40.0  # Φ(−40) is below every positive float64.


def ndtr(x: Array, xp: Namespace) -> Array:
    """The standard normal cdf, with full relative precision in the lower tail."""
    z = x * math.sqrt(0.5)
    size = xp.clip(xp.abs(z), 0.0, _NOTHING_LEFT)
    small, far = size <= 0.5, size > 4.0
    squared = xp.where(small, size * size, 0.0)
    centre = 0.5 + 0.5 * xp.where(small, z, 0.0) * ERF.at(squared)

    middle = xp.where(small | far, 1.0, size)
    inverse = 1.0 / xp.where(far, size * size, 1.0)
    scaled_erfc = xp.where(
        far,
        (1.0 / math.sqrt(math.pi) - inverse * FAR_ERFC.at(inverse)) / xp.where(far, size, 1.0),
        ERFC.at(middle),
    )
    # exp(−size²) from a head that is exact to 1/16 and a small rest, or it loses its last digits.
    head = xp.floor(size * 16.0) / 16.0
    decay = xp.exp(-head * head) * xp.exp(-(size - head) * (size + head))
    tail = 0.5 * decay * scaled_erfc
    outside = xp.where(z < 0.0, tail, 1.0 - tail)
    return xp.where(xp.isnan(x), xp.nan, xp.where(small, centre, outside))
