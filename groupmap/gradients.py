"""What passes back through the map: estimates of dL/dx from dL/dy.

The map itself is piecewise constant in each entry, so its own derivative is 0 almost everywhere.
For a smooth population and a velocity v of its members, though,

    dy/dt = T′(x)·(v − E[v | x]),    T = Q∘F,

and `gradient` names the estimate of this from one group. An estimate is one function of x, y and
dL/dy, rows ``(..., n)``; a new one is one function and one row of the table at the end.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

from groupmap._typing import Array, Namespace
from groupmap.backends import Formula, Ops
from groupmap.counts import checked_count
from groupmap.dtypes import at_least_single
from groupmap.sorted_rows import Centred, SortedRows


@final
@dataclass(frozen=True)
class Saved:
    """What the forward pass leaves for the backward pass, besides x and y."""

    order: Array | None
    """The order of each row, if the forward pass has found it."""

    excluded: Array | None
    """Which entries are missing or infinite; None where it is certain that none is."""

    mid_quantiles: Array | None
    """Q at the mid-positions (i + ½)/n of the sorted entries, ``(n,)`` or ``(..., n)``; None where
    the estimate does not look at rows in order."""

    formula: Formula | None = None
    """What says Q where a native map has not told apart which entries are missing or infinite."""


Estimate = Callable[..., Array]


def transport(
    x: Array,
    y: Array,
    grad: Array,
    saved: Saved,
    *,
    window: int | None,
    floor: float,
    xp: Namespace,
    ops: Ops,
) -> Array:
    r"""The population's derivative, with T′ and E[v | x] from windows of ranks.

    In sorted order, with m_i = Q((i + ½)/n), w = max(1, round √n) (or `window`),
    a_i = max(i − w, 0), b_i = min(i + w, n − 1):

    - R = max((x₈₄% − x₁₆%)/2, ¼·mean|x − x̄|), the spread of the group;
    - T′_i = (m_b − m_a) / max(x_b − x_a, δ·(b − a)/n·R), δ = `floor`; 0 where that divides by 0;
    - S, the mean over a window, cut symmetrically at the ends;
    - Π, the projection on span{1, x}; A = (I − S)(I − Π);
    - B, the mean over each run of tied values;

    dL/dx = J·dL/dy with J = B Aᵀ T′ A B. J is symmetric and positive semi-definite, J·1 = 0 and
    J·x = 0, equal inputs get equal gradients. Entries that are missing or infinite get 0 and are
    left out of all of the above; so does all of a group without three distinct finite values.
    """
    del y
    accumulated = at_least_single(x.dtype, xp)
    rows = SortedRows(
        xp.astype(x, accumulated, copy=False), saved.order, saved.excluded, window, xp, ops
    )
    m_lower, m_upper = rows.windows.ends(
        xp.broadcast_to(xp.astype(saved.mid_quantiles, accumulated, copy=False), x.shape)
    )
    x_lower, x_upper = rows.windows.ends(rows.values)
    least = floor * rows.windows.width / rows.count * rows.spread()
    rise, run = m_upper - m_lower, xp.maximum(x_upper - x_lower, least)
    slope = xp.where(run > 0.0, rise / xp.where(run > 0.0, run, 1.0), 0.0)
    slope = xp.where(rows.has_three_distinct(), slope, 0.0)

    v = rows.average_ties(rows.sort(xp.astype(grad, accumulated, copy=False)))
    v = rows.without_affine_part(v)
    v = slope * (v - rows.windows.mean(v))
    v = rows.only_inside(v)
    v = rows.without_affine_part(v - rows.windows.mean_adjoint(v))
    return rows.unsort(rows.only_inside(rows.average_ties(v)) / rows.scale)


def affine(
    x: Array,
    y: Array,
    grad: Array,
    saved: Saved,
    *,
    window: int | None,
    floor: float,
    xp: Namespace,
    ops: Ops,
) -> Array:
    r"""The derivative of the best affine map to y: s·(I − Π)·dL/dy, s = ⟨x̃, y⟩/⟨x̃, x̃⟩.

    Π projects on span{1, x} and x̃ = x − x̄. This is LayerNorm's gradient with the slope of the
    regression of y on x in place of γ/σ. What is missing or infinite gets 0 and is left out.
    """
    del window, floor, ops
    accumulated = at_least_single(x.dtype, xp)
    inside = None if saved.excluded is None else ~saved.excluded
    x, y, grad = (
        xp.astype(each if inside is None else xp.where(inside, each, 0.0), accumulated, copy=False)
        for each in (x, y, grad)
    )
    centred = Centred(x, inside, xp)
    slope = centred.component(y) / centred.scale
    return centred.only_inside(slope * centred.residual(grad))


def straight_through(
    x: Array,
    y: Array,
    grad: Array,
    saved: Saved,
    *,
    window: int | None,
    floor: float,
    xp: Namespace,
    ops: Ops,
) -> Array:
    """dL/dx = dL/dy, as if y were x; 0 where x is missing.

    References
    ----------
    Zhang, Y. et al. (2022). Exact feature distribution matching for arbitrary style transfer and
    domain generalization. CVPR.
    """
    del x, saved, window, floor, ops
    return xp.where(xp.isnan(y), 0.0, grad)


class Gradient(NamedTuple):
    """An estimate, and what it looks at."""

    estimate: Estimate | None
    uses_order: bool = False
    sees_y: bool = False


GRADIENTS: dict[str | None, Gradient] = {
    "transport": Gradient(transport, uses_order=True),
    "affine": Gradient(affine, sees_y=True),
    "straight_through": Gradient(straight_through, sees_y=True),
    None: Gradient(None),
}


@final
@dataclass(frozen=True)
class GradientRule:
    """Which estimate passes back, and its parameters."""

    name: str | None
    window: int | None
    floor: float

    @classmethod
    def checked(cls, name: object, window: object, floor: object) -> GradientRule:
        """The rule that these arguments of the public functions and layers name."""
        if name is not None and (not isinstance(name, str) or name not in GRADIENTS):
            raise ValueError(f"gradient={name!r} is not known; use one of {list(GRADIENTS)}.")
        if window is not None:
            window = checked_count(window, "gradient_window")
        if isinstance(floor, bool) or not isinstance(floor, numbers.Real):
            raise TypeError(f"gradient_floor={floor!r} must be a float ≥ 0.")
        if not 0.0 <= float(floor) < float("inf"):
            raise ValueError(f"gradient_floor={floor!r} must be a finite float ≥ 0.")
        return cls(name, window, float(floor))

    @property
    def uses_order(self) -> bool:
        """Whether the estimate looks at rows in ascending order."""
        return GRADIENTS[self.name].uses_order

    @property
    def sees_y(self) -> bool:
        """Whether the estimate looks at what came out."""
        return GRADIENTS[self.name].sees_y

    @property
    def estimate(self) -> Estimate | None:
        """The function that says dL/dx."""
        return GRADIENTS[self.name].estimate
