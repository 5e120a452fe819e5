"""Tables of the named targets, by the code that kernels evaluate the targets with."""

from __future__ import annotations

from groupmap.backends._ops import Formula
from groupmap.backends.cuda import launching
from groupmap.backends.cuda.launching import Place, Shape
from groupmap.backends.cuda.programs import Numbers, Program
from groupmap.backends.cuda.requests import kind_and_parameter

THREADS = 256
MOST_BLOCKS = 4096


def fill_table(
    table: int,
    n: int,
    results: Numbers,
    formula: Formula,
    parameters: tuple[float, float],
    place: Place,
) -> None:
    """Q at the positions of all 2n − 1 doubled mid-ranks of n values, to the address `table`."""
    # No value is read; the names say something all the same.
    names = (*results.as_values(), *results.as_results(), ("THREADS", THREADS))
    blocks = min(-(-(2 * n - 1) // THREADS), MOST_BLOCKS)
    launching.launch(
        Program("fill_table", ("table.cu",), names),
        Shape(blocks, THREADS, 0),
        place,
        (table, n, *kind_and_parameter(formula), *parameters),
    )
