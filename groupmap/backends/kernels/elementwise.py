"""What is done to every entry before and after it is ranked, on our own threads.

torch's threads wait for more work by spinning, and for a while after each of its operations they
hold the cores that the kernels need; so what surrounds a kernel is done here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from groupmap.backends._bits import Bits, Unsigned, as_bits
from groupmap.backends.kernels.threads import over_rows

ENTRIES_PER_BLOCK = 2**16

# Of floats, by their size in bytes: the bits of infinity, above which only NaN is.
INFINITY = {
    size: np.dtype(f"u{size}").type(as_bits(np.asarray(np.inf, dtype=f"f{size}")))
    for size in (2, 4, 8)
}

BFLOAT16_INFINITY = np.uint16(0x7F80)  # which NumPy lacks


def screen(values: np.ndarray[Any, Any], infinity: Unsigned, *, threads: int) -> tuple[bool, bool]:
    """Whether any of some floats is NaN, and whether any is infinite or NaN."""
    bits = as_bits(values).ravel(order="K").reshape(-1, 1)  # in whatever order they lie
    greatest: list[Unsigned] = []

    def work(_: None, begin: int, end: int) -> None:
        greatest.append(greatest_magnitude(bits[begin:end, 0]))

    over_rows(
        work, lambda _: None, len(bits), 1, entries_per_block=ENTRIES_PER_BLOCK, threads=threads
    )
    return bool(max(greatest) > infinity), bool(max(greatest) >= infinity)


@njit(nogil=True, cache=True)
def greatest_magnitude(bits: Bits) -> Unsigned:
    """The greatest of the bit patterns without their signs."""
    everything = ~bits.dtype.type(0)
    magnitude = bits.dtype.type(everything >> bits.dtype.type(1))
    greatest = bits.dtype.type(0)
    for i in range(bits.size):
        greatest = max(greatest, bits.dtype.type(bits[i] & magnitude))
    return bits.dtype.type(greatest)


def scale(
    y: np.ndarray[Any, Any],
    weight: np.ndarray[Any, Any] | None,
    bias: np.ndarray[Any, Any] | None,
    *,
    threads: int,
) -> None:
    """y·weight + bias in y's own memory; of one shape, with ones where they repeat, or None."""
    given = weight if weight is not None else bias
    assert given is not None
    shape = (1,) * (y.ndim - given.ndim) + given.shape
    inner = 0  # how many axes at the end, and how many at the start, the parameters repeat along
    while inner < y.ndim and shape[y.ndim - 1 - inner] == 1:
        inner += 1
    repeats = math.prod(y.shape[y.ndim - inner :])
    parts = y.reshape(-1, given.size, repeats)
    factor, summand = (None if each is None else each.reshape(-1) for each in (weight, bias))

    def work(_: None, begin: int, end: int) -> None:
        scale_parts(parts[begin:end], factor, summand)

    over_rows(
        work, lambda _: None, len(parts), given.size * repeats,
        entries_per_block=ENTRIES_PER_BLOCK, threads=threads,
    )  # fmt: skip


@njit(nogil=True, cache=True)
def scale_parts(y: Bits, weight: Bits | None, bias: Bits | None) -> None:
    """The entries ``(i, k, j)`` times the k-th weight plus the k-th bias, in two roundings."""
    if y.shape[2] == 1:
        for i in range(y.shape[0]):
            for k in range(y.shape[1]):
                value = y[i, k, 0]
                if weight is not None:
                    value = value * weight[k]
                if bias is not None:
                    value = value + bias[k]
                y[i, k, 0] = value
        return
    for i in range(y.shape[0]):
        for k in range(y.shape[1]):
            for j in range(y.shape[2]):
                value = y[i, k, j]
                if weight is not None:
                    value = value * weight[k]
                if bias is not None:
                    value = value + bias[k]
                y[i, k, j] = value
