"""The order of rows, as words say once they are sorted: the index of each entry, or its key."""

from __future__ import annotations

from typing import Any

import numpy as np

from groupmap.backends._bits import Bits
from groupmap.backends.kernels.compiled import kernel, uncounted_kernel, uncounted_part
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


@kernel
def add_in_order(rows: np.ndarray[Any, Any], order: Bits, sums: np.ndarray[Any, Any]) -> None:
    """Add each row, sorted; one after the other, but several while a sum is at hand."""
    n_rows = rows.shape[0]
    in_fours = n_rows - n_rows % 4
    for r in range(0, in_fours, 4):
        first, second, third, fourth = rows[r], rows[r + 1], rows[r + 2], rows[r + 3]
        order_1, order_2, order_3, order_4 = order[r], order[r + 1], order[r + 2], order[r + 3]
        for i in range(sums.size):
            so_far = sums[i] + first[order_1[i]] + second[order_2[i]]
            sums[i] = so_far + third[order_3[i]] + fourth[order_4[i]]
    for r in range(in_fours, n_rows):
        row, own_order = rows[r], order[r]
        for i in range(sums.size):
            sums[i] += row[own_order[i]]
