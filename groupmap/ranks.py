"""Mid-ranks and tie rules: the F of y = Q(F(x)), as exact integers.

For each entry x of a group of n valid values, the *doubled mid-rank* is

    h = #(values < x) + #(values ≤ x) − 1,    an integer in 0 … 2n−2.

Where it lies in [0, 1] is said in `groupmap.positions`.
"""

from __future__ import annotations

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import Ops, TieRule

# scipy.stats.rankdata's names: what #(values < x) and #(values ≤ x) − 1 count for in h.
COUNTING_TIES: dict[str, TieRule] = {
    "average": TieRule(1, 1),
    "min": TieRule(2, 0),
    "max": TieRule(0, 2),
}
# These give every entry a rank of its own.
ORDERING_TIES = ("ordinal", "random")
TIES = (*COUNTING_TIES, *ORDERING_TIES)


def check_ties(ties: object) -> str:
    """`ties` itself, if it is a rule."""
    if not isinstance(ties, str) or ties not in TIES:
        raise ValueError(f"ties={ties!r} is not known; use one of {sorted(TIES)}.")
    return ties


def doubled_midranks(
    rows: Array,
    missing: Array | None,
    *,
    ties: str,
    random_keys: Array | None,
    xp: Namespace,
    ops: Ops,
) -> tuple[Array, Array | int]:
    """h of each entry, and the number of valid values: an int, or one a row where some miss.

    Missing entries get some h inside the table of their row, which means nothing.
    """
    rows = ops.sortable(rows, xp)
    n_valid: Array | int = rows.shape[-1]
    if missing is not None:
        # Above all others (or tied with the greatest), so no valid entry counts them as less;
        # those that it would count as equal are cut off below.
        n_valid = xp.count_nonzero(~missing, axis=-1, keepdims=True)
        rows = xp.where(missing, xp.full_like(rows, greatest(rows.dtype, xp)), rows)
    if ties in COUNTING_TIES:
        less, less_equal = ops.count_less(rows, xp)
        if missing is not None:
            less_equal = xp.minimum(less_equal, n_valid)
        h = COUNTING_TIES[ties].doubled_midrank(less, less_equal)
    else:
        h = 2 * _ordinal_ranks(rows, missing, random_keys, xp, ops)
    if missing is None:
        return h, n_valid
    return xp.maximum(xp.minimum(h, 2 * n_valid - 2), xp.zeros_like(n_valid)), n_valid


def gather_by_rank(
    rows: Array,
    table: Array,
    ties: str,
    random_keys: Array | None,
    *,
    with_order: bool,
    xp: Namespace,
    ops: Ops,
) -> tuple[Array, Array | None]:
    """``table[h]`` for rows of which nothing is missing; and, if wanted and found, their order."""
    if ties in ORDERING_TIES:
        rows = without_signed_zero(rows, xp)
    rows, rule = ops.sortable(rows, xp), COUNTING_TIES.get(ties)
    if ties != "random":
        return ops.rank_and_gather(rows, table, rule, with_order, xp)
    # Once the rows are shuffled, the order in which equals appear is random.
    shuffle = ops.stable_argsort(random_keys, xp)
    shuffled = xp.take_along_axis(rows, shuffle, axis=-1)
    y, _ = ops.rank_and_gather(shuffled, table, rule, False, xp)
    return ops.unsort(y, shuffle, xp), None


def greatest(dtype: DType, xp: Namespace) -> float | int:
    """A value that no other of this dtype exceeds."""
    if xp.isdtype(dtype, "real floating"):
        return float("inf")
    return int(xp.iinfo(dtype).max)


def _ordinal_ranks(
    rows: Array, missing: Array | None, random_keys: Array | None, xp: Namespace, ops: Ops
) -> Array:
    """Ranks by value, then validity, then random key, then appearance; from the last to the first.

    Sorting by one key after the other, each time stably, sorts by all of them together.
    """
    tiebreaks = (random_keys, None if missing is None else xp.astype(missing, xp.int8))
    keys = [each for each in (*tiebreaks, without_signed_zero(rows, xp)) if each is not None]
    order = ops.stable_argsort(keys[0], xp)
    for key in keys[1:]:
        so_far = xp.take_along_axis(key, order, axis=-1)
        order = xp.take_along_axis(order, ops.stable_argsort(so_far, xp), axis=-1)
    index = xp.arange(rows.shape[-1], dtype=order.dtype, device=ops.device(rows))
    return ops.unsort(xp.broadcast_to(index, rows.shape), order, xp)


def without_signed_zero(rows: Array, xp: Namespace) -> Array:
    """The rows with 0.0 for −0.0: some sorts put the latter first, though the two are equal."""
    if not xp.isdtype(rows.dtype, "real floating"):
        return rows
    return xp.where(rows == 0.0, xp.zeros_like(rows), rows)
