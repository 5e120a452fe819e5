"""The order of rows: the index of each entry, as its word says once all of them are sorted."""

from __future__ import annotations

import numpy as np

from groupmap.backends._bits import Bits
from groupmap.backends.kernels.compiled import uncounted
from groupmap.backends.kernels.words import index_bits


@uncounted
def write_order(words: Bits, order: Bits) -> None:
    """That of some rows, by their words."""
    n_rows, n = words.shape
    index = words.dtype.type((1 << index_bits(n)) - 1)
    for r in range(n_rows):
        for i in range(n):
            order[r, i] = words[r, i] & index


@uncounted
def write_order_of_one(words: Bits, begin: int, first: int, indices: Bits, order: Bits) -> None:
    """That of a bucket (see `dealing`) that begins there, behind the first entries of its row; the
    entries have these indices."""
    index = words.dtype.type((1 << index_bits(words.size)) - 1)
    own_indices, own_order = indices[begin : begin + words.size], order[first:]
    last = np.uint32(order.size - 1)
    for i in range(words.size):
        # No more, even if somebody else writes to the row in the meantime.
        own_order[i] = min(np.uint32(own_indices[words[i] & index]), last)


@uncounted
def write_order_of_equal(size: int, begin: int, first: int, indices: Bits, order: Bits) -> None:
    """The same for one of so many equal entries."""
    last = np.uint32(order.size - 1)
    for i in range(size):
        order[first + i] = min(np.uint32(indices[begin + i]), last)
