"""The order of rows, as words say once they are sorted: the index of each entry, or its key."""

from __future__ import annotations

import numpy as np

from groupmap.backends._bits import Bits
from groupmap.backends.kernels.compiled import uncounted_kernel, uncounted_part
from groupmap.backends.kernels.words import index_bits


@uncounted_kernel
def write_order(words: Bits, order: Bits) -> None:
    """That of some rows, by their words."""
    n_rows, n = words.shape
    index = words.dtype.type((1 << index_bits(n)) - 1)
    for r in range(n_rows):
        for i in range(n):
            order[r, i] = words[r, i] & index


@uncounted_part
def write_order_of_one(words: Bits, begin: int, first: int, indices: Bits, order: Bits) -> None:
    """That of a bucket (see `dealing`) that begins there, behind the first entries of its row; the
    entries have these indices."""
    index = words.dtype.type((1 << index_bits(words.size)) - 1)
    own_indices, own_order = indices[begin : begin + words.size], order[first:]
    last = np.uint32(order.size - 1)
    for i in range(words.size):
        # No more, even if somebody else writes to the row in the meantime.
        own_order[i] = min(np.uint32(own_indices[words[i] & index]), last)


@uncounted_part
def write_order_of_equal(size: int, begin: int, first: int, indices: Bits, order: Bits) -> None:
    """The same for one of so many equal entries."""
    last = np.uint32(order.size - 1)
    for i in range(size):
        order[first + i] = min(np.uint32(indices[begin + i]), last)


@uncounted_part
def write_ascending(words: Bits, first: int, keys: Bits, ascending: Bits) -> None:
    """The keys of a bucket in the order of its words, behind the first ones of its row."""
    index = words.dtype.type((1 << index_bits(words.size)) - 1)
    own = ascending[first : first + words.size]
    for i in range(own.size):
        own[i] = keys[words[i] & index]
