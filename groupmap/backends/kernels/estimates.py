"""The estimates of the gradient (see `groupmap.gradients`, whose formulas these are), row by row.

All sums are taken in float64. A row's entries that count come first in its order.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from groupmap.backends._layout import entries_per_block
from groupmap.backends.kernels.columns import contiguous, written_together
from groupmap.backends.kernels.compiled import kernel, part, summing_part, uncounted_kernel
from groupmap.backends.kernels.threads import over_rows

Rows = np.ndarray[Any, Any]
ENTRIES_PER_BLOCK = 2**15
COPIES = 4  # at most: of x, y, dL/dy and the result, where they are the columns of a table
UPPER, LOWER = 0.84, 0.16


def transport(
    x: Rows,
    grad: Rows,
    order: Rows,
    counts: Rows,
    mid_quantiles: Rows,
    window: int | None,
    floor: float,
    *,
    threads: int,
) -> Rows:
    """dL/dx of rows ``(r, n)`` from dL/dy, in its layout; mid-quantiles are ``(r, n)``, or ``(1,
    n)`` for all."""
    result = np.empty_like(grad)
    n_rows, n = x.shape

    def work(scratch: Rows, begin: int, end: int) -> None:
        part = slice(begin, end)
        quantiles = mid_quantiles if len(mid_quantiles) == 1 else mid_quantiles[part]
        with written_together(result[part]) as own_result:
            transport_rows(
                contiguous(x[part]), contiguous(grad[part]), order[part], counts[part], quantiles,
                0 if window is None else window, floor, scratch, own_result,
            )  # fmt: skip

    over_rows(
        work, lambda _: np.empty((3, n + 1)), n_rows, n,
        entries_per_block=_entries_at_once(grad), threads=threads,
    )  # fmt: skip
    return result


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
        work, lambda _: None, *x.shape, entries_per_block=_entries_at_once(grad), threads=threads
    )
    return result


def _entries_at_once(grad: Rows) -> int:
    return entries_per_block(grad, ENTRIES_PER_BLOCK, COPIES * grad.itemsize)


@uncounted_kernel
def transport_rows(
    x: Rows,
    grad: Rows,
    order: Rows,
    counts: Rows,
    mid_quantiles: Rows,
    window: int,
    floor: float,
    scratch: Rows,
    result: Rows,
) -> None:
    """J·dL/dy of each row."""
    for r in range(x.shape[0]):
        n = counts[r]
        c, v, sums = scratch[0, :n], scratch[1, :n], scratch[2, : n + 1]
        for i in range(n, x.shape[1]):
            result[r, order[r, i]] = 0.0
        scale = sort_and_centre(x[r], order[r], c, sums) if n > 0 else 0.0
        if scale == 0.0:
            for i in range(n):
                result[r, order[r, i]] = 0.0
            continue
        w = window if window else max(1, int(np.rint(np.sqrt(n))))
        w = min(w, n - 1)
        for i in range(n):
            v[i] = grad[r, order[r, i]]
        is_tied = sums[n] > 0.0
        if is_tied:
            average_ties(v, x[r], order[r])
        subtract_affine_part(v, c)
        quantiles = mid_quantiles[r if mid_quantiles.shape[0] > 1 else 0]
        subtract_window_means(v, c, quantiles, w, floor * spread(c) / n, sums)
        subtract_adjoint_means(v, w, sums)
        subtract_affine_part(v, c)
        if is_tied:
            average_ties(v, x[r], order[r])
        for i in range(n):
            result[r, order[r, i]] = v[i] * scale


@part
def inverse_power_of_two(greatest: float) -> float:
    """What scales values of up to that size to at most 1, and keeps all of their digits."""
    return math.ldexp(1.0, -max(math.frexp(greatest)[1], -1000))  # finite for subnormals, too


@part
def sort_and_centre(row: Rows, order: Rows, c: Rows, sums: Rows) -> float:
    """The row in ascending order, scaled to between ½ and 1 and centred; and the scale.

    That is 0 where there are no three distinct values. How many are equal to the one before goes
    to the end of `sums`.
    """
    n = c.size
    greatest = max(abs(np.float64(row[order[0]])), abs(np.float64(row[order[n - 1]])))
    scale = inverse_power_of_two(greatest)
    for i in range(n):
        c[i] = np.float64(row[order[i]]) * scale
    equals = equal_neighbours(c)
    sums[n] = equals
    if n - equals < 3:
        return 0.0
    mean = total(c) / n
    for i in range(n):
        c[i] -= mean
    return scale


@part
def average_ties(v: Rows, row: Rows, order: Rows) -> None:
    """B: each value becomes the mean over its run of equals in the row."""
    n, begin = v.size, 0
    while begin < n - 1:
        key, end = row[order[begin]], begin + 1
        if row[order[end]] != key:
            begin += 1
            continue
        sum_of_run = v[begin]
        while end < n and row[order[end]] == key:
            sum_of_run += v[end]
            end += 1
        mean = sum_of_run / (end - begin)
        for i in range(begin, end):
            v[i] = mean
        begin = end


@part
def subtract_affine_part(v: Rows, c: Rows) -> None:
    """I − Π: less the projection on 1 and on the centred values."""
    n = c.size
    mean = total(v) / n
    for i in range(n):
        v[i] -= mean
    slope = product(v, c) / product(c, c)
    for i in range(n):
        v[i] -= slope * c[i]


@summing_part
def equal_neighbours(ascending: Rows) -> int:
    """How many values are equal to the one before."""
    equals = 0
    for i in range(ascending.size - 1):
        equals += ascending[i] == ascending[i + 1]
    return equals


@summing_part
def total(v: Rows) -> float:
    """The sum."""
    result = 0.0
    for i in range(v.size):
        result += v[i]
    return result


@summing_part
def product(v: Rows, c: Rows) -> float:
    """The scalar product."""
    result = 0.0
    for i in range(v.size):
        result += v[i] * c[i]
    return result


@summing_part
def mean_deviation(c: Rows) -> float:
    """The mean distance from zero."""
    result = 0.0
    for i in range(c.size):
        result += abs(c[i])
    return result / c.size


@part
def spread(c: Rows) -> float:
    """Half the width of the middle 68 %, or a quarter of the mean deviation if that is more."""
    half_width = (order_statistic(c, UPPER) - order_statistic(c, LOWER)) / 2.0
    return max(half_width, 0.25 * mean_deviation(c))


@part
def order_statistic(ascending: Rows, p: float) -> float:
    """The p-th quantile by numpy.quantile's method "linear"."""
    position = p * (ascending.size - 1)
    below = int(np.floor(position))
    above = min(below + 1, ascending.size - 1)
    low, high = float(ascending[below]), float(ascending[above])
    return low + (position - below) * (high - low)


@part
def subtract_window_means(
    v: Rows, c: Rows, quantiles: Rows, w: int, least: float, sums: Rows
) -> None:
    """T′(I − S): less the mean over the window, times the slope of the map across it.

    `least` is what a step of one rank is taken to be at least.
    """
    n = v.size
    sums[0] = 0.0
    add_up(v, 1.0, 0.0, sums[1:])
    if 2 * w < n:
        # Where windows are whole, the same slices shifted: loops that need no index arithmetic.
        inner, size, width = v[w : n - w], 2 * w + 1, 2 * w
        above, below = sums[size:], sums[: n - width]
        c_above, c_below = c[width:], c[: n - width]
        q_above, q_below = quantiles[width:n], quantiles[: n - width]
        for i in range(n - width):
            run = max(c_above[i] - c_below[i], least * width)
            rise = np.float64(q_above[i]) - np.float64(q_below[i])
            slope = rise / run if run > 0.0 else 0.0
            inner[i] = (inner[i] - (above[i] - below[i]) / size) * slope
    edge = min(w, (n + 1) // 2)
    for k in range(2 * edge):
        i = k if k < edge else n - 1 - (k - edge)
        if k >= edge and i < edge:
            break
        lower, upper, reach = max(i - w, 0), min(i + w, n - 1), min(w, i, n - 1 - i)
        run = max(c[upper] - c[lower], least * (upper - lower))
        mean = (sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1)
        rise = np.float64(quantiles[upper]) - np.float64(quantiles[lower])
        v[i] = (v[i] - mean) * (rise / run if run > 0.0 else 0.0)


@part
def subtract_adjoint_means(v: Rows, w: int, sums: Rows) -> None:
    """(I − S)ᵀ: rank j takes part in the means of max(j − w, ⌈j/2⌉) … min(j + w, ⌊(n−1+j)/2⌋)."""
    n, edge = v.size, min(w, (v.size + 1) // 2)
    sums[0] = so_far = 0.0
    for i in range(edge):
        so_far += v[i] / (2 * min(i, n - 1 - i) + 1)
        sums[i + 1] = so_far
    so_far = add_up(v[edge : n - edge], 1.0 / (2 * w + 1), so_far, sums[edge + 1 :])
    for i in range(max(n - edge, edge), n):
        so_far += v[i] / (2 * (n - 1 - i) + 1)
        sums[i + 1] = so_far
    # Where all windows are whole, the same slices shifted, as above.
    begin, end = min(2 * w + 1, n), max(n - 1 - 2 * w, min(2 * w + 1, n))
    inner, below, above = v[begin:end], sums[begin - w :], sums[begin + w + 1 :]
    for j in range(inner.size):
        inner[j] -= above[j] - below[j]
    for k in range(begin + n - end):
        j = k if k < begin else end + k - begin
        first = max(j - w, (j + 1) // 2)
        behind = min(j + w, (n - 1 + j) // 2) + 1
        v[j] -= sums[np.uint64(behind)] - sums[np.uint64(first)]


@part
def add_up(v: Rows, factor: float, so_far: float, sums: Rows) -> float:
    """The sums of the first 1, 2, … values times the factor, and of what there was so far; the last
    of them. Four at a time, so that an addition waits for one of four others."""
    n = v.size
    in_fours = n - n % 4
    for i in range(0, in_fours, 4):
        one = v[i] * factor
        two = one + v[i + 1] * factor
        three = two + v[i + 2] * factor
        four = three + v[i + 3] * factor
        sums[i], sums[i + 1], sums[i + 2] = so_far + one, so_far + two, so_far + three
        so_far += four
        sums[i + 3] = so_far
    for i in range(in_fours, n):
        so_far += v[i] * factor
        sums[i] = so_far
    return so_far


@part
def scale_of(row: Rows, inside: Rows | None) -> float:
    """What scales the entries that count to at most 1."""
    greatest = 0.0
    for i in range(row.size):
        if inside is None or inside[i]:
            greatest = max(greatest, abs(np.float64(row[i])))
    return inverse_power_of_two(greatest)


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


class Sums(NamedTuple):
    """What the affine estimate asks of a row: x̃ is x less its mean."""

    mean: float
    mean_grad: float
    square: float  # ⟨x̃, x̃⟩
    with_y: float  # ⟨x̃, y⟩
    with_grad: float  # ⟨x̃, dL/dy⟩


@summing_part
def sums_in_one_pass(x: Rows, y: Rows, grad: Rows, inside: Rows | None) -> Sums:
    """Those of single precision, by the differences from one entry, which are exact in double.

    No entry is further from the mean than √n standard deviations, so that no more than log₂ n of
    the 53 bits are lost where the mean is subtracted from sums.
    """
    first = 0
    while inside is not None and first < x.size - 1 and not inside[first]:
        first += 1
    origin, count = np.float64(x[first]), 0
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
    """Those of double precision, of the row times the scale."""
    of_x, of_y, of_grad, count = 0.0, 0.0, 0.0, 0
    for i in range(x.size):
        if inside is None or inside[i]:
            of_x += x[i] * scale
            of_y += y[i]
            of_grad += grad[i]
            count += 1
    mean, mean_grad = of_x / max(count, 1), of_grad / max(count, 1)
    mean_y = of_y / max(count, 1)  # or what the mean lacks of digits would count as often as y
    square, with_y, with_grad = 0.0, 0.0, 0.0
    for i in range(x.size):
        if inside is None or inside[i]:
            centred = x[i] * scale - mean
            square += centred * centred
            with_y += centred * (y[i] - mean_y)
            with_grad += centred * (grad[i] - mean_grad)
    return Sums(mean, mean_grad, square, with_y, with_grad)
