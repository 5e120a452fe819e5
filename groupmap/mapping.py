"""The core: y = Q(F(x)) on the last axis."""

from __future__ import annotations

import numbers
from dataclasses import dataclass

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import Ops
from groupmap.gradients import GRADIENTS, check_gradient
from groupmap.positions import plotting_parameters
from groupmap.ranks import check_ties, doubled_midranks, gather_by_rank
from groupmap.tables import quantiles_of_ranks, table_of_quantiles
from groupmap.targets import Target


@dataclass(frozen=True)
class MapRule:
    """How groups are mapped: everything about the map but the data and the target."""

    plotting_parameters: tuple[float, float]
    ties: str
    eps: float
    gradient: str | None

    @classmethod
    def checked(cls, positions: object, ties: object, eps: object, gradient: object) -> MapRule:
        """The rule that these arguments of the public functions and layers name."""
        if isinstance(eps, bool) or not isinstance(eps, numbers.Real):
            raise TypeError(
                f"eps={eps!r} is the standard deviation of added noise; pass a float ≥ 0."
            )
        if not 0.0 <= float(eps) < float("inf"):
            raise ValueError(
                f"eps={eps!r} is the standard deviation of added noise; pass a finite float ≥ 0."
            )
        return cls(
            plotting_parameters(positions),
            check_ties(ties),
            float(eps),
            check_gradient(gradient),
        )


def map_rows(
    rows: Array,
    where: Array | None,
    random_keys: Array | None,
    target: Target,
    rule: MapRule,
    dtype: DType,
    *,
    xp: Namespace,
    ops: Ops,
) -> Array:
    """Each row ``(..., n)`` to the target, in `dtype`; NaN where an entry is NaN or masked."""
    if 0 in rows.shape:
        return xp.astype(rows, dtype)
    values = ops.detach(rows)
    missing = _missing(values, where, xp, ops)
    parameters = rule.plotting_parameters
    if missing is None and target.is_tabulated:
        n = rows.shape[-1]
        table = table_of_quantiles(target, n, parameters, dtype, values, xp=xp, ops=ops)
        y = gather_by_rank(values, table, rule.ties, random_keys, xp=xp, ops=ops)
    else:
        h, n_valid = doubled_midranks(
            values, missing, ties=rule.ties, random_keys=random_keys, xp=xp, ops=ops
        )
        y = quantiles_of_ranks(target, h, n_valid, parameters, dtype, xp=xp, ops=ops)
    if missing is not None:
        y = xp.where(missing, xp.nan, y)
    return ops.connect(y, rows, missing, GRADIENTS[rule.gradient])


def _missing(rows: Array, where: Array | None, xp: Namespace, ops: Ops) -> Array | None:
    """Which entries do not count; None where it is certain that all do."""
    missing = None if where is None else ~where
    if xp.isdtype(rows.dtype, "real floating"):
        is_nan = xp.isnan(rows)
        missing = is_nan if missing is None else missing | is_nan
    if missing is not None and ops.can_read(missing) and not bool(xp.any(missing)):
        return None
    return missing
