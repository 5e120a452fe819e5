"""What is asked of every entry before it is ranked, on our own threads.

torch's threads wait for more work by spinning, and for a while after each of its operations they
hold the cores that the kernels need; so what surrounds a kernel is done here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from groupmap.backends._bits import Bits, Unsigned, as_bits
from groupmap.backends.kernels.compiled import kernel
from groupmap.backends.kernels.threads import over_rows

ENTRIES_PER_BLOCK = 2**16


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


@kernel
def greatest_magnitude(bits: Bits) -> Unsigned:
    """The greatest of the bit patterns without their signs."""
    everything = ~bits.dtype.type(0)
    magnitude = bits.dtype.type(everything >> bits.dtype.type(1))
    greatest = bits.dtype.type(0)
    for i in range(bits.size):
        greatest = max(greatest, bits.dtype.type(bits[i] & magnitude))
    return bits.dtype.type(greatest)
