"""Q on ranks: one table of 2n − 1 values for all groups of n, or one evaluation an entry.

Both take the same float64 formula to the same positions, so they agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from array_api_compat import device

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import Ops, namespace_and_ops, ops_for
from groupmap.dtypes import as_widest_real, default_dtype
from groupmap.interpolation import take_rows
from groupmap.positions import Probabilities, RankPositions
from groupmap.targets import Target, probabilities_of_formula, quantiles_of_formula

# So many tables of at most so many bytes each, so that what is remembered stays small.
REMEMBERED_TABLES, REMEMBERED_BYTES = 16, 2**23
LONG_REMEMBERED_TABLES, LONG_REMEMBERED_BYTES = 1, 2**25
LONGEST_MADE_AT_ONCE = 2**12


def table_of_quantiles(
    target: Target,
    n: int,
    parameters: tuple[float, float],
    dtype: DType,
    like: Array,
    *,
    xp: Namespace,
    ops: Ops,
) -> Array:
    """Q at all 2n − 1 positions of n values, in `dtype`, on the device of `like`."""
    if not target.is_namespace_bound:
        tables, _ = _host_tables(target, np.asarray([n]), parameters)
        return xp.astype(xp.asarray(tables, device=ops.device(like)), dtype, copy=False)
    on = ops.device(like)
    table = None
    if ops.keeps_tables and ops.can_read(like):
        table = remembered_table(target, n, parameters, dtype, on, xp)
    return new_table(target, n, parameters, dtype, on, xp, ops) if table is None else table


def remembered_table(
    target: Target,
    n: int,
    parameters: tuple[float, float],
    dtype: DType,
    on: object,
    xp: Namespace,
) -> Array | None:
    """The same, made in this call or in one before; None if it depends on more, or is too large."""
    if not target.is_remembered:
        return None
    size = 2 * n * (xp.finfo(dtype).bits // 8)
    if size <= REMEMBERED_BYTES:
        return _remembered_table(target, n, parameters, dtype, on, xp)
    if size <= LONG_REMEMBERED_BYTES:
        return _remembered_long_table(target, n, parameters, dtype, on, xp)
    return None


def quantiles_of_ranks(
    target: Target,
    h: Array,
    n_valid: Array | int,
    parameters: tuple[float, float],
    dtype: DType,
    *,
    xp: Namespace,
    ops: Ops,
) -> Array:
    """Q at each doubled mid-rank h ``(..., n)``, in `dtype`.

    `n_valid` is the n of every group, or an array ``(..., 1)`` where groups miss values.
    """
    if not target.is_namespace_bound:
        return _from_host_tables(target, h, n_valid, parameters, dtype, xp, ops)
    if not isinstance(n_valid, int):
        n_valid = as_widest_real(n_valid, xp, ops)
    positions = RankPositions(as_widest_real(h, xp, ops), n_valid, *parameters, xp=xp)
    return xp.astype(target.quantiles(positions, dtype, ops), dtype, copy=False)


def new_table(
    target: Target,
    n: int,
    parameters: tuple[float, float],
    dtype: DType,
    on: object,
    xp: Namespace,
    ops: Ops,
) -> Array:
    """The same on that device, made in this call."""
    if target.formula is not None:
        native = ops.table_of_formula(target.formula, n, parameters, dtype, on)
        if native is not None:
            return native

    own = target.own_table(n, parameters, dtype, xp, ops)
    if own is not None:
        return own

    def quantiles(h: Array) -> Array:
        positions = RankPositions(h, n, *parameters, xp=xp)
        return xp.astype(target.quantiles(positions, dtype, ops), dtype, copy=False)

    is_mirrored = target.is_mirrored and parameters[0] == parameters[1]
    h = as_widest_real(xp.arange(n if is_mirrored else 2 * n - 1, device=on), xp, ops)
    table = ops.in_blocks(quantiles, [h], dtype) if target.is_elementwise else quantiles(h)
    return xp.concat([table, -xp.flip(table[:-1])]) if is_mirrored else table


def new_tables(
    target: Target,
    counts: Sequence[int],
    *,
    parameters: tuple[float, float],
    dtype: DType,
    on: object,
    xp: Namespace,
    ops: Ops,
) -> list[Array]:
    """The same for each n of some, made at once if it is worth it: of a short table most of the
    time goes to calls."""
    if not target.is_elementwise or len(counts) == 1 or max(counts) > LONGEST_MADE_AT_ONCE:
        return [new_table(target, n, parameters, dtype, on, xp, ops) for n in counts]

    def quantiles(h: Array, n: Array) -> Array:
        positions = RankPositions(h, n, *parameters, xp=xp)
        return xp.astype(target.quantiles(positions, dtype, ops), dtype, copy=False)

    is_mirrored = target.is_mirrored and parameters[0] == parameters[1]
    lengths = np.asarray([n if is_mirrored else 2 * n - 1 for n in counts])
    ends = np.cumsum(lengths)
    h = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
    n = np.repeat(np.asarray(counts), lengths)
    h, n = (as_widest_real(xp.asarray(each, device=on), xp, ops) for each in (h, n))
    values = ops.in_blocks(quantiles, [h, n], dtype)
    tables = [values[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    if is_mirrored:
        tables = [xp.concat([table, -xp.flip(table[:-1])]) for table in tables]
    return tables


def _table_to_remember(
    target: Target,
    n: int,
    parameters: tuple[float, float],
    dtype: DType,
    on: object,
    xp: Namespace,
) -> Array:
    ops = ops_for(xp)
    table = new_table(target, n, parameters, dtype, on, xp, ops)
    ops.settle(table)
    return table


_remembered_table = lru_cache(maxsize=REMEMBERED_TABLES)(_table_to_remember)
_remembered_long_table = lru_cache(maxsize=LONG_REMEMBERED_TABLES)(_table_to_remember)


def _from_host_tables(
    target: Target,
    h: Array,
    n_valid: Array,
    parameters: tuple[float, float],
    dtype: DType,
    xp: Namespace,
    ops: Ops,
) -> Array:
    """Q of a target that only NumPy can ask, where groups miss values."""
    if not ops.can_read(h):
        raise TypeError(
            f"{target!r} is evaluated by NumPy, which cannot be traced where values may be "
            "missing; use a named target, a torch distribution or a callable of the traced library."
        )
    try:
        counts = ops.to_host(n_valid)
    except (TypeError, RuntimeError) as error:
        raise TypeError(_out_of_reach(target, n_valid)) from error
    tables, starts = _host_tables(target, counts, parameters)
    on = device(h)
    tables = xp.astype(xp.asarray(tables, device=on), dtype, copy=False)
    starts = xp.asarray(starts, dtype=default_dtype(xp, "integral"), device=on)
    return take_rows(tables, h + take_rows(starts, n_valid, xp), xp)


def _host_tables(
    target: Target, counts: Array, parameters: tuple[float, float]
) -> tuple[Array, Array]:
    """A table for each count that occurs, laid end to end, and where that of each count starts.

    They depend on how many values the groups have and on none of the values.
    """
    counts = np.unique(np.maximum(counts, 1))
    lengths = 2 * counts - 1
    first = np.cumsum(lengths) - lengths
    h = (np.arange(int(lengths.sum())) - np.repeat(first, lengths)).astype(np.float64)
    n = np.repeat(counts, lengths).astype(np.float64)
    xp, ops = namespace_and_ops(h=h)
    values = target.quantiles(RankPositions(h, n, *parameters, xp=xp), np.float64, ops)
    starts = np.zeros(int(counts[-1]) + 1, dtype=np.int64)
    starts[counts] = first
    return values, starts


def quantiles_of_probabilities(
    target: Target, p: Array, dtype: DType, *, xp: Namespace, ops: Ops
) -> Array:
    """Q at any probabilities, in `dtype`; NaN where p is NaN."""
    if target.keeps_nan:
        return ops.program(quantiles_of_formula, target=target, dtype=dtype, xp=xp, ops=ops)(p)
    missing = xp.isnan(p)
    p = as_widest_real(xp.where(missing, 0.5, p), xp, ops)
    if target.is_namespace_bound:
        values = target.quantiles(Probabilities(p, xp), dtype, ops)
    else:
        p_on_host, np_xp, np_ops = _shared_with_numpy(p, target)
        values = target.quantiles(Probabilities(p_on_host, np_xp), np.float64, np_ops)
        values = xp.asarray(values)
    return xp.astype(xp.where(missing, xp.nan, values), dtype, copy=False)


def probabilities_of_values(target: Target, x: Array, *, xp: Namespace, ops: Ops) -> Array:
    """The target's cdf at x, in the widest real dtype; NaN where x is NaN."""
    if target.keeps_nan:
        return ops.program(probabilities_of_formula, target=target, xp=xp, ops=ops)(x)
    if target.is_namespace_bound:
        p = target.probabilities(x, xp, ops)
    else:
        p = xp.asarray(target.probabilities(*_shared_with_numpy(x, target)))
    return xp.where(xp.isnan(x), xp.nan, as_widest_real(p, xp, ops))


def _shared_with_numpy(x: Array, target: Target) -> tuple[Array, Namespace, Ops]:
    """The same memory as a NumPy array, with NumPy's namespace and primitives."""
    try:
        shared = np.asarray(x)  # which the libraries refuse for what is not in host memory
    except (TypeError, RuntimeError) as error:
        raise TypeError(_out_of_reach(target, x)) from error
    return shared, *namespace_and_ops(x=shared)


def _out_of_reach(target: Target, x: Array) -> str:
    return (
        f"{target!r} is evaluated by NumPy, which does not reach arrays on {device(x)}; "
        "use a named target, or a distribution of the array's own library."
    )
