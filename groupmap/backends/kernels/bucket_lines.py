"""Buckets ranked by words that NumPy sorts: those of each lie in a line, with words behind them
that sort last, and all lines are sorted in one call. The few buckets that are longer have several
lines, and are sorted again as a whole."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from groupmap.backends._bits import Bits
from groupmap.backends.kernels.bucket_words import bits_lost, least_and_greatest, write_words
from groupmap.backends.kernels.buckets import Ranking, emit_bucket
from groupmap.backends.kernels.compiled import short_kernel, uncounted_kernel
from groupmap.backends.kernels.dealing import Buckets
from groupmap.backends.kernels.words import LONGEST_IN_PLACES


class Lines(NamedTuple):
    """The words of some buckets."""

    words: Bits  # (line, word)
    first: Bits  # line of each bucket
    is_whole: Bits  # they hold the whole of the keys of the bucket
    is_long: Bits  # they are to be sorted across lines
    is_left: Bits  # they leave too much open; where that was clear at once, there are none

    @classmethod
    def for_buckets(cls, count: int, words: Bits) -> Lines:
        """For so many buckets, with memory for their words."""
        return cls(words, np.empty(count, dtype=np.int64), *np.empty((3, count), dtype=np.bool_))


def rank_in_lines(buckets: Buckets, words: Bits, table: Bits | None, ranking: Ranking) -> Bits:
    """The values of some buckets, and the order; which are left as they are.

    There is memory for lines of words, or for some of them.
    """
    n_lines, length = lines_of(buckets, words.shape[1]), words.shape[1]
    if n_lines > len(words):
        words = np.empty((n_lines, length), dtype=np.uint32)
    lines = Lines.for_buckets(len(buckets.ends), words)
    n_long = write_lines(buckets, lines, ranking.entries.to_read)
    words[:n_lines].sort(axis=-1)
    if n_long > 0:
        flat, sizes = words.reshape(-1), buckets.ends - buckets.begins
        for k in np.flatnonzero(lines.is_long):
            begin = lines.first[k] * length
            flat[begin : begin + sizes[k]].sort()
    emit_lines(buckets, lines, table, ranking)
    return lines.is_left


@short_kernel
def lines_of(buckets: Buckets, length: int) -> int:
    """How many lines of that length the words of some buckets take."""
    n_lines = 0
    for k in range(buckets.ends.size):
        n_lines += -(-(buckets.ends[k] - buckets.begins[k]) // length)
    return n_lines


@uncounted_kernel
def write_lines(buckets: Buckets, lines: Lines, all_keys: Bits) -> int:
    """Words of the keys of some buckets, and of their indices in them; how many are long."""
    words, length = lines.words.reshape(-1), lines.words.shape[1]
    line, n_long = 0, 0
    for k in range(buckets.ends.size):
        lines.first[k], lines.is_long[k], lines.is_left[k] = line, False, False
        keys = all_keys[buckets.begins[k] : buckets.ends[k]]
        if keys.size == 0:
            continue
        least, greatest = least_and_greatest(keys)
        lost = bits_lost(least, greatest, keys.size)
        lines.is_whole[k] = lost == 0
        lines.is_left[k] = lost > 0 and keys.size > LONGEST_IN_PLACES
        if not lines.is_left[k]:
            begin = line * length
            line += -(-keys.size // length)
            lines.is_long[k] = keys.size > length and greatest > least
            n_long += lines.is_long[k]
            write_words(keys, least, lost, words[begin : line * length])
    return n_long


@uncounted_kernel
def emit_lines(buckets: Buckets, lines: Lines, table: Bits | None, ranking: Ranking) -> None:
    """The sorted words of some buckets to values, and to the order."""
    words, length = lines.words.reshape(-1), lines.words.shape[1]
    for k in range(buckets.ends.size):
        begin, size = lines.first[k] * length, buckets.ends[k] - buckets.begins[k]
        if size > 0 and not lines.is_left[k]:
            own_words = words[begin : begin + size]
            lines.is_left[k] = emit_bucket(own_words, k, lines.is_whole[k], buckets, table, ranking)
