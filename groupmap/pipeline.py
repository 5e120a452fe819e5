"""From a public face to the core and back: draw, group, map, ungroup, scale."""

from __future__ import annotations

from functools import partial

from groupmap._typing import Array, DType, Namespace, RandomSource
from groupmap.backends import Ops
from groupmap.dtypes import at_least_single, check_real, result_dtype
from groupmap.grouping import Grouping, broadcast_mask
from groupmap.mapping import MapRule, map_rows
from groupmap.targets import Target
from groupmap.user_targets import ReferenceTarget, sorted_reference


def map_groups(
    x: Array,
    grouping: Grouping,
    target: Target | Array,
    rule: MapRule,
    *,
    where: Array | None = None,
    rng: RandomSource = None,
    weight: Array | None = None,
    bias: Array | None = None,
    xp: Namespace,
    ops: Ops,
) -> Array:
    """Q(F(x))·weight + bias, where weight and bias broadcast against x.

    In place of a target there may be a reference: a sample for all groups, ``(m,)``, or an array
    with x's axes, pooled as x is. All arrays are of the namespace `xp`.
    """
    check_real(x, "x", xp)
    dtype = result_dtype(x, xp)
    if where is not None:
        where = broadcast_mask(where, x, xp)
    if rule.eps:
        x = xp.astype(x, dtype, copy=False)
        x = x + rule.eps * ops.standard_normal(x, dtype, rng, xp)
    random_keys = ops.random_keys(x, rng, xp) if rule.ties == "random" else None
    target, reference = (target, None) if isinstance(target, Target) else (None, target)

    is_scaled = weight is not None or bias is not None
    # Half precisions are scaled in single precision and rounded once, at the end.
    map_dtype = at_least_single(dtype, xp) if is_scaled else dtype
    on_block = partial(_map_block, grouping=grouping, target=target, rule=rule, dtype=map_dtype)
    y = ops.over_blocks(
        on_block,
        x,
        (where, random_keys),
        reference,
        whole_axes=grouping.whole_axes,
        dtype=map_dtype,
        xp=xp,
        ops=ops,
    )
    if is_scaled:
        y = ops.scale(y, weight, bias)
    return ops.keep_layout(xp.astype(y, dtype, copy=False), x)


def _map_block(
    x: Array,
    where: Array | None,
    random_keys: Array | None,
    reference: Array,  # None where there is a target
    *,
    grouping: Grouping,
    target: Target | None,
    rule: MapRule,
    dtype: DType,
    xp: Namespace,
    ops: Ops,
) -> Array:
    rows, where, random_keys = (
        None if each is None else grouping.to_rows(each, xp) for each in (x, where, random_keys)
    )
    if target is None:
        samples = reference if reference.ndim == 1 else grouping.to_rows(reference, xp)
        target = ReferenceTarget(
            sorted_reference(samples, "the reference sample", xp, ops), *rule.plotting_parameters
        )
    y = map_rows(rows, where, random_keys, target, rule, dtype, xp=xp, ops=ops)
    return grouping.from_rows(y, x.shape, xp)
