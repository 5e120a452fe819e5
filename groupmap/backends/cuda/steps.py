"""A map of arrays that come again and again: all but where they lie is decided once."""

from __future__ import annotations

from dataclasses import dataclass

from groupmap._typing import Array, DType
from groupmap.backends._ops import Ask
from groupmap.backends.cuda import plans, short_rows
from groupmap.backends.cuda.on_arrays import Memory
from groupmap.backends.cuda.programs import Numbers, numbers_of
from groupmap.backends.cuda.requests import Asked, Request, Spans


@dataclass(frozen=True)
class Step:
    """Contiguous x, weight and bias, all of the kind that was asked for, to the scaled map of x."""

    memory: Memory
    prepared: short_rows.Prepared
    table: Array
    address_of_table: int
    dtype: DType

    def __call__(self, x: Array, weight: Array | None, bias: Array | None) -> Array:
        """In a new array of x's shape."""
        memory = self.memory
        y = memory.empty_like(x, self.dtype)
        x_at, weight_at, bias_at, y_at = memory.addresses(x, weight, bias, y)
        device = x.device
        with memory.current(device):
            self.prepared.launch(
                (x_at, 0, self.address_of_table, weight_at, bias_at, y_at, 0, 0, 0),
                memory.place(device),
            )
        return y


def step(memory: Memory, ask: Ask, table: Array) -> Step | None:
    """None where no kernel reaches, or a row does not fit a block."""
    if not memory.reaches(table.device):
        return None
    weights = {each for each in (ask.weight_dtype, ask.bias_dtype) if each is not None}
    numbers = _all_known([ask.dtype, table.dtype, *weights])
    if numbers is None or len(weights) > 1:
        return None
    values, of_table, *of_weights = numbers
    ordered = ask.tie_rule is None
    device = memory.place(table.device).device
    plan = plans.plan_at(ask.n, values, device, ordered=ordered)
    if plan is None:
        return None
    spans = None if ask.spans is None else Spans(*ask.spans)
    request = Request(
        ask.n_rows, ask.n, values, of_table, values, ask.tie_rule, ask.formula, ask.parameters,
        spans, *of_weights,
    )  # fmt: skip
    asked = Asked(
        ordered, listed=False, masked=False, counted=False,
        weighted=ask.weight_dtype is not None, biased=ask.bias_dtype is not None,
    )  # fmt: skip
    prepared = short_rows.prepared(request, plan, asked)
    return Step(memory, prepared, table, memory.address(table), ask.dtype)


def _all_known(dtypes: list[DType]) -> list[Numbers] | None:
    numbers = [each for each in map(numbers_of, dtypes) if each is not None]
    return numbers if len(numbers) == len(dtypes) else None
