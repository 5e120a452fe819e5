"""What is asked of rows that are ranked: where they lie, how ranks become values."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from groupmap.backends._ops import FORMULAS, Formula, TieRule
from groupmap.backends.cuda.programs import Names, Numbers, Program

NO_FORMULA = -1
IN_ORDER_OF_APPEARANCE = (0, 0, 2)  # what h weighs: #(<), #(≤) − 1, and the place among all


class Addresses(NamedTuple):
    """Where the arrays of one call lie; 0 for those that are not there."""

    rows: int
    where: int
    table: int
    weight: int
    bias: int
    values: int
    order: int
    less: int
    less_equal: int


class Spans(NamedTuple):
    """Which weight and bias serve the entry (r, i) of rows; see `Scale` in source/results.cuh."""

    each_rows: int = 1
    own_rows: int = 1
    each_entries: int = 1
    own_entries: int = 1


class Request(NamedTuple):
    """What is asked of the rows, besides where they lie."""

    n_rows: int
    n: int
    values: Numbers
    table: Numbers
    results: Numbers
    tie_rule: TieRule | None
    formula: Formula | None
    parameters: tuple[float, float]
    spans: Spans | None = None  # where there is a weight or a bias
    weights: Numbers | None = None  # of which these are, if they are not the table's

    def program(self, kernel: str, files: tuple[str, ...], names: Names) -> Program:
        """The kernel of those files for such numbers; `names` are its own."""
        weights = self.weights or self.table
        return _program(kernel, files, names, self.values, self.table, weights, self.results)

    def ways(self) -> tuple[int | float, ...]:
        """How ranks become values, in the order of RESULTS in source/results.cuh."""
        each_rows, own_rows, each_entries, own_entries = self.spans or Spans()
        reciprocal = -(-(2**62) // each_entries)
        weights = IN_ORDER_OF_APPEARANCE if self.tie_rule is None else (*self.tie_rule, 0)
        formula = kind_and_parameter(self.formula)
        parameters = map(float, self.parameters)
        return (each_rows, own_rows, own_entries, reciprocal, *weights, *formula, *parameters)


class Asked(NamedTuple):
    """Which arrays there are, for which the programs are made."""

    ordered: bool
    listed: bool
    masked: bool
    counted: bool
    weighted: bool
    biased: bool

    @classmethod
    def of(cls, at: Addresses, *, ordered: bool) -> Asked:
        """Those that have an address."""
        there = (at.order, at.where, at.less, at.weight, at.bias)
        return cls(ordered, *(each != 0 for each in there))

    def names(self, request: Request) -> Names:
        """What programs are told of them."""
        named = tuple((name.upper(), int(value)) for name, value in self._asdict().items())
        return (*named, ("PER_ENTRY", int((request.spans or Spans()).each_entries == 1)))


@cache
def _program(
    kernel: str,
    files: tuple[str, ...],
    names: Names,
    values: Numbers,
    table: Numbers,
    weights: Numbers,
    results: Numbers,
) -> Program:
    numbers = (
        *values.as_values(), *table.as_table(), *weights.as_weights(), *results.as_results()
    )  # fmt: skip
    return Program(kernel, files, (*numbers, *names))


def kind_and_parameter(formula: Formula | None) -> tuple[int, float]:
    """A formula as kernels know it."""
    if formula is None:
        return NO_FORMULA, 0.0
    return FORMULAS.index(formula.name), float(formula.parameter)
