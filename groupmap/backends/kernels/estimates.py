"""What the estimates of the gradient have in common: how many entries are in work, and scales."""

from __future__ import annotations

import math

from groupmap.backends._bits import Rows
from groupmap.backends._layout import entries_per_block
from groupmap.backends.kernels.compiled import part

ENTRIES_PER_BLOCK = 2**15
COPIES = 4  # at most: of x, y, dL/dy and the result, where they are the columns of a table


def entries_at_once(grad: Rows) -> int:
    """How many entries of rows laid out as the gradient a thread works on."""
    return entries_per_block(grad, ENTRIES_PER_BLOCK, COPIES * grad.itemsize)


@part
def inverse_power_of_two(greatest: float) -> float:
    """What scales values of up to that size to at most 1, and keeps all of their digits."""
    return math.ldexp(1.0, -max(math.frexp(greatest)[1], -1000))  # finite for subnormals, too
