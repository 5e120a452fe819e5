"""Rank every entry of a row, and write where it stood the value of a table at its rank.

Words that hold an entry's key above its index (see `words`) are sorted as the numbers that they
are, by NumPy, whose sort compares many of them at once; the index then says where each value goes.
Where a word has no room for all of a key, it holds the highest bits of it, and runs that these
cannot tell apart are mended. Entries of 16 bits are few enough to go without an index: the value
is noted for the key, and looked up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from groupmap.backends._bits import Bits, as_bits, code_of
from groupmap.backends._ops import TieRule
from groupmap.backends.kernels.threads import over_rows
from groupmap.backends.kernels.words import Tie, emit, keys_of, look_up, pack

ENTRIES_PER_BLOCK = 2**15  # what is sorted in one call; it stays in the L2 cache until written
LONGEST_IN_HALF_WORDS = 2**9  # in longer rows, mending takes what half as much to sort has saved

IN_ORDER_OF_APPEARANCE: Tie = (1, 1, 1)


def rank_and_gather(
    rows: Bits, table: Bits, tie_rule: TieRule | None, *, with_order: bool, threads: int
) -> tuple[Bits, Bits | None]:
    """``table[h]`` for each entry of rows without NaN, h as in `groupmap.ranks`; and the order.

    Without a rule, equals are ranked in order of appearance.
    """
    tie = IN_ORDER_OF_APPEARANCE if tie_rule is None else (0, *tie_rule)
    return _ranked(rows, table, tie, table.dtype, with_order, threads)


def order_of(rows: Bits, *, threads: int) -> Bits:
    """The order of each row, equals in order of appearance."""
    _, order = _ranked(rows, None, (0, 0, 0), np.dtype(np.uint64), True, threads)
    return order  # type: ignore[return-value]  # it was asked for


def count_less(rows: Bits, *, threads: int) -> tuple[Bits, Bits]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    counts, _ = _ranked(rows, None, (0, 0, 0), np.dtype(np.uint64), False, threads)
    return (counts >> np.uint64(32)).view(np.int64), (counts & np.uint64(2**32 - 1)).view(np.int64)


def _ranked(
    rows: Bits,
    table: Bits | None,
    tie: Tie,
    dtype: np.dtype[Any],
    with_order: bool,
    threads: int,
) -> tuple[Bits, Bits | None]:
    shape, n = rows.shape, rows.shape[-1]
    rows = np.ascontiguousarray(rows).reshape(-1, n)
    if rows.dtype.itemsize == 1:
        rows = rows.astype(f"{rows.dtype.kind}2")
    n_rows = len(rows)
    result = np.empty((n_rows, n), dtype=dtype)
    order = np.empty((n_rows, n), dtype=np.int32) if with_order else None
    code, bits, out = code_of(rows.dtype), as_bits(rows), as_bits(result)
    steps = None if table is None else as_bits(table)

    def by_index(words: Bits, begin: int, end: int) -> None:
        part, words = slice(begin, end), words[: end - begin]
        pack(bits[part], code, words)
        words.sort(axis=-1)
        orders = None if order is None else order[part]
        emit(words, bits[part], code, steps, tie, out[part], orders)

    def by_key(scratch: tuple[Bits, Bits], begin: int, end: int) -> None:
        part, keys, values = slice(begin, end), scratch[0][: end - begin], scratch[1]
        keys_of(bits[part], code, keys)
        keys.sort(axis=-1)
        look_up(keys, values, bits[part], code, steps, tie, out[part])

    if rows.dtype.itemsize == 2 and not with_order and tie != IN_ORDER_OF_APPEARANCE:
        over_rows(
            by_key,
            lambda block: (np.empty((block, n), dtype=np.uint16), np.empty(2**16, dtype=out.dtype)),
            n_rows, n, entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
        )  # fmt: skip
    else:
        longest = {2: 2**16, 4: LONGEST_IN_HALF_WORDS}.get(rows.dtype.itemsize, 0)
        word = np.uint32 if n <= longest else np.uint64
        over_rows(
            by_index, lambda block: np.empty((block, n), dtype=word),
            n_rows, n, entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
        )  # fmt: skip
    return result.reshape(shape), None if order is None else order.reshape(shape)
