"""How rows lie in memory: one after the other, or side by side, as the columns of a table do."""

from __future__ import annotations

from typing import Any

import numpy as np

BYTES_OF_LINE = 64  # of a processor's cache
BYTES_OF_COPIES = 2**24  # for each thread


def are_columns(rows: np.ndarray[Any, Any]) -> bool:
    """Whether rows ``(r, n)`` lie side by side."""
    several = min(rows.shape) > 1  # else they lie one after the other, whatever the strides
    return several and 0 < rows.strides[0] < rows.strides[1]


def entries_per_block(rows: np.ndarray[Any, Any], usual: int, width: int) -> int:
    """How many entries of rows ``(r, n)`` are worked on at once, if copies take so many bytes each.

    Of columns, no fewer than have entries in one line, which else would be fetched again for every
    one of them; as far as there is memory for copies.
    """
    if not are_columns(rows):
        return usual
    n: int = rows.shape[1]
    columns = min(BYTES_OF_LINE // rows.strides[0], BYTES_OF_COPIES // (n * width))
    return max(usual, n * columns)
