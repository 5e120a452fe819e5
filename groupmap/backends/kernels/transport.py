"""The transport estimate of the gradient (see `groupmap.gradients`, whose formula it is), by rows.

All sums are taken in float64. A row's entries that count come first in its order.
"""

from __future__ import annotations

import numpy as np

from groupmap.backends._bits import Rows
from groupmap.backends.kernels.columns import contiguous, written_together
from groupmap.backends.kernels.compiled import part, summing_part, uncounted_kernel
from groupmap.backends.kernels.estimates import entries_at_once, inverse_power_of_two
from groupmap.backends.kernels.threads import over_rows
from groupmap.backends.kernels.window_means import subtract_adjoint_means, subtract_window_means

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
        entries_per_block=entries_at_once(grad), threads=threads,
    )  # fmt: skip
    return result


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
