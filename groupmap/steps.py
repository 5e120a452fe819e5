"""Calls that come again: what a map and its scale depend on besides the entries is decided once."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import Ask, Kind, Kinds, Ops
from groupmap.dtypes import at_least_single, holds_without_rounding
from groupmap.grouping import Grouping, shape_along_axis
from groupmap.mapping import MapRule
from groupmap.ranks import COUNTING_TIES
from groupmap.tables import remembered_table
from groupmap.targets import Target

MOST_STEPS = 128  # each of which keeps its table, of a row that fits a block
Step = Callable[[Array, Array | None, Array | None], Array]


@lru_cache(maxsize=MOST_STEPS)
def step_for(
    kinds: Kinds,
    grouping: Grouping,
    target: Target,
    rule: MapRule,
    parameter_axis: int | None,
    xp: Namespace,
    ops: Ops,
) -> Step | None:
    """Q(F(x))·weight + bias of x, weight and bias of which `Ops.repeats` says the kinds.

    None where there is no such step: rows that do not fit, or a map that draws, or that depends on
    more than the kinds of the arrays.
    """
    x, weight, bias = (None if each is None else Kind(*each) for each in kinds)
    assert x is not None
    formula = target.formula
    if formula is None or rule.eps or rule.ties == "random":
        return None
    # What becomes of integers depends on the library's default dtype, which may change.
    if 0 in x.shape or not xp.isdtype(x.dtype, "real floating"):
        return None
    layout = grouping.layout(x.shape)
    given = [each for each in (weight, bias) if each is not None]
    if layout.order is not None or any(each.device != x.device for each in given):
        return None
    # As in the pipeline, half precisions are scaled in single precision.
    map_dtype = at_least_single(x.dtype, xp) if given else x.dtype
    spans = None
    if given:
        of_parameters = tuple([(each.shape, each.dtype) for each in given])
        spans = spans_of_scale(grouping, x.shape, of_parameters, parameter_axis, map_dtype, xp)
        if spans is None:
            return None
    *free, n = layout.rows
    parameters = rule.plotting_parameters
    table = remembered_table(target, n, parameters, map_dtype, x.device, xp)
    if table is None:
        return None
    ask = Ask(
        math.prod(free), n, x.dtype, COUNTING_TIES.get(rule.ties), formula, parameters,
        None if weight is None else weight.dtype, None if bias is None else bias.dtype, spans,
    )  # fmt: skip
    return ops.step(ask, table)


@lru_cache(maxsize=1024)  # layers ask the same again and again
def spans_of_scale(
    grouping: Grouping,
    shape: tuple[int, ...],
    of_parameters: tuple[tuple[tuple[int, ...], DType], ...],
    parameter_axis: int | None,
    map_dtype: DType,
    xp: Namespace,
) -> tuple[int, int, int, int] | None:
    """The spans that serve all parameters of these shapes and dtypes, if they fit into one step."""
    # Wider parameters are not rounded to the dtype of the map.
    if 0 in shape or not all(
        holds_without_rounding(map_dtype, dtype, xp) for _, dtype in of_parameters
    ):
        return None
    shapes = [own for own, _ in of_parameters]
    if parameter_axis is not None:
        shapes = [shape_along_axis(own[0], parameter_axis, len(shape)) for own in shapes]
    found = {grouping.spans(own, shape) for own in shapes}
    return found.pop() if len(found) == 1 else None
