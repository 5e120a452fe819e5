"""What a backend offers: a handful of primitives, each a plain function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from groupmap._typing import Array, DType


class TieRule(NamedTuple):
    """The doubled mid-rank of x from #(values < x) and #(values ≤ x), by their weights."""

    less: int
    less_equal: int

    def doubled_midrank(self, less: Array, less_equal: Array) -> Array:
        """The integer h in 0 … 2n − 2."""
        return self.less * less + self.less_equal * (less_equal - 1)


# Of n and m, which may be arrays: the ratio and the offset of the line on which, among m
# sorted values, the quantiles at the ranks of n lie.
LineOfRanks = Callable[[Any, Any], tuple[Any, Any]]

# The distributions whose quantile functions compiled kernels know.
FORMULAS = ("uniform", "sparse", "gaussian", "cauchy", "laplace", "logistic")


class Formula(NamedTuple):
    """One of `FORMULAS`, and its parameter: the exponent of "sparse", else the clamp."""

    name: str
    parameter: float


class Scale(NamedTuple):
    """What each entry (r, i) of rows ``(r, n)`` is multiplied with, and what is added.

    It is the ``(r // each_rows % own_rows) * own_entries + i // each_entries``-th entry of the
    weight and of the bias, either of which may be None; `spans` are these four. The products and
    sums are rounded in the dtype of the map, and then to `dtype`.
    """

    weight: Array | None
    bias: Array | None
    spans: tuple[int, int, int, int]
    dtype: DType


class Kind(NamedTuple):
    """What is known of an array without its entries."""

    shape: tuple[int, ...]
    dtype: DType
    device: object


# Of x, weight and bias.
Kinds = tuple[Kind, Kind | None, Kind | None]

# What maps samples of those features of a table.
OfFeatures = Callable[[slice], Callable[[Array], Array]]


class Ask(NamedTuple):
    """A map of contiguous rows ``(n_rows, n)`` of floats, and its scale, to the same dtype."""

    n_rows: int
    n: int
    dtype: DType
    tie_rule: TieRule | None
    formula: Formula
    parameters: tuple[float, float]
    weight_dtype: DType | None
    bias_dtype: DType | None
    spans: tuple[int, int, int, int] | None


class MapWanted(NamedTuple):
    """What a native form of the map is asked, besides rows, a mask and a table of Q."""

    tie_rule: TieRule | None  # as in `Ops.rank_and_gather`
    formula: Formula  # of the table
    parameters: tuple[float, float]  # of its plotting positions
    with_order: bool
    scale: Scale | None
    is_connected: bool  # to a gradient


def no_native_form(*_: object) -> None:
    """None: the core does it in its own way, by what every library has."""


@dataclass(frozen=True, eq=False)
class Ops:
    """The primitives of one array library: what every one has, and then native forms of what the
    core can do by these, None where there are none.

    A backend replaces only those that it does better than `groupmap.backends.generic`. Every
    `rows` is shaped ``(..., n)``, its last axis is the group, and it holds no NaN.
    """

    check: Callable[..., None]
    """``(x, name)``: an error if x is of a kind whose groups cannot be mapped."""

    sortable: Callable[..., Array]
    """``(rows, xp)``: keys that sort and compare as the rows' entries do."""

    count_less: Callable[..., tuple[Array, Array]]
    """``(rows, xp) -> (less, less_equal)``: for each entry, how many of its row are < and ≤ it."""

    rank_and_gather: Callable[..., tuple[Array, Array | None]]
    """``(rows, table, tie_rule, with_order, xp)``: ``table[h]`` with h = tie_rule.doubled_midrank(
    less, less_equal) of each entry, or, where the rule is None, h = 2·(rank in order of appearance
    among equals); and the order of each row, if it is wanted and comes to light."""

    settle: Callable[..., None]
    """``(array)``: waits until all that a device does later, in whatever order, finds it made."""

    has_native_map: Callable[..., bool]
    """``(x)``: whether `map_rows` may have a native form for the rows of x."""

    runs: Callable[..., tuple[Array, Array] | None]
    """``(sorted_rows, xp)``: for each entry of sorted rows where its run of equals begins, and
    where the next one does; None where it is certain that no two are equal."""

    prefix_sums: Callable[..., Array]
    """``(values, xp)``: the sums of the first 0, 1, … n entries of each row, ``(..., n + 1)``."""

    unsort: Callable[..., Array]
    """``(values, order, xp)``: the values of rows taken in that order, back where they stood."""

    search_rows: Callable[..., Array]
    """``(sorted_rows, values, side, xp)``: `searchsorted`, each row of values in its own row."""

    sort_rows: Callable[..., Array]
    """``(rows, xp, dtype=None)``: each row in ascending order; in that dtype, which holds all."""

    in_blocks: Callable[..., Array]
    """``(function, arrays, dtype)``: the function of some arrays, of the first one's shape and of
    that dtype, at once or for some of their first axis at a time."""

    by_features: Callable[..., Array]
    """``(function_of, table, at_once, dtype, *, learns)``: what ``function_of(features)``, asked
    for slices of them, makes of those columns of the table ``(samples, features)``, of that dtype:
    of all at once, or of some samples and no more features than that at a time. `learns` says
    whether a gradient may be asked of more than the table."""

    stack_of: Callable[..., Array]
    """``(function, count, dtype, xp)``: the arrays that the function makes of 0, 1, … count − 1,
    each of them much work and of that dtype, stacked."""

    stable_argsort: Callable[..., Array]
    """``(rows, xp)``: the order of each row's entries, equal ones in order of appearance."""

    ndtri: Callable[..., Array]
    """``(p, xp)``: the quantile function of the standard normal distribution."""

    ndtr: Callable[..., Array]
    """``(x, xp)``: the cdf of the standard normal distribution."""

    standard_normal: Callable[..., Array]
    """``(like, dtype, rng, xp)``: normal draws shaped as `like`, on its device."""

    random_keys: Callable[..., Array]
    """``(like, rng, xp)``: uniform draws shaped as `like`, on its device."""

    device: Callable[..., object]
    """``(x)``: where x lies, as the library's `device=` takes it."""

    widest_real: Callable[..., DType]
    """``(like, xp)``: float64, or float32 where the device of `like` has none."""

    can_read: Callable[..., bool]
    """``(x)``: whether Python may branch on the data; False while they are traced."""

    reads_at_once: Callable[..., bool]
    """``(x)``: whether, besides, its data are at hand, and not what a device still computes."""

    screen: Callable[..., tuple[bool, bool]]
    """``(x, xp)``: whether any of some floats is NaN, and whether any is infinite or NaN; where
    their data may be read."""

    detach: Callable[..., Array]
    """``(x)``: the same data, out of sight of automatic differentiation."""

    wants_gradient: Callable[..., bool]
    """``(*arrays)``: whether something may differentiate with respect to any of them."""

    connect: Callable[..., Array]
    """``(y, x, saved, vjp, sees_y)``: y, with ``vjp(x, y, grad, *saved)`` as its gradient to x;
    `saved` holds arrays and None. What does not see y may be given None in its place; y itself,
    of which nobody else knows yet, may be what comes back."""

    scale: Callable[..., Array]
    """``(y, weight, bias)``: y·weight + bias, either of them may be None; y may be overwritten."""

    to_host: Callable[..., Array]
    """``(x)``: the array as a NumPy array."""

    keep_layout: Callable[..., Array]
    """``(y, like)``: y in the memory layout of `like`, where the library has such a notion."""

    keeps_tables: bool
    """Whether an array made in one call may be used in a later one."""

    program: Callable[..., Callable[..., Array]]
    """``(function, **fixed)``: ``function(*arrays, **fixed)`` of arrays, None and lists of such, as
    one program where the library makes such, which is kept for the same function with what is equal
    to the fixed arguments; these are hashable. Or by another library that sees the arrays' memory:
    so `xp`, `ops` and `dtype` are among what is fixed where the function needs them."""

    programs_read: Callable[..., bool]
    """``(*arrays)``: whether a program of these reads data; else what they decide is to be decided
    before."""

    over_blocks: Callable[..., Array]
    """``(function, x, companions, reference, *, whole_axes, dtype, xp, ops)``: the function of x,
    of its companions (of x's shape, or None) and of the reference (1-D, or with x's axes, or
    None), on whole arrays or block by block."""

    # Native forms.

    map_rows: Callable[..., tuple[Array, Array | None] | None] = no_native_form
    """``(rows, where, table, wanted)``: ``table()[h]`` as by `rank_and_gather`, of rows that may
    hold NaN, or False in the mask `where` (or None), both NaN in the result; their rows evaluate
    the formula at the plotting parameters of their own n. Scaled, if there is a scale. And the
    order, if it is wanted, −1 in place of what does not count. `MapWanted` says which. None where
    there is no native form: for rows of that kind, or for these, which hold NaN, or infinity though
    they are connected to a gradient."""

    map_incomplete: Callable[..., Array | None] = no_native_form
    """``(rows, missing, tables_of, tie_rule, dtype)``: ``tables_of([n])[0][h]`` of rows of which n
    entries are not missing, of that dtype; NaN for those that are. None where there is no native
    form."""

    repeats: Callable[..., Kinds | None] = no_native_form
    """``(x, weight, bias)``: their kinds, as tuples like `Kind`, where a `step` may be there for
    them and may be used: they are contiguous, nothing is traced and nothing learns. Else None."""

    step: Callable[..., Callable[[Array, Array | None, Array | None], Array] | None] = (
        no_native_form
    )
    """``(ask, table)``: `map_rows`, scaled, as a function of contiguous x, weight and bias of the
    kinds that the `Ask` names, for many calls; None where there is none."""

    map_by_value: Callable[..., Array | None] = no_native_form
    """``(rows, quantiles)``: the map of rows of few different values, by these alone: what becomes
    of an entry's value, of ``quantiles(less, less_equal)``, which takes the two counts of
    `count_less` for each of k values, ``(..., k)``, and may learn. None where there is no native
    form: for rows of that kind, or for these, of many values or with NaN."""

    count_values: Callable[..., tuple[Array, Array] | None] = no_native_form
    """``(rows)``: k values of each row in ascending order, all that occur among them, and how many
    entries are at most equal to each, both ``(..., k)``. None where there is no native form, or the
    values are many or not finite."""

    normalize_rows: Callable[..., Array | None] = no_native_form
    """``(x, rows, tie_rule, line)``: a native form of quantile normalisation, each of the
    ``rows()`` of x to the mean quantile function of all; ties as in `rank_and_gather`. The
    quantile at the doubled mid-rank h among n values is, among m in ascending order, the one at
    ``h/2 * ratio + offset``, the two that ``line(n, m)`` gives. None where there is none for x, or
    its entries are infinite or too great to be summed."""

    table_of_formula: Callable[..., Array | None] = no_native_form
    """``(formula, n, parameters, dtype, device)``: a native form of the table, of the bits that
    `map_rows` evaluates; None where there is none."""

    sums_in_order: Callable[..., Array | None] = no_native_form
    """``(values, order)``: a native form of the sums of the first 1, 2, … entries of each row,
    taken in that order; None where it is not for these."""

    interpolator: Callable[..., Callable[[Array], Array | None] | None] = no_native_form
    """``(knots, values, on_runs)``: a native form of `groupmap.interpolation.interpolator`, or
    None; and in place of its result None, where it is not for that x."""

    order_statistics: Callable[..., Array | None] = no_native_form
    """``(sorted_rows, index)``: a native form of `groupmap.interpolation.order_statistics`; None
    where it is not for these."""

    with_middles: Callable[..., Array | None] = no_native_form
    """``(ascending, dtype)``: a native form of `groupmap.interpolation.with_middles`; None where it
    is not for these."""

    normal_probabilities: Callable[..., Array | None] = no_native_form
    """``(x, last)``: a native form of the normal cdf with 0 at or below −last and 1 at or above
    last; None where it is not for that x."""

    normal_quantiles: Callable[..., Array | None] = no_native_form
    """``(p, complement, clamp)``: a native form of the normal quantile function, at p beside 1 − p,
    both of them at least the clamp; None where it is not for that p."""

    scale_learning: Callable[..., Array | None] = no_native_form
    """``(y, weight, bias, dtype)``: a native form of `scale` in `dtype`, where something
    learns, that keeps NaN out of the gradients; None where there is none."""

    estimate: Callable[..., Callable[..., Array] | None] = no_native_form
    """``(name, x)``: a native form of the estimate of that name in `groupmap.gradients`, for rows
    like x; None where there is none."""
