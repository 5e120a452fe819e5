"""Rows that lie side by side, as the columns of a table do.

What a processor fetches to read or to write an entry of one of them serves its neighbours, too, if
it is still there when their turn comes; and where the next entry lies it does not foresee.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from groupmap.backends._bits import Bits, as_bits
from groupmap.backends._layout import BYTES_OF_LINE, are_columns
from groupmap.backends.kernels.compiled import kernel
from groupmap.backends.kernels.vectors import fetch

# Entries of a row that are read one after the other: each may be on another page, and a processor
# has only some tens of these at hand.
AT_ONCE = 2**5
AHEAD = 16  # entries of a row
FEW_LINES = 2  # side by side; where there are more a processor foresees them, and NumPy writes them


def contiguous(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The rows one after the other, copied if they lie otherwise."""
    if rows.flags.c_contiguous:
        return rows
    copies = np.empty(rows.shape, dtype=rows.dtype)
    copy_rows(rows, copies)
    return copies


@contextmanager
def written_together(rows: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Rows to write to, one after the other, which become these in the end."""
    if rows.flags.c_contiguous:
        yield rows
        return
    own = np.empty(rows.shape, dtype=rows.dtype)
    yield own
    copy_rows(own, rows)


def copy_rows(rows: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
    """Copy rows of any strides to others of the same kind."""
    if are_columns(rows) and out.flags.c_contiguous:
        from_columns(as_bits(rows), as_bits(out))
    elif are_columns(out) and len(out) * out.strides[0] <= FEW_LINES * BYTES_OF_LINE:
        to_columns(as_bits(rows), as_bits(out))
    else:
        out[...] = rows


@kernel
def from_columns(rows: Bits, out: Bits) -> None:
    """Copy rows that lie side by side, part by part."""
    n_rows, n = rows.shape
    for begin in range(0, n, AT_ONCE):
        end = min(begin + AT_ONCE, n)
        for r in range(n_rows):
            part, own_out = rows[r, begin:end], out[r, begin:end]
            for i in range(part.size):
                own_out[i] = part[i]


@kernel
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
