"""From a public face to the core and back: draw, group, map, ungroup, scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from groupmap._typing import Array, DType, Namespace, RandomSource
from groupmap.backends import Ops, Scale
from groupmap.dtypes import at_least_single, check_real, result_dtype
from groupmap.grouping import Grouping, along_axis, broadcast_mask
from groupmap.mapping import MapRule, OnOrder, map_rows, map_rows_scaled
from groupmap.references import (
    SAMPLE,
    check_reference,
    target_of_given_samples,
    target_of_samples,
)
from groupmap.steps import spans_of_scale, step_for
from groupmap.targets import Target


def map_groups(
    x: Array,
    grouping: Grouping,
    target: Target | Array | Sequence[Target | Array],
    rule: MapRule,
    *,
    where: Array | None = None,
    masked_value: float = math.nan,
    rng: RandomSource = None,
    weight: Array | None = None,
    bias: Array | None = None,
    parameter_axis: int | None = None,
    name: str = "x",
    on_order: OnOrder | None = None,
    xp: Namespace,
    ops: Ops,
) -> Array:
    """Q(F(x))·weight + bias; these broadcast against x, or lie along the `parameter_axis` of x.

    In place of a target there may be a reference: a sample for all groups, ``(m,)``, or an array
    with x's axes, pooled as x is; or a sequence, one for each index of the last axis that is not
    pooled. Where the mask `where` is false the result is `masked_value`.
    All arrays are of the namespace `xp`. Errors call x by the `name` that its owner has for it.
    `on_order` is told rows and their order, as `groupmap.mapping.map_rows` says.
    """
    is_simple = where is None and isinstance(target, Target) and target.is_remembered
    kinds = ops.repeats(x, weight, bias) if is_simple else None
    if kinds is not None:
        step = step_for(kinds, grouping, target, rule, parameter_axis, xp, ops)
        if step is not None:
            return step(x, weight, bias)
    check_real(x, name, xp)
    for parameter, its_name in ((weight, "weight"), (bias, "bias")):
        if parameter is not None:
            check_real(parameter, its_name, xp)
    dtype = result_dtype(x, xp)
    if where is not None:
        where = broadcast_mask(where, x, xp, name)
    if rule.eps:
        x = with_noise(x, rule.eps, rng, xp, ops)
    random_keys = ops.random_keys(x, rng, xp) if rule.ties == "random" else None
    reference = None
    if _is_reference(target):
        target, reference = None, target

    is_scaled = weight is not None or bias is not None
    # Half precisions are scaled in single precision and rounded once, at the end.
    map_dtype = at_least_single(dtype, xp) if is_scaled else dtype
    if is_scaled and ops.has_native_map(x) and isinstance(target, Target):
        y = _mapped_and_scaled(
            x, where, grouping, target, rule, weight, bias, parameter_axis, map_dtype, dtype, xp,
            ops,
        )  # fmt: skip
        if y is not None:
            return ops.keep_layout(_filled(y, where, masked_value, xp), x)
    whole_axes = grouping.whole_axes
    if isinstance(target, Sequence):
        _check_one_each(target, grouping, x.shape)
        whole_axes = tuple(sorted({*whole_axes, *grouping.axes_of_last_groups(x.ndim)}))
    on_block = partial(
        _map_block, grouping=grouping, target=target, rule=rule, dtype=map_dtype, on_order=on_order
    )
    y = ops.over_blocks(
        on_block,
        x,
        (where, random_keys),
        reference,
        whole_axes=whole_axes,
        dtype=map_dtype,
        xp=xp,
        ops=ops,
    )
    y = _filled(y, where, masked_value, xp)  # else the parameters' gradients see a NaN
    if is_scaled:
        if parameter_axis is not None:
            weight, bias = (along_axis(each, parameter_axis, x.ndim, xp) for each in (weight, bias))
        y = _filled(scaled(y, weight, bias, dtype, xp, ops), where, masked_value, xp)
    return ops.keep_layout(xp.astype(y, dtype, copy=False), x)


def _filled(y: Array, where: Array | None, masked_value: float, xp: Namespace) -> Array:
    """Y, and `masked_value` where the mask is false."""
    return y if where is None or math.isnan(masked_value) else xp.where(where, y, masked_value)


def _mapped_and_scaled(
    x: Array,
    where: Array | None,
    grouping: Grouping,
    target: Target,
    rule: MapRule,
    weight: Array | None,
    bias: Array | None,
    parameter_axis: int | None,
    map_dtype: DType,
    dtype: DType,
    xp: Namespace,
    ops: Ops,
) -> Array | None:
    """All of it in one step; None where there is none, or where something learns."""
    given = [each for each in (weight, bias) if each is not None]
    if ops.wants_gradient(x, *given):
        return None
    shape = x.shape
    of_parameters = tuple([(each.shape, each.dtype) for each in given])
    spans = spans_of_scale(grouping, shape, of_parameters, parameter_axis, map_dtype, xp)
    if spans is None:
        return None
    layout = grouping.remembered_layout(shape)
    rows = layout.to_rows(x, xp)
    where = None if where is None else layout.to_rows(where, xp)
    scale = Scale(_flat(weight, map_dtype, xp), _flat(bias, map_dtype, xp), spans, dtype)
    y = map_rows_scaled(rows, where, target, rule, map_dtype, scale, xp=xp, ops=ops)
    return None if y is None else layout.from_rows(y, xp)


def _flat(parameter: Array | None, dtype: DType, xp: Namespace) -> Array | None:
    if parameter is None:
        return None
    if parameter.dtype != dtype:
        parameter = xp.astype(parameter, dtype)
    return parameter if parameter.ndim == 1 else xp.reshape(parameter, (-1,))


def scaled(
    y: Array,
    weight: Array | None,
    bias: Array | None,
    dtype: DType,
    xp: Namespace,
    ops: Ops,
) -> Array:
    """y·weight + bias, in `dtype` or a wider one; NaN stay, but out of the gradient."""
    native = ops.scale_learning(y, weight, bias, dtype)
    if native is not None:
        return native
    learns = ops.wants_gradient(*(each for each in (weight, bias) if each is not None))
    if not learns or 0 in y.shape or (ops.reads_at_once(y) and not ops.screen(y, xp)[0]):
        return ops.scale(y, weight, bias)
    missing = xp.isnan(y)
    return xp.where(missing, xp.nan, ops.scale(xp.where(missing, 0.0, y), weight, bias))


def with_noise(x: Array, eps: float, rng: RandomSource, xp: Namespace, ops: Ops) -> Array:
    """X, in the dtype of its map, plus Gaussian noise of that standard deviation."""
    x = xp.astype(x, result_dtype(x, xp), copy=False)
    return x + eps * ops.standard_normal(x, x.dtype, rng, xp)


def _map_block(
    x: Array,
    where: Array | None,
    random_keys: Array | None,
    reference: Array | None,  # where there is no target
    *,
    grouping: Grouping,
    target: Target | Sequence[Target | Array] | None,
    on_order: OnOrder | None,
    xp: Namespace,
    ops: Ops,
    **how: Any,
) -> Array:
    if isinstance(target, Sequence):
        target = tuple(target)  # by which a program is found again
    comes_again = all(
        each is None or (isinstance(each, Target) and each.is_remembered)
        for each in (target if isinstance(target, tuple) else (target,))
    )
    made = ops.program if comes_again and on_order is None else partial
    mapped = made(
        _mapped_block, grouping=grouping, target=target, on_order=on_order, xp=xp, ops=ops, **how
    )
    if reference is not None and not ops.programs_read(x, where, random_keys, reference):
        check_reference(_samples(reference, grouping, xp), SAMPLE, xp, ops)
    return mapped(x, where, random_keys, reference)


def _mapped_block(
    x: Array,
    where: Array | None,
    random_keys: Array | None,
    reference: Array,  # None where there is a target
    *,
    grouping: Grouping,
    target: Target | Sequence[Target | Array] | None,
    rule: MapRule,
    dtype: DType,
    on_order: OnOrder | None,
    xp: Namespace,
    ops: Ops,
) -> Array:
    layout = grouping.layout(x.shape)
    rows, where, random_keys = (
        None if each is None else layout.to_rows(each, xp) for each in (x, where, random_keys)
    )
    parts = (rows, where, random_keys)
    if isinstance(target, Sequence):
        y = _map_rows_each_to_its_own(*parts, target, rule, dtype, xp=xp, ops=ops)
    else:
        if target is None:
            samples = _samples(reference, grouping, xp)
            # Where nothing is mapped, or the values cannot be seen, the sample is put in order at
            # once: what cannot serve is refused, and what is traced has one way.
            is_asked_for_some = ops.can_read(x) and 0 not in x.shape
            made = target_of_given_samples if is_asked_for_some else target_of_samples
            target = made(samples, rule.plotting_parameters, xp, ops)
        y = map_rows(*parts, target, rule, dtype, on_order=on_order, xp=xp, ops=ops)
    return layout.from_rows(y, xp)


def _samples(reference: Array, grouping: Grouping, xp: Namespace) -> Array:
    """One for all groups, or a row each."""
    return reference if reference.ndim == 1 else grouping.to_rows(reference, xp)


def _check_one_each(
    targets: Sequence[Target | Array], grouping: Grouping, shape: tuple[int, ...]
) -> None:
    """Refuse a sequence that is not one target a group."""
    n_groups = (1, *grouping.layout(shape).rows)[-2]
    if n_groups != len(targets):
        raise ValueError(
            f"target_quantiles is a sequence of {len(targets)} targets for {n_groups} groups; "
            "pass one target for each of them, or one for all."
        )


def _map_rows_each_to_its_own(
    rows: Array,
    where: Array | None,
    random_keys: Array | None,
    targets: Sequence[Target | Array],
    rule: MapRule,
    dtype: DType,
    *,
    xp: Namespace,
    ops: Ops,
) -> Array:
    """Rows ``(..., groups, n)``, each group to its own target."""
    members: dict[int, list[int]] = {}  # the groups of each distinct target
    for g, target in enumerate(targets):
        members.setdefault(id(target), []).append(g)
    mapped = []
    for groups in members.values():
        target = targets[groups[0]]
        if _is_reference(target):
            target = target_of_samples(target, rule.plotting_parameters, xp, ops)
        index = xp.asarray(groups, device=ops.device(rows))
        own_rows, own_where, own_keys = (
            None if each is None else xp.take(each, index, axis=-2)
            for each in (rows, where, random_keys)
        )
        mapped.append(map_rows(own_rows, own_where, own_keys, target, rule, dtype, xp=xp, ops=ops))
    if len(mapped) == 1:
        return mapped[0]
    order = [g for groups in members.values() for g in groups]
    place = xp.asarray(sorted(range(len(order)), key=order.__getitem__), device=ops.device(rows))
    return xp.take(xp.concat(mapped, axis=-2), place, axis=-2)


def _is_reference(target: Target | Array | Sequence[Target | Array]) -> bool:
    return not isinstance(target, (Target, Sequence))
