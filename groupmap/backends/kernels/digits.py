"""Words sorted digit by digit: long buckets, of which there are too few to lie side by side."""

from __future__ import annotations

from groupmap.backends._bits import Bits
from groupmap.backends.kernels.compiled import inlined, uncounted_part
from groupmap.backends.kernels.words import WORD_BITS

DIGIT_BITS = 11
N_DIGITS = 2**DIGIT_BITS


@uncounted_part
def sort_by_digits(words: Bits, low: int, other: Bits, counts: Bits) -> None:
    """Sort words of 32 bits, whose `low` ones are in order; there is memory for no fewer others,
    and for the counts of all digits."""
    other, shift, are_there = other[: words.size], low, True
    while shift < WORD_BITS:
        if are_there:
            deal_digits(words, shift, other, counts)
        else:
            deal_digits(other, shift, words, counts)
        shift, are_there = shift + DIGIT_BITS, not are_there
    if not are_there:
        for i in range(words.size):
            words[i] = other[i]


@inlined
def deal_digits(words: Bits, shift: int, other: Bits, counts: Bits) -> None:
    """Words by one of their digits; those in which it is the same keep their order."""
    down, last = words.dtype.type(shift), words.dtype.type(N_DIGITS - 1)
    for digit in range(N_DIGITS):
        counts[digit] = 0
    for i in range(words.size):
        counts[(words[i] >> down) & last] += 1
    before = counts[0] - counts[0]
    for digit in range(N_DIGITS):
        count = counts[digit]
        counts[digit] = before
        before += count
    for i in range(words.size):
        digit = (words[i] >> down) & last
        other[counts[digit]] = words[i]
        counts[digit] += 1
