"""Memory for the work of kernels, kept from one call to the next.

A system hands out memory page by page, as it is first touched, and takes it back when it is let go:
that can take three times as long as ranking a small input does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from groupmap.backends._bits import for_reading
from groupmap.backends._layout import BYTES_OF_LINE
from groupmap.backends.kernels.columns import copy_rows

BYTES_KEPT = 2**23  # for each thread; what needs more works long enough to wait for it
# Arrays that are gone through side by side should not lie whole pages apart.
BETWEEN = 13 * BYTES_OF_LINE

Lend = Callable[[], "Memory"]


class Memory:
    """Memory for one thread: arrays in one piece, as far as that goes."""

    def __init__(self, piece: np.ndarray[Any, Any], used: int = 0) -> None:
        self._piece, self._used = piece, used

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """An array, as `numpy.empty` gives it."""
        shape = (shape,) if isinstance(shape, int) else shape
        dtype, begin = np.dtype(dtype), self._used
        size = prod(shape) * dtype.itemsize
        if begin + size > BYTES_KEPT:
            return np.empty(shape, dtype)
        self._used += -(-size // BYTES_OF_LINE) * BYTES_OF_LINE + BETWEEN
        return np.ndarray(shape, dtype, self._piece, begin)

    def again(self) -> Memory:
        """What is left of it, to be used in turns: for what does not outlive the other's turn."""
        return Memory(self._piece, self._used)


class Contiguous:
    """Some rows at a time as kernels read them: those of other strides are copied to memory."""

    def __init__(self, rows: np.ndarray[Any, Any], most: int, memory: Memory) -> None:
        self._copies: np.ndarray[Any, Any] | None = None
        if not rows.flags.c_contiguous:
            self._copies = memory.empty((most, *rows.shape[1:]), rows.dtype)

    def __call__(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """These of them, good until the next are asked for."""
        if self._copies is None or rows.flags.c_contiguous:
            return rows
        copies = self._copies[: len(rows)]
        copy_rows(rows, copies)
        return for_reading(copies)


class _Shelf:
    """Where the piece of a thread lies while it is not lent."""

    piece: np.ndarray[Any, Any] | None = None


class _Shelves(threading.local):
    def __init__(self) -> None:
        self.own = _Shelf()


_shelves = _Shelves()


@contextmanager
def lent() -> Iterator[Lend]:
    """A function that lends memory to the thread that asks.

    None of it may be used after the end, when all threads must have done their work.

    A thread gets the piece that it had before, which may still be in the cache of its core.
    """
    pieces: list[tuple[_Shelf, np.ndarray[Any, Any]]] = []

    def lend() -> Memory:
        shelf = _shelves.own
        piece, shelf.piece = shelf.piece, None
        if piece is None:
            piece = np.empty(BYTES_KEPT + BYTES_OF_LINE, dtype=np.uint8)
            piece = piece[-piece.ctypes.data % BYTES_OF_LINE :][:BYTES_KEPT]
        pieces.append((shelf, piece))
        return Memory(piece)

    try:
        yield lend
    finally:
        for shelf, piece in pieces:
            shelf.piece = piece
