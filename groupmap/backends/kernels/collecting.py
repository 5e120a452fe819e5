"""The values of entries that were dealt out (see `dealing`), collected from where they lie."""

from __future__ import annotations

import numpy as np

from groupmap.backends._bits import Bits
from groupmap.backends.kernels.compiled import kernel
from groupmap.backends.kernels.dealing import AHEAD, LONGEST_NEAR, Dealt
from groupmap.backends.kernels.scaling import InPlace, scale_part
from groupmap.backends.kernels.vectors import fetch

PART = 2**12  # values that are still in the nearest cache when they are scaled


@kernel
def collect_from_spots(
    spots: Bits, values: Bits, out: Bits, in_place: InPlace, r: int, first: int
) -> None:
    """The value of each entry, which lies there; scaled as those of row r from that one on, if they
    are to be."""
    for begin in range(0, out.size, PART):
        end = min(begin + PART, out.size)
        own_spots, own_out = spots[begin:end], out[begin:end]
        for i in range(own_out.size):
            own_out[i] = values[own_spots[i]]
        scale_part(in_place, r, first + begin, first + end)


@kernel
def collect_from_buckets(
    bucket_of: Bits,
    stretch: int,
    dealt: Dealt,
    values: Bits,
    out: Bits,
    in_place: InPlace,
    first: int,
) -> None:
    """The same for a stretch, which the next spot of each bucket lies at the end of: from the last
    entry on."""
    at = dealt.at[stretch]
    is_far = values.size > LONGEST_NEAR
    for end in range(out.size, 0, -PART):
        begin = max(end - PART, 0)
        own_buckets, own_out = bucket_of[begin:end], out[begin:end]
        for i in range(own_out.size - 1, -1, -1):
            bucket = own_buckets[i]
            spot = at[bucket] - np.uint32(1)
            at[bucket] = spot
            own_out[i] = values[spot]
            if is_far:
                fetch(values, np.int64(spot) - AHEAD)
        scale_part(in_place, 0, first + begin, first + end)
