"""The map as docs/method.md defines it, one entry at a time: slow and obvious."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

POSITIONS = {
    "linear": (1, 1),
    "hazen": (1 / 2, 1 / 2),
    "weibull": (0, 0),
    "normal_unbiased": (3 / 8, 3 / 8),
    "blom": (3 / 8, 3 / 8),
    "median_unbiased": (1 / 3, 1 / 3),
    "cunnane": (0.4, 0.4),
}

CLAMP = 1e-5


def symmetric(lower):
    """Q from its formula on [0, ½]: p and its complement q decide which tail it is."""

    def quantile(p, q):
        return lower(max(p, CLAMP)) if p <= q else -lower(max(q, CLAMP))

    return quantile


QUANTILES = {
    "uniform": lambda p, q: p,
    "gaussian": symmetric(stats.norm.ppf),
    "cauchy": symmetric(lambda p: -1 / math.tan(math.pi * p)),
    "sparse": lambda p, q: p**28,
    "laplace": symmetric(lambda p: math.log(2 * p)),
    "logistic": symmetric(lambda p: math.log(p / (1 - p))),
}


def doubled_rank(values, i, ties):
    """h of values[i] among the values, none of which is missing."""
    x = values[i]
    less = sum(v < x for v in values)
    less_equal = sum(v <= x for v in values)
    if ties == "average":
        return less + less_equal - 1
    if ties == "min":
        return 2 * less
    if ties == "max":
        return 2 * (less_equal - 1)
    assert ties == "ordinal"
    return 2 * (less + sum(v == x for v in values[:i]))


def position(h, n, positions):
    a, b = positions
    return 0.5 if n == 1 else (h / 2 + 1 - a) / (n + 1 - a - b)


def doubled_ranks(row, *, ties="average", where=None):
    """h of each entry of a row, None where it is missing."""
    entries = row.tolist()  # Python's ints and floats compare exactly
    counts = [True] * len(entries) if where is None else where.tolist()
    valid = [i for i, x in enumerate(entries) if counts[i] and not math.isnan(x)]
    values = [entries[i] for i in valid]
    ranks = {i: doubled_rank(values, k, ties) for k, i in enumerate(valid)}
    return [ranks.get(i) for i in range(len(entries))], len(valid)


def map_row(row, target, *, positions="linear", ties="average", where=None):
    """Q(F(x)) of each entry, in float64; NaN where it is missing."""
    quantile = QUANTILES.get(target) or (lambda p, q: target(p))
    a, b = POSITIONS.get(positions, positions)
    ranks, n = doubled_ranks(row, ties=ties, where=where)
    return np.array(
        [
            math.nan
            if h is None
            else quantile(position(h, n, (a, b)), position(2 * n - 2 - h, n, (b, a)))
            for h in ranks
        ],
        dtype=np.float64,
    )


def map_rows(rows, target, **options):
    """Each row ``(..., n)`` by itself."""
    where = options.pop("where", None)
    flat = rows.reshape(-1, rows.shape[-1]) if rows.size else rows.reshape(0, rows.shape[-1])
    masks = [None] * len(flat) if where is None else where.reshape(flat.shape)
    mapped = [
        map_row(row, target, where=mask, **options) for row, mask in zip(flat, masks, strict=True)
    ]
    return np.array(mapped, dtype=np.float64).reshape(rows.shape)


def quantile(sample, p, positions="linear"):
    """numpy.quantile's definition of the p-th quantile."""
    a, b = POSITIONS.get(positions, positions)
    ascending = sorted(sample)
    m = len(ascending)
    index = min(max(m * p + a + p * (1 - a - b) - 1, 0), m - 1)
    low = math.floor(index)
    high = min(low + 1, m - 1)
    return ascending[low] + (index - low) * (ascending[high] - ascending[low])
