"""Which of some sorted words are equal in their prefixes, so that the keys must tell them apart."""

from __future__ import annotations

from groupmap.backends._bits import Bits, Unsigned
from groupmap.backends.kernels.compiled import ZERO, inlined
from groupmap.backends.kernels.vectors import IS_FAST, LANES, append_equal

STRIDE = 32


@inlined
def count_equal(words: Bits, low: Unsigned) -> int:
    """How many words have the prefix of the word before."""
    equals = 0
    for i in range(words.size - 1):
        equals += words[i] >> low == words[i + 1] >> low
    return equals


@inlined
def find_equal_words(words: Bits, low: Unsigned, spots: Bits) -> int:
    """Where the words stand that have the prefix of the next, which is looked at one by one where
    some of a stretch have; how many there are."""
    found, last = ZERO, words.size - 1
    for begin in range(0, last, STRIDE):
        end = min(begin + STRIDE, last)
        if count_equal(words[begin : end + 1], low) > 0:
            for i in range(begin, end):
                spots[found] = i
                found += words[i] >> low == words[i + 1] >> low
    return found


@inlined
def find_equal_by_vectors(words: Bits, low: Unsigned, spots: Bits) -> int:
    """The same, a vector at once, if there are as many; the last one looks at some words again."""
    last, found = words.size - 1, ZERO
    if last < LANES:
        for i in range(last):
            spots[found] = i
            found += words[i] >> low == words[i + 1] >> low
        return found
    for first in range(0, last, LANES):
        found = append_equal(words, min(first, last - LANES), first, low, spots, found)
    return found


# Chosen here: in compiled code both would be compiled.
find_equal = find_equal_by_vectors if IS_FAST else find_equal_words
