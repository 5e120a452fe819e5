"""Buckets ranked side by side (see `side_by_side`), as many at once as a vector has lanes.

The network sorts as many words of each as the longest has, to a multiple of `BLOCK`; so those of
about one length are put together. The few that are too long are sorted by their digits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from groupmap.backends._bits import Bits
from groupmap.backends._layout import BYTES_OF_LINE
from groupmap.backends.kernels.bins import SHORTEST_LINE
from groupmap.backends.kernels.bucket_lines import rank_in_lines
from groupmap.backends.kernels.bucket_words import (
    BEHIND_ALL,
    bits_lost,
    least_and_greatest,
    write_words,
)
from groupmap.backends.kernels.buckets import Ranking, emit_bucket, emit_equal_bucket, rank_left
from groupmap.backends.kernels.compiled import uncounted_kernel, uncounted_part
from groupmap.backends.kernels.dealing import Buckets
from groupmap.backends.kernels.digits import N_DIGITS, sort_by_digits
from groupmap.backends.kernels.memory import Memory
from groupmap.backends.kernels.network import BLOCK
from groupmap.backends.kernels.side_by_side import lanes_for, sort_side_by_side
from groupmap.backends.kernels.vectors import LANES, fetch
from groupmap.backends.kernels.words import index_bits

LONGEST_BLOCKS = 64
LONGEST_IN_LANES = LONGEST_BLOCKS * BLOCK
LONGEST = LANES * LONGEST_IN_LANES  # that is sorted here at all


class InLanes(NamedTuple):
    """Memory for the buckets of a row."""

    words: Bits  # of one bucket after the other, as many as there are lanes
    lanes: Bits  # the same on their side
    by_length: Bits  # buckets
    counts: Bits  # of each length in blocks, or of digits
    has_words: Bits  # (lane): of which there is anything to sort
    is_level: Bits  # (lane): whose entries are equal
    is_whole: Bits  # (lane): whose words hold the whole of the keys
    is_left: Bits  # (bucket)

    @classmethod
    def for_rows(cls, most: int, memory: Memory) -> InLanes:
        """For rows of so many buckets."""
        return cls(
            words=memory.empty(LONGEST, np.uint32),
            lanes=lanes_for(LONGEST_IN_LANES, np.uint32, memory),
            by_length=memory.empty(most, np.int64),
            counts=memory.empty(max(LONGEST_BLOCKS + 3, N_DIGITS), np.uint32),
            has_words=memory.empty(LANES, np.bool_),
            is_level=memory.empty(LANES, np.bool_),
            is_whole=memory.empty(LANES, np.bool_),
            is_left=memory.empty(most, np.bool_),
        )


@uncounted_kernel
def rank_in_lanes(
    n_buckets: int,
    buckets: Buckets,
    memory: InLanes,
    table: Bits | None,
    ranking: Ranking,
    next_row: Bits,
) -> int:
    """The values of so many buckets, and the order; how many of them are left as they are.

    In the meantime the row that comes next is fetched.
    """
    n_short = sort_by_length(n_buckets, buckets, memory)
    in_line = BYTES_OF_LINE // next_row.itemsize
    entries = in_line * -(-next_row.size // (n_buckets * in_line))
    first = n_left = fetched = 0
    while first < n_buckets:
        if first < n_short:
            some = memory.by_length[first : min(first + LANES, n_short)]
            length = BLOCK * blocks_of(some[some.size - 1], buckets)
            sort_some(some, length, buckets, memory, ranking.entries.to_read)
        else:
            some, length = memory.by_length[first : first + 1], 0
            sort_long(some[0], buckets, memory, ranking.entries.to_read)
        for lane in range(some.size):
            k, begin = some[lane], lane * length
            for i in range(fetched, min(fetched + entries, next_row.size), in_line):
                fetch(next_row, i)
            fetched += entries
            if memory.has_words[lane]:
                own_words = memory.words[begin : begin + buckets.ends[k] - buckets.begins[k]]
                memory.is_left[k] = emit_bucket(
                    own_words, k, memory.is_whole[lane], buckets, table, ranking
                )
            elif memory.is_level[lane]:
                emit_equal_bucket(k, buckets, table, ranking)
            n_left += memory.is_left[k]
        first += some.size
    return n_left


def rank_left_of_lanes(
    n_buckets: int, buckets: Buckets, memory: InLanes, table: Bits | None, ranking: Ranking
) -> int:
    """Rank those of so many buckets that are left; how many entries are in crowded ones."""
    which = np.flatnonzero(memory.is_left[:n_buckets])
    buckets = Buckets(*(each[which] for each in buckets))
    longest = int(np.max(buckets.ends - buckets.begins))
    beside = np.empty(longest * (ranking.beside.size > 0), ranking.beside.dtype)
    own_ranking = ranking._replace(spots=np.empty(longest + LANES, np.uint32), beside=beside)
    words = memory.words.reshape(-1, SHORTEST_LINE)
    are_left = rank_in_lines(buckets, words, table, own_ranking)
    return rank_left(are_left, buckets, table, own_ranking)


@uncounted_part
def blocks_of(k: int, buckets: Buckets) -> int:
    """How many blocks of words a bucket has; at most one more than go side by side."""
    size = buckets.ends[k] - buckets.begins[k]
    return int(min(-(-size // BLOCK), LONGEST_BLOCKS + 1))


@uncounted_part
def sort_by_length(n_buckets: int, buckets: Buckets, memory: InLanes) -> int:
    """Put so many buckets in the order of their lengths; how many go side by side."""
    counts = memory.counts[: LONGEST_BLOCKS + 3]
    for length in range(counts.size):
        counts[length] = 0
    for k in range(n_buckets):
        counts[blocks_of(k, buckets) + 1] += np.uint32(1)
    for length in range(1, counts.size):
        counts[length] += counts[length - 1]
    n_short = counts[LONGEST_BLOCKS + 1]
    for k in range(n_buckets):
        length = blocks_of(k, buckets)
        memory.by_length[counts[length]] = k
        counts[length] += np.uint32(1)
    return int(n_short)


@uncounted_part
def sort_some(some: Bits, length: int, buckets: Buckets, memory: InLanes, all_keys: Bits) -> None:
    """The sorted words of some buckets, so many of each; what sorts last, where there is nothing to
    sort.

    Nor is there where all entries are equal, which is noted.
    """
    for lane in range(LANES):
        own_words = memory.words[lane * length : (lane + 1) * length]
        memory.has_words[lane] = memory.is_level[lane] = False
        if lane < some.size:
            k = some[lane]
            memory.is_left[k] = False
            keys = all_keys[buckets.begins[k] : buckets.ends[k]]
            if keys.size > 0:
                least, greatest = least_and_greatest(keys)
                if least < greatest:
                    lost = bits_lost(least, greatest, keys.size)
                    memory.has_words[lane], memory.is_whole[lane] = True, lost == 0
                    write_words(keys, least, lost, own_words)
                    continue
                memory.is_level[lane] = True
        for i in range(length):
            own_words[i] = BEHIND_ALL
    if length > 0:
        words = memory.words[: LANES * length].reshape(LANES, length)
        sort_side_by_side(words, memory.lanes[: LANES * length])


@uncounted_part
def sort_long(k: int, buckets: Buckets, memory: InLanes, all_keys: Bits) -> None:
    """The same for one that is too long to lie beside others; if it is too long for that, too, it
    is left."""
    keys = all_keys[buckets.begins[k] : buckets.ends[k]]
    least, greatest = least_and_greatest(keys)
    has_words = least < greatest and keys.size <= LONGEST
    memory.has_words[0], memory.is_left[k] = has_words, least < greatest and not has_words
    memory.is_level[0] = least == greatest
    if has_words:
        lost, words = bits_lost(least, greatest, keys.size), memory.words[: keys.size]
        memory.is_whole[0] = lost == 0
        write_words(keys, least, lost, words)
        sort_by_digits(words, index_bits(keys.size), memory.lanes, memory.counts)
