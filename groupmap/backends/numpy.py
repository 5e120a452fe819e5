"""NumPy: kernels where they are installed, else sorts by value; and SciPy's special functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, lru_cache, partial

import numpy as np

from groupmap._typing import Array, DType, Namespace, Side
from groupmap.backends import generic, kernels, numpy_incomplete, numpy_normal, numpy_sorts
from groupmap.backends._bits import INFINITY
from groupmap.backends._ops import LineOfRanks, MapWanted, OfFeatures, TieRule
from groupmap.backends.kernels import threads

LEAST_ENTRIES = 2 * kernels.LEAST_SIZE  # of a block of some features
VALUES_PER_KNOT = 0.5  # where there are fewer, to bisect is faster than to make a table first
SHORTEST_COUNTED = 2**10  # rows of 8 bits; shorter ones are sorted as fast
# To Numba's arithmetic. Torch's bfloat16 looks like it here, and its numbers are others.
_UNKNOWN = (np.float16,)


# A function takes many calls for each block: fewer entries would count more than the cache.
ENTRIES_PER_BLOCK = 3 * 2**14


def count_less(rows: Array, xp: Namespace) -> tuple[Array, Array]:
    """How many entries of its row are less than each entry, and how many at most equal to it."""
    del xp
    if kernels.serve(rows):
        from groupmap.backends.kernels import rank

        return rank.count_less(rows, threads=kernels.default_threads())
    return numpy_sorts.count_less(rows)


def rank_and_gather(
    rows: Array, table: Array, tie_rule: TieRule | None, with_order: bool, xp: Namespace
) -> tuple[Array, Array | None]:
    """The value of the table at each entry's doubled mid-rank: in sorted order, then scattered."""
    del xp, with_order  # nothing differentiates here
    if kernels.serve(rows, table):
        from groupmap.backends.kernels import rank

        return rank.rank_and_gather(
            rows, table, tie_rule, with_order=False, threads=kernels.default_threads()
        )
    return numpy_sorts.rank_and_gather(rows, table, tie_rule), None


def map_rows(
    rows: Array, where: Array | None, table: Callable[[], Array], wanted: MapWanted
) -> tuple[Array, None] | None:
    """The whole map by a kernel, for rows that miss nothing; nothing differentiates here."""
    if where is not None or not has_native_map(rows):
        return None
    from groupmap.backends.kernels import rank
    from groupmap.backends.kernels.scaling import Scaling

    scaling, scale = None, wanted.scale
    if scale is not None:
        scaling = Scaling.of(scale.weight, scale.bias, scale.spans, scale.dtype)
    found = rank.map_rows(
        rows, table(), wanted.tie_rule, with_order=False, scaling=scaling,
        limit=INFINITY[rows.dtype.itemsize] if rows.dtype.kind == "f" else None,
        threads=kernels.default_threads(),
    )  # fmt: skip
    return None if found is None else (found[0], None)


def map_incomplete(
    rows: Array,
    missing: Array,
    tables_of: numpy_incomplete.TablesOf,
    tie_rule: TieRule | None,
    dtype: DType,
) -> Array | None:
    """By what ranks complete rows, for arrays that are worth a copy."""

    def gather(rows: Array, table: Array, threads: int) -> Array:
        if not kernels.serve(rows, table):
            return numpy_sorts.rank_and_gather(rows, table, tie_rule)
        from groupmap.backends.kernels import rank

        y, _ = rank.rank_and_gather(rows, table, tie_rule, with_order=False, threads=threads)
        return y

    if not kernels.serve(rows):
        return None
    n_threads = kernels.default_threads()
    return numpy_incomplete.map_rows(rows, missing, tables_of, dtype, gather, n_threads)


def map_by_value(rows: Array, quantiles: Callable[[Array, Array], Array]) -> Array | None:
    """By kernels that count, and look up."""
    if not kernels.serve(rows):
        return None
    from groupmap.backends.kernels.counted_values import counted_values

    with counted_values(rows, threads=kernels.default_threads()) as found:
        if found is None:
            return None
        return found.look_up(quantiles(found.less, found.less_equal))


def count_values(rows: Array) -> tuple[Array, Array] | None:
    """By kernels."""
    if not kernels.serve(rows):
        return None
    from groupmap.backends.kernels.counted_values import counted_values

    threads = kernels.default_threads()
    with counted_values(rows, threads=threads, are_looked_up=False) as found:
        return None if found is None else (found.numbers, found.less_equal)


def has_native_map(x: Array) -> bool:
    """Whether the kernels are for x."""
    return kernels.serve(x)


def normalize_rows(
    x: Array, rows: Callable[[], Array], tie_rule: TieRule | None, line: LineOfRanks
) -> Array | None:
    """A kernel for floats, none of them infinite."""
    if not (kernels.serve(x) and x.dtype in (np.float32, np.float64)):
        return None
    from groupmap.backends.kernels import normalizing

    return normalizing.normalize_rows(rows(), tie_rule, line, threads=kernels.default_threads())


def screen(x: Array, xp: Namespace) -> tuple[bool, bool]:
    """Whether any float is NaN, and whether any is infinite or NaN."""
    if kernels.serve(x):
        from groupmap.backends.kernels import screening

        return screening.screen(x, INFINITY[x.dtype.itemsize], threads=kernels.default_threads())
    return generic.screen(x, xp)


def search_rows(sorted_rows: Array, values: Array, side: Side, xp: Namespace) -> Array:
    """`searchsorted` on the last axis, by a kernel, or all rows in one call.

    NumPy searches one row only, but it orders complex numbers by real and then by imaginary
    part: with the row's index as real part, the rows laid end to end are one sorted row.
    """
    shape = values.shape
    if (
        sorted_rows.dtype == values.dtype == np.float64
        and sorted_rows.shape[:-1] == shape[:-1]
        and kernels.serve(values, sorted_rows)
    ):
        from groupmap.backends.kernels import searching

        rows, at = (each.reshape(-1, each.shape[-1]) for each in (sorted_rows, values))
        places = searching.search_rows(rows, at, side, threads=kernels.default_threads())
        return places.reshape(shape)
    if not np.isdtype(sorted_rows.dtype, (np.float16, np.float32, np.float64)):
        return generic.search_rows(sorted_rows, values, side, xp)
    k = sorted_rows.shape[-1]
    found = np.searchsorted(_in_row_order(sorted_rows), _in_row_order(values), side=side)
    row_index = np.arange(max(found.size, 1)) // max(values.shape[-1], 1)
    return (found - row_index[: found.size] * k).reshape(values.shape)


def _in_row_order(rows: Array) -> Array:
    ordered = np.empty(rows.shape, dtype=np.complex128)
    row_count = int(np.prod(rows.shape[:-1]))
    ordered.real = np.arange(row_count).reshape((*rows.shape[:-1], 1))
    ordered.imag = rows
    return ordered.reshape(-1)


def sums_in_order(values: Array, order: Array) -> Array | None:
    """A kernel for doubles."""
    if values.dtype != np.float64 or not kernels.serve(values, order):
        return None
    from groupmap.backends.kernels import weights

    rows, own_order = (each.reshape(-1, each.shape[-1]) for each in (values, order))
    sums = weights.sums_in_order(rows, own_order, threads=kernels.default_threads())
    return sums.reshape(values.shape)


def interpolator(
    knots: Array, values: Array, on_runs: str
) -> Callable[[Array], Array | None] | None:
    """A kernel for large arrays in double precision."""
    if not kernels.INSTALLED or knots.dtype != np.float64 or values.dtype != np.float64:
        return None
    k = knots.shape[-1]
    own_knots, own_values = knots.reshape(-1, k), values.reshape(-1, k)

    @cache
    def prepared() -> Callable[..., Array]:
        from groupmap.backends.kernels.knots import Interpolator

        return Interpolator(own_knots, own_values, on_runs)

    def at(x: Array) -> Array | None:
        if not kernels.serve(x) or x.dtype != np.float64:
            return None
        rows, n_threads = x.reshape(-1, x.shape[-1]), kernels.default_threads()
        if x.size < VALUES_PER_KNOT * knots.size and not prepared.cache_info().currsize:
            from groupmap.backends.kernels.knots import bisect

            return bisect(rows, own_knots, own_values, on_runs, threads=n_threads).reshape(x.shape)
        return prepared()(rows, threads=n_threads).reshape(x.shape)

    return at


def stable_argsort(rows: Array, xp: Namespace) -> Array:
    """The order of each row's entries, equal ones in order of appearance."""
    del xp
    if kernels.serve(rows):
        from groupmap.backends.kernels import rank

        return rank.order_of(rows, threads=kernels.default_threads()).astype(np.intp)
    return np.argsort(rows, axis=-1, stable=True)


def unsort(values: Array, order: Array, xp: Namespace) -> Array:
    """Back where the values stood, put there one by one."""
    del xp
    result = np.empty(order.shape, dtype=values.dtype)
    np.put_along_axis(result, order, values, axis=-1)
    return result


def order_statistics(sorted_rows: Array, index: Array) -> Array | None:
    """A kernel for many indices in double precision, in one sorted row or each row in its own."""
    is_known = sorted_rows.dtype not in _UNKNOWN and index.dtype == np.float64
    if not (is_known and kernels.serve(index, sorted_rows)):
        return None
    from groupmap.backends.kernels import knots

    n_threads = kernels.default_threads()
    if sorted_rows.ndim == 1:
        return _of_each(partial(knots.order_statistics, sorted_rows, threads=n_threads), index)
    if sorted_rows.shape[:-1] != index.shape[:-1]:
        return None
    rows, at = (each.reshape(-1, each.shape[-1]) for each in (sorted_rows, index))
    return knots.order_statistics_of_rows(rows, at, threads=n_threads).reshape(index.shape)


def with_middles(ascending: Array, dtype: DType) -> Array | None:
    """A kernel for one sorted row."""
    is_known = ascending.dtype not in _UNKNOWN and dtype in (np.float32, np.float64)
    if not (is_known and ascending.ndim == 1 and kernels.serve(ascending)):
        return None
    from groupmap.backends.kernels import knots

    table = np.empty(2 * len(ascending) - 1, dtype=dtype)
    knots.fill_with_middles(ascending, table, threads=kernels.default_threads())
    return table


def sort_rows(rows: Array, xp: Namespace, dtype: DType | None = None) -> Array:
    """Each row in ascending order, several at a time."""
    del xp
    dtype = rows.dtype if dtype is None else dtype
    if rows.dtype.itemsize == 1:
        if kernels.serve(rows) and rows.shape[-1] >= SHORTEST_COUNTED:
            from groupmap.backends.kernels import eight_bits

            return eight_bits.sort(rows, dtype, threads=kernels.default_threads())
        rows = rows.astype(f"{rows.dtype.kind}2")  # which NumPy sorts many times faster
    elif rows.dtype == np.float16:
        # Where many are equal, NumPy 2.4 leaves them out of order on processors that have AVX-512
        # and no arithmetic of 16 bits.
        rows = rows.astype(np.float32)
    if rows.ndim != 2:
        return np.sort(rows, axis=-1).astype(dtype, copy=False)
    result = np.empty(rows.shape, dtype=dtype)

    def work(_: None, begin: int, end: int) -> None:
        own = result[begin:end]
        ascending = own if dtype == rows.dtype else np.empty(own.shape, dtype=rows.dtype)
        _copy_rows(rows[begin:end], ascending)
        ascending.sort(axis=-1)
        if ascending is not own:
            own[...] = ascending

    numpy_sorts.over_blocks(work, rows)
    return result


def _copy_rows(rows: Array, out: Array) -> None:
    if kernels.serve(rows):
        from groupmap.backends.kernels import columns

        columns.copy_rows(rows, out)
    else:
        out[...] = rows


def in_blocks(
    function: Callable[..., Array],
    arrays: Sequence[Array],
    dtype: DType,
    entries_per_block: int = ENTRIES_PER_BLOCK,
) -> Array:
    """The function of some rows at a time, whose intermediate arrays stay in the cache."""
    x = arrays[0]
    if x.size <= entries_per_block:
        return function(*arrays)
    result = np.empty(x.shape, dtype=dtype)

    def work(_: None, begin: int, end: int) -> None:
        result[begin:end] = function(*(each[begin:end] for each in arrays))

    threads.over_rows(
        work, lambda _: None, len(x), x.size // len(x),
        entries_per_block=entries_per_block, threads=kernels.default_threads(),
    )  # fmt: skip
    return result


def by_features(
    function_of: OfFeatures,
    table: Array,
    at_once: int,
    dtype: DType,
    entries_per_block: int = ENTRIES_PER_BLOCK,
    *,
    learns: bool = False,
) -> Array:
    """Of some features after the other, whose functions stay in the cache, some samples at a time.

    No block is so small that another function would serve it, whose last digit may be another.
    """
    del learns
    n_samples, n_features = table.shape
    at_once = max(at_once, -(-LEAST_ENTRIES // max(n_samples, 1)))
    if n_features <= at_once:
        return in_blocks(function_of(slice(None)), [table], dtype, entries_per_block)
    result = np.empty(table.shape, dtype=dtype)
    features, samples = (
        [slice(*part) for part in threads.parts(n, count)]
        for n, count in (
            (n_features, -(-n_features // at_once)),
            (n_samples, -(-n_samples * at_once // entries_per_block)),
        )
    )
    n_threads = kernels.default_threads()
    chosen = lru_cache(maxsize=2 * n_threads)(lambda which: function_of(features[which]))

    def work(_: None, begin: int, end: int) -> None:
        for k in range(begin, end):
            which, block = divmod(k, len(samples))
            part = samples[block], features[which]
            result[part] = chosen(which)(table[part])

    threads.over_rows(
        work, lambda _: None, len(features) * len(samples), entries_per_block,
        entries_per_block=entries_per_block, threads=n_threads,
    )  # fmt: skip
    return result


def stack_of(function: Callable[[int], Array], count: int, dtype: DType, xp: Namespace) -> Array:
    """Several at a time."""
    del xp
    first = function(0)
    stack = np.empty((count, *first.shape), dtype=dtype)
    stack[0] = first

    def work(_: None, begin: int, end: int) -> None:
        for i in range(begin, end):
            stack[i + 1] = function(i + 1)

    threads.over_rows(
        work, lambda _: None, count - 1, max(first.size, 1), entries_per_block=1,
        threads=kernels.default_threads(),
    )  # fmt: skip
    return stack


def ndtri(p: Array, xp: Namespace) -> Array:
    """The quantile function of the standard normal distribution."""
    from scipy import special

    del xp
    return special.ndtri(p)


def ndtr(x: Array, xp: Namespace) -> Array:
    """The cdf of the standard normal distribution."""
    from scipy import special

    del xp
    return special.ndtr(x)


def normal_probabilities(x: Array, last: Array) -> Array | None:
    """A kernel for large arrays in double precision, of any strides."""
    if x.dtype != np.float64 or not kernels.serve(x):
        return None
    from groupmap.backends.kernels import normal

    return _of_each(partial(normal.probabilities, last=float(last)), x)


def normal_quantiles(p: Array, complement: Array, clamp: float) -> Array | None:
    """A kernel for large arrays, and the same bits for others; in double precision."""
    if p.dtype != np.float64:
        return None
    if not kernels.serve(p):
        return numpy_normal.quantiles(p, complement, clamp)
    from groupmap.backends.kernels import normal

    return _of_each(partial(normal.quantiles, clamp=clamp), p, complement)


def _of_each(function: Callable[..., Array], *arrays: Array) -> Array:
    """The function of all entries in a row, in whichever order they lie."""
    shape = arrays[0].shape
    if all(each.flags.f_contiguous for each in arrays):  # as features are, taken for rows
        return function(*(each.T.reshape(-1) for each in arrays)).reshape(shape[::-1]).T
    return function(*(each.reshape(-1) for each in arrays)).reshape(shape)


OPS = replace(
    generic.OPS,
    count_less=count_less,
    rank_and_gather=rank_and_gather,
    map_rows=map_rows,
    map_incomplete=map_incomplete,
    map_by_value=map_by_value,
    count_values=count_values,
    has_native_map=has_native_map,
    normalize_rows=normalize_rows,
    screen=screen,
    interpolator=interpolator,
    order_statistics=order_statistics,
    with_middles=with_middles,
    normal_probabilities=normal_probabilities,
    normal_quantiles=normal_quantiles,
    stable_argsort=stable_argsort,
    unsort=unsort,
    sort_rows=sort_rows,
    in_blocks=in_blocks,
    by_features=by_features,
    stack_of=stack_of,
    search_rows=search_rows,
    sums_in_order=sums_in_order,
    ndtri=ndtri,
    ndtr=ndtr,
)
