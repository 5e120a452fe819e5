"""The affine estimate of the gradient (see `groupmap.gradients`, whose formula it is), by rows.

All sums are taken in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from groupmap.backends._bits import Rows
from groupmap.backends.kernels.columns import contiguous, written_together
from groupmap.backends.kernels.compiled import kernel, part, summing_part
from groupmap.backends.kernels.estimates import entries_at_once, inverse_power_of_two
from groupmap.backends.kernels.threads import over_rows


def affine(x: Rows, y: Rows, grad: Rows, excluded: Rows | None, *, threads: int) -> Rows:
    """dL/dx of rows ``(r, n)`` from dL/dy, in its layout; what is excluded gets 0 and is left
    out."""
    result = np.empty_like(grad)

    def work(_: None, begin: int, end: int) -> None:
        part = slice(begin, end)
        inside = None if excluded is None else ~excluded[part]
        own_x, own_y, own_grad = (contiguous(each[part]) for each in (x, y, grad))
        with written_together(result[part]) as own_result:
            affine_rows(own_x, own_y, own_grad, inside, own_result)

    over_rows(
        work, lambda _: None, *x.shape, entries_per_block=entries_at_once(grad), threads=threads
    )
    return result


@kernel
def affine_rows(x: Rows, y: Rows, grad: Rows, inside: Rows | None, result: Rows) -> None:
    """s·(I − Π)·dL/dy of each row, s = ⟨x̃, y⟩/⟨x̃, x̃⟩."""
    for r in range(x.shape[0]):
        row, own_inside = x[r], None if inside is None else inside[r]
        if x.itemsize < 8:
            scale, sums = 1.0, sums_in_one_pass(row, y[r], grad[r], own_inside)
        else:
            scale = scale_of(row, own_inside)
            sums = sums_in_two_passes(row, y[r], grad[r], own_inside, scale)
        square = sums.square if sums.square > 0.0 else 1.0
        slope, along = sums.with_y / square * scale, sums.with_grad / square
        for i in range(row.size):
            if own_inside is None or own_inside[i]:
                centred = np.float64(row[i]) * scale - sums.mean
                rest = np.float64(grad[r, i]) - sums.mean_grad - along * centred
                result[r, i] = slope * rest
            else:
                result[r, i] = 0.0


@part
def scale_of(row: Rows, inside: Rows | None) -> float:
    """What scales the entries that count to at most 1."""
    greatest = 0.0
    for i in range(row.size):
        if inside is None or inside[i]:
            greatest = max(greatest, abs(np.float64(row[i])))
    return inverse_power_of_two(greatest)


class Sums(NamedTuple):
    """What the affine estimate asks of a row: x̃ is x less its mean."""

    mean: float
    mean_grad: float
    square: float  # ⟨x̃, x̃⟩
    with_y: float  # ⟨x̃, y⟩
    with_grad: float  # ⟨x̃, dL/dy⟩


@part
def first_of(row: Rows, inside: Rows | None) -> int:
    """The first entry that counts, or the last of all."""
    first = 0
    while inside is not None and first < row.size - 1 and not inside[first]:
        first += 1
    return first


@part
def scaled_difference(value: float, scale: float, origin: float) -> float:
    """Apart from sums, so that these are not taken before the differences."""
    return value * scale - origin


@summing_part
def sums_in_one_pass(x: Rows, y: Rows, grad: Rows, inside: Rows | None) -> Sums:
    """Those of single precision, by the differences from one entry, which are exact in double.

    No entry is further from the mean than √n standard deviations, so that no more than log₂ n of
    the 53 bits are lost where the mean is subtracted from sums.
    """
    origin, count = np.float64(x[first_of(x, inside)]), 0
    of_x, of_y, of_grad, square, with_y, with_grad = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(x.size):
        if inside is None or inside[i]:
            difference = np.float64(x[i]) - origin
            count += 1
            of_x += difference
            of_y += np.float64(y[i])
            of_grad += np.float64(grad[i])
            square += difference * difference
            with_y += difference * np.float64(y[i])
            with_grad += difference * np.float64(grad[i])
    mean, mean_grad = of_x / max(count, 1), of_grad / max(count, 1)
    return Sums(
        origin + mean,
        mean_grad,
        square - of_x * mean,
        with_y - of_y * mean,
        with_grad - of_grad * mean,
    )


@summing_part
def sums_in_two_passes(x: Rows, y: Rows, grad: Rows, inside: Rows | None, scale: float) -> Sums:
    """Those of double precision, of the row times the scale.

    The mean, too, by the differences from one entry: it is exact where all are equal, or what it
    lacks of digits would be all that is left of them.
    """
    origin = x[first_of(x, inside)] * scale
    of_x, of_y, of_grad, count = 0.0, 0.0, 0.0, 0
    for i in range(x.size):
        if inside is None or inside[i]:
            of_x += scaled_difference(x[i], scale, origin)
            of_y += y[i]
            of_grad += grad[i]
            count += 1
    mean, mean_grad = origin + of_x / max(count, 1), of_grad / max(count, 1)
    mean_y = of_y / max(count, 1)  # or what the mean lacks of digits would count as often as y
    square, with_y, with_grad = 0.0, 0.0, 0.0
    for i in range(x.size):
        if inside is None or inside[i]:
            centred = x[i] * scale - mean
            square += centred * centred
            with_y += centred * (y[i] - mean_y)
            with_grad += centred * (grad[i] - mean_grad)
    return Sums(mean, mean_grad, square, with_y, with_grad)
