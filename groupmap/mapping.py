"""The core: y = Q(F(x)) on the last axis."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import Formula, MapWanted, Ops, Scale
from groupmap.dtypes import at_least_single
from groupmap.gradients import GradientRule, Saved
from groupmap.incomplete import RowsApart
from groupmap.positions import plotting_parameters
from groupmap.ranks import COUNTING_TIES, check_ties, doubled_midranks, gather_by_rank
from groupmap.tables import new_tables, quantiles_of_ranks, table_of_quantiles
from groupmap.targets import Target

OnOrder = Callable[[Array, Array], object]  # of rows, and what that has found to be their order

MID_POSITIONS = (0.5, 0.5)  # p = (rank + ½)/n
OWN_TABLE_LENGTH = 2**14  # from which on it is worth a table that serves one row
# A table of fewer entries is made sooner than Q is asked at all values of a row of 8 bits.
ENTRIES_WORTH_VALUES = 2**11


@dataclass(frozen=True)
class MapRule:
    """How groups are mapped: everything about the map but the data and the target."""

    plotting_parameters: tuple[float, float]
    ties: str
    eps: float
    gradient: GradientRule

    @classmethod
    def checked(
        cls, positions: object, ties: object, eps: object, gradient: GradientRule | None = None
    ) -> MapRule:
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
            gradient or GradientRule.checked(None, None, 1.0),
        )


def map_rows(
    rows: Array,
    where: Array | None,
    random_keys: Array | None,
    target: Target,
    rule: MapRule,
    dtype: DType,
    *,
    on_order: OnOrder | None = None,
    xp: Namespace,
    ops: Ops,
) -> Array:
    """Each row ``(..., n)`` to the target, in `dtype`; NaN where an entry is NaN or masked.

    `on_order` is told the order of the rows, if the map finds it and there is no mask. It ends with
    −1 where the row has NaN.
    """
    if 0 in rows.shape:
        return xp.astype(rows, dtype)
    values = ops.detach(rows)
    is_connected = rule.gradient.estimate is not None and ops.wants_gradient(rows)
    if where is None and not is_connected:
        by_value = _by_value(values, target, rule, dtype, xp, ops)
        if by_value is not None:
            return by_value
    with_order = is_connected and rule.gradient.uses_order
    native = _mapped_natively(
        values, where, target, rule, dtype,
        with_order=with_order, is_connected=is_connected, xp=xp, ops=ops,
    )  # fmt: skip
    if native is not None:
        y, order = native
        if not is_connected:
            return y
        if where is None:
            _tell(on_order, values, order)
        mid_quantiles = None
        if rule.gradient.uses_order:
            mid_quantiles = table_of_quantiles(
                target, values.shape[-1], MID_POSITIONS, ops.widest_real(values, xp), values,
                xp=xp, ops=ops,
            )[::2]  # fmt: skip
        saved = Saved(order, None if where is None else ~where, mid_quantiles, target.formula)
        return with_estimate(y, rows, saved, rule.gradient, xp, ops)
    may_be_nan = may_be_infinite = xp.isdtype(values.dtype, "real floating")
    if may_be_nan and ops.can_read(values):
        may_be_nan, may_be_infinite = ops.screen(values, xp)
    missing = _missing(values, where, may_be_nan, xp, ops)
    y, order = _mapped(
        values, missing, random_keys, target, rule, dtype, with_order=with_order, xp=xp, ops=ops
    )
    if not is_connected:
        return y
    excluded = missing
    if may_be_infinite:
        is_infinite = xp.isinf(values)
        excluded = is_infinite if missing is None else missing | is_infinite
    if excluded is not None:
        order = None  # what is excluded goes behind all others, where the map had it elsewhere
    if order is not None:
        order = xp.astype(order, xp.int32)
    _tell(on_order, values, order)
    asks_quantiles = rule.gradient.uses_order
    mid_quantiles = _mid_quantiles(target, values, excluded, xp, ops) if asks_quantiles else None
    saved = Saved(order, excluded, mid_quantiles)
    return with_estimate(y, rows, saved, rule.gradient, xp, ops)


def _tell(on_order: OnOrder | None, rows: Array, order: Array | None) -> None:
    if on_order is not None and order is not None:
        on_order(rows, order)


def map_rows_scaled(
    rows: Array,
    where: Array | None,
    target: Target,
    rule: MapRule,
    dtype: DType,
    scale: Scale,
    *,
    xp: Namespace,
    ops: Ops,
) -> Array | None:
    """The map of each row in `dtype`, and then the scale, in one step that has no gradient.

    None where there is no such step.
    """
    native = _mapped_natively(rows, where, target, rule, dtype, scale=scale, xp=xp, ops=ops)
    return None if native is None else native[0]


def _mapped_natively(
    values: Array,
    where: Array | None,
    target: Target,
    rule: MapRule,
    dtype: DType,
    *,
    with_order: bool = False,
    scale: Scale | None = None,
    is_connected: bool = False,
    xp: Namespace,
    ops: Ops,
) -> tuple[Array, Array | None] | None:
    """All of it in one step that need not know whether entries are missing, where there is one."""
    if target.formula is None or rule.ties == "random":
        return None
    n, parameters = values.shape[-1], rule.plotting_parameters
    table = partial(table_of_quantiles, target, n, parameters, dtype, values, xp=xp, ops=ops)
    tie_rule = COUNTING_TIES.get(rule.ties)
    wanted = MapWanted(tie_rule, target.formula, parameters, with_order, scale, is_connected)
    return ops.map_rows(values, where, table, wanted)


def _mapped(
    values: Array,
    missing: Array | None,
    random_keys: Array | None,
    target: Target,
    rule: MapRule,
    dtype: DType,
    *,
    with_order: bool,
    xp: Namespace,
    ops: Ops,
) -> tuple[Array, Array | None]:
    """The image of each row, NaN where an entry is missing; and, if it was found, the order.

    Complete rows look Q up in one table, the others evaluate it entry by entry.
    """
    on = partial(_mapped, target=target, rule=rule, dtype=dtype, xp=xp, ops=ops)
    parameters = rule.plotting_parameters
    if missing is None and target.is_tabulated:
        n = values.shape[-1]
        table = table_of_quantiles(target, n, parameters, dtype, values, xp=xp, ops=ops)
        return gather_by_rank(
            values, table, rule.ties, random_keys, with_order=with_order, xp=xp, ops=ops
        )
    long = ops.can_read(values) and values.shape[-1] >= OWN_TABLE_LENGTH
    of_rows = target.of_rows() if long else None
    if of_rows is not None:

        def mapped_row(r: int) -> Array:
            absent, keys = (None if each is None else each[r, :] for each in (missing, random_keys))
            own = (values[r, :], absent, keys, of_rows[r], rule, dtype)
            return _mapped(*own, with_order=False, xp=xp, ops=ops)[0]

        return ops.stack_of(mapped_row, len(of_rows), dtype, xp), None
    if missing is not None and rule.ties != "random" and ops.can_read(values):
        incomplete = _incomplete(values, missing, target, rule, dtype, xp, ops)
        if incomplete is not None:
            return incomplete, None
    rows_apart = RowsApart.found(missing, xp, ops) if target.is_tabulated else None
    if rows_apart is not None:
        complete, _ = on(xp.where(missing, 0, values), None, random_keys, with_order=False)
        parts = (rows_apart.taken(each) for each in (values, missing, random_keys))
        incomplete, _ = on(*parts, with_order=False)
        return rows_apart.put(incomplete, complete), None

    def each_at_its_rank(values: Array, *others: Array) -> Array:
        given = iter(others)
        own_missing = None if missing is None else next(given)
        own_keys = None if random_keys is None else next(given)
        h, n_valid = doubled_midranks(
            values, own_missing, ties=rule.ties, random_keys=own_keys, xp=xp, ops=ops
        )
        y = quantiles_of_ranks(target, h, n_valid, parameters, dtype, xp=xp, ops=ops)
        return y if own_missing is None else xp.where(own_missing, xp.nan, y)

    arrays = [each for each in (values, missing, random_keys) if each is not None]
    if target.is_tabulated and not target.learns(ops) and values.ndim > 1:
        return ops.in_blocks(each_at_its_rank, arrays, dtype), None
    return each_at_its_rank(*arrays), None


def _incomplete(
    values: Array,
    missing: Array,
    target: Target,
    rule: MapRule,
    dtype: DType,
    xp: Namespace,
    ops: Ops,
) -> Array | None:
    """The image of rows that miss entries, from a table for each number of those that they do not;
    None where there is no such way, or the table might learn."""
    if not target.is_tabulated or target.learns(ops):
        return None
    on = ops.device(values)
    tables_of = partial(
        new_tables, target, parameters=rule.plotting_parameters, dtype=dtype, on=on, xp=xp, ops=ops
    )
    return ops.map_incomplete(values, missing, tables_of, COUNTING_TIES.get(rule.ties), dtype)


def _by_value(
    values: Array, target: Target, rule: MapRule, dtype: DType, xp: Namespace, ops: Ops
) -> Array | None:
    """The image of rows of few different values, where Q is sooner asked for these than for a table
    of each row, or for the table that serves them all; else None."""
    if not (ops.can_read(values) and rule.ties in COUNTING_TIES and target.is_elementwise):
        return None
    *free, n = values.shape
    rows_a_table = math.prod(free) if target.is_tabulated else 1
    if n < ENTRIES_WORTH_VALUES * rows_a_table:
        return None

    def quantiles(less: Array, less_equal: Array) -> Array:
        h = COUNTING_TIES[rule.ties].doubled_midrank(less, less_equal)
        h = xp.clip(h, 0, 2 * n - 2)  # of levels that do not occur
        return quantiles_of_ranks(target, h, n, rule.plotting_parameters, dtype, xp=xp, ops=ops)

    return ops.map_by_value(values, quantiles)


def with_estimate(
    y: Array, rows: Array, saved: Saved, gradient: GradientRule, xp: Namespace, ops: Ops
) -> Array:
    """Y, and through the estimate that was asked for, its gradient to the rows."""
    vjp = partial(_vjp, formula=saved.formula, gradient=gradient, xp=xp, ops=ops)
    mid_quantiles = saved.mid_quantiles
    if mid_quantiles is not None:
        mid_quantiles = ops.detach(mid_quantiles)
    arrays = (saved.order, saved.excluded, mid_quantiles)
    return ops.connect(y, rows, arrays, vjp, gradient.sees_y)


def _vjp(
    x: Array,
    y: Array,
    grad: Array,
    order: Array | None,
    excluded: Array | None,
    mid_quantiles: Array | None,
    *,
    formula: Formula | None,
    gradient: GradientRule,
    xp: Namespace,
    ops: Ops,
) -> Array:
    estimate = ops.estimate(gradient.name, x)
    if estimate is None:
        estimate = gradient.estimate
        if formula is not None:  # what is not finite is still in x
            infinite = ~xp.isfinite(x)
            excluded = infinite if excluded is None else infinite | excluded
    saved = Saved(order, excluded, mid_quantiles, formula)
    return estimate(  # type: ignore[misc]  # there is one, or nothing is connected
        x, y, grad, saved, window=gradient.window, floor=gradient.floor, xp=xp, ops=ops
    )


def _mid_quantiles(
    target: Target, rows: Array, excluded: Array | None, xp: Namespace, ops: Ops
) -> Array:
    """Q at (i + ½)/n for the i-th of the n sorted entries that count: ``(n,)``, or a row each."""
    n, dtype = rows.shape[-1], at_least_single(rows.dtype, xp)
    if excluded is None and target.is_tabulated:
        table = table_of_quantiles(target, n, MID_POSITIONS, dtype, rows, xp=xp, ops=ops)
        return table[::2]
    rank = xp.arange(n, device=ops.device(rows))
    if excluded is None:
        return quantiles_of_ranks(target, 2 * rank, n, MID_POSITIONS, dtype, xp=xp, ops=ops)
    count = xp.count_nonzero(~excluded, axis=-1, keepdims=True)
    by_count = _mid_quantiles_by_count(target, count, n, dtype, xp, ops)
    if by_count is not None:
        return by_count
    rank = xp.minimum(rank, xp.maximum(count - 1, xp.zeros_like(count)))
    return quantiles_of_ranks(target, 2 * rank, count, MID_POSITIONS, dtype, xp=xp, ops=ops)


def _mid_quantiles_by_count(
    target: Target, count: Array, n: int, dtype: DType, xp: Namespace, ops: Ops
) -> Array | None:
    """The same, asked once for all rows in which equally many entries count; None where that would
    be more than half as often, where Q may not be asked so, or a look at the counts would wait."""
    may_be_asked = target.is_tabulated and target.is_elementwise and ops.keeps_tables
    if not (may_be_asked and ops.reads_at_once(count)):
        return None
    on, on_host = ops.device(count), np.maximum(ops.to_host(count).reshape(-1), 1)
    distinct, which = np.unique(on_host, return_inverse=True)
    if 2 * len(distinct) > len(which):
        return None
    counts = xp.asarray(distinct[:, np.newaxis], device=on)
    rank = xp.minimum(xp.arange(n, device=on), counts - 1)
    rows = quantiles_of_ranks(target, 2 * rank, counts, MID_POSITIONS, dtype, xp=xp, ops=ops)
    if len(distinct) == 1:
        return rows[0, :]
    of_each = xp.take(rows, xp.asarray(which, device=on), axis=0)
    return xp.reshape(of_each, (*count.shape[:-1], n))


def _missing(
    rows: Array, where: Array | None, may_be_nan: bool, xp: Namespace, ops: Ops
) -> Array | None:
    """Which entries do not count; None where it is certain that all do."""
    missing = xp.isnan(rows) if may_be_nan else None
    if where is None or (ops.can_read(where) and bool(xp.all(where))):
        return missing
    return ~where if missing is None else missing | ~where
