"""Rank every entry of a row, and write where it stood the value of a table at its rank.

Words that hold an entry's key or place above its index (see `words`) are sorted as the numbers
that they are, by NumPy, whose sort compares many of them at once; the index then says where each
value goes. Words of 32 bits take half as long to sort as words of 64, and have room for the places
of rows that are not too long, unless many entries crowd together. Entries of 16 bits are few enough
to go without an index: the value is noted for the key, and looked up.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from groupmap.backends._bits import Bits, Code, as_bits, code_of
from groupmap.backends._ops import TieRule
from groupmap.backends.kernels.emission import emit
from groupmap.backends.kernels.threads import over_rows
from groupmap.backends.kernels.values import Tie, keys_of, look_up
from groupmap.backends.kernels.words import pack, place

ENTRIES_PER_BLOCK = 2**16  # what is sorted in one call; it stays in the L2 cache until written
LONGEST_IN_PLACES = 2**13  # in longer rows too many would share one

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
    size = rows.dtype.itemsize
    if size == 1:
        rows, size = rows.astype(f"{rows.dtype.kind}2"), 2
    result = np.empty(rows.shape, dtype=dtype)
    order = np.empty(rows.shape, dtype=np.int32) if with_order else None
    task = _Task(
        rows, code_of(rows.dtype), None if table is None else as_bits(table), tie,
        as_bits(result), order,
    )  # fmt: skip
    hand_out = partial(
        over_rows, n_rows=len(rows), n=n, entries_per_block=ENTRIES_PER_BLOCK, threads=threads
    )
    if size == 2 and not with_order and tie != IN_ORDER_OF_APPEARANCE:
        hand_out(task.by_value, partial(_Values, n, result.dtype.itemsize))
    elif size > 2 and rows.dtype.kind == "f" and n <= LONGEST_IN_PLACES:
        hand_out(task.by_place, partial(_Places, n))
    else:
        word = np.uint32 if size == 2 and n <= 2**16 else np.uint64
        hand_out(task.by_key, lambda block: np.empty((block, n), dtype=word))
    return result.reshape(shape), None if order is None else order.reshape(shape)


class _Values:
    """Memory for sorted keys of 16 bits, and for the value of each such key."""

    def __init__(self, n: int, itemsize: int, block: int) -> None:
        self.keys = np.empty((block, n), dtype=np.uint16)
        self.of_key = np.empty(2**16, dtype=f"u{itemsize}")


class _Places:
    """Memory for words of places, and for words of keys where places turn out to be crowded."""

    def __init__(self, n: int, block: int) -> None:
        self.keys = np.empty((block, n), dtype=np.uint64)
        self.places = self.keys.reshape(-1).view(np.uint32)[: block * n].reshape(block, n)
        self.were_crowded = False


class _Task(NamedTuple):
    """Some rows, what is asked of them, and where it goes; three ways to do it, block by block."""

    rows: Bits
    code: Code
    table: Bits | None
    tie: Tie
    out: Bits
    order: Bits | None

    def by_value(self, scratch: _Values, begin: int, end: int) -> None:
        bits, keys = as_bits(self.rows[begin:end]), scratch.keys[: end - begin]
        keys_of(bits, self.code, keys)
        keys.sort(axis=-1)
        look_up(keys, scratch.of_key, bits, self.code, self.table, self.tie, self.out[begin:end])

    def by_key(self, words: Bits, begin: int, end: int) -> None:
        bits, words = as_bits(self.rows[begin:end]), words[: end - begin]
        pack(bits, self.code, words)
        words.sort(axis=-1)
        orders = None if self.order is None else self.order[begin:end]
        emit(words, bits, self.code, self.table, self.tie, self.out[begin:end], orders, None)

    def by_place(self, scratch: _Places, begin: int, end: int) -> None:
        if scratch.were_crowded:  # then so are the next ones, most likely
            self.by_key(scratch.keys, begin, end)
            return
        rows, words = self.rows[begin:end], scratch.places[: end - begin]
        bits, crowded = as_bits(rows), np.empty(end - begin, dtype=np.bool_)
        place(rows, bits, self.code, words)
        words.sort(axis=-1)
        orders = None if self.order is None else self.order[begin:end]
        emit(words, bits, self.code, self.table, self.tie, self.out[begin:end], orders, crowded)
        scratch.were_crowded = 2 * int(np.count_nonzero(crowded)) > end - begin
        if np.any(crowded):
            self._again(begin + np.flatnonzero(crowded), scratch.keys)

    def _again(self, which: Bits, words: Bits) -> None:
        orders = None if self.order is None else self.order[which]
        part = self._replace(rows=self.rows[which], out=self.out[which], order=orders)
        part.by_key(words, 0, len(which))
        self.out[which] = part.out
        if self.order is not None:
            self.order[which] = orders
