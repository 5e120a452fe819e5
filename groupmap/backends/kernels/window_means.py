"""Means over windows of ranks, by running sums: I − S of the transport estimate and its adjoint."""

from __future__ import annotations

import numpy as np

from groupmap.backends._bits import Rows
from groupmap.backends.kernels.compiled import part


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
