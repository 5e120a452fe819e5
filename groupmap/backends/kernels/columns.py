"""Rows that lie side by side, as the columns of a table do.

What a processor fetches to read or to write an entry of one of them serves its neighbours, too, if
it is still there when their turn comes; and where the next entry lies it does not foresee.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, as_bits
from groupmap.backends.kernels.vectors import fetch

BYTES_OF_LINE = 64  # of the cache
# Entries of a row that are read one after the other: each may be on another page, and a processor
# has only some tens of these at hand.
AT_ONCE = 2**5
AHEAD = 16  # entries of a row
FEW_LINES = 2  # side by side; where there are more a processor foresees them, and NumPy writes them


def are_columns(rows: np.ndarray[Any, Any]) -> bool:
    """Whether rows ``(r, n)`` lie so."""
    return len(rows) > 1 and 0 < rows.strides[0] < rows.strides[1]


def columns_per_line(rows: np.ndarray[Any, Any]) -> int:
    """How many entries of different rows lie in one line."""
    return max(1, BYTES_OF_LINE // rows.strides[0])


def copy_rows(rows: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
    """Copy rows of any strides to others of the same kind."""
    if are_columns(rows) and out.flags.c_contiguous:
        from_columns(as_bits(rows), as_bits(out))
    elif are_columns(out) and len(out) <= FEW_LINES * columns_per_line(out):
        to_columns(as_bits(rows), as_bits(out))
    else:
        out[...] = rows


@njit(nogil=True, cache=True)
def from_columns(rows: Bits, out: Bits) -> None:
    """Copy rows that lie side by side, part by part."""
    n_rows, n = rows.shape
    for begin in range(0, n, AT_ONCE):
        end = min(begin + AT_ONCE, n)
        for r in range(n_rows):
            part, own_out = rows[r, begin:end], out[r, begin:end]
            for i in range(part.size):
                own_out[i] = part[i]


@njit(nogil=True, cache=True)
def to_columns(rows: Bits, out: Bits) -> None:
    """Copy a few rows to some that lie side by side, entry by entry; what will be written to is
    fetched."""
    n_rows, n = rows.shape
    across, down = out.strides[0] // out.itemsize, out.strides[1] // out.itemsize
    for i in range(n):
        fetch(out, (i + AHEAD) * down)
        fetch(out, (i + AHEAD) * down + (n_rows - 1) * across)
        for r in range(n_rows):
            out[r, i] = rows[r, i]
