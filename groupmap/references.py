"""Targets that follow a reference sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import array_api_compat as compat

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import Ops, namespace_and_ops
from groupmap.dtypes import as_widest_real, check_real
from groupmap.interpolation import (
    counted_order_statistics,
    interpolate,
    order_statistics,
    with_middles,
)
from groupmap.positions import Positions, RankPositions, plotting_parameters
from groupmap.targets import Target

ENTRIES_WORTH_COUNTING = 2**6  # for each quantile that is asked: else the sample is sorted
SAMPLE = "the reference sample"


@final
@dataclass(frozen=True, eq=False)
class ReferenceTarget(Target):
    """A reference sample: Q interpolates its order statistics.

    `sorted_values` is ``(m,)`` for all groups, or ``(..., m)``, one sample a group, of any real
    dtype.
    """

    sorted_values: Array
    alphap: float
    betap: float

    is_elementwise: ClassVar[bool] = True

    @property
    def is_tabulated(self) -> bool:  # type: ignore[override]  # of the instance here
        return bool(self.sorted_values.ndim == 1)

    def learns(self, ops: Ops) -> bool:
        return not ops.can_read(self.sorted_values) or ops.wants_gradient(self.sorted_values)

    def of_rows(self) -> Sequence[Target] | None:
        if self.sorted_values.ndim != 2:
            return None
        values = self.sorted_values
        return [replace(self, sorted_values=values[r, :]) for r in range(values.shape[0])]

    def own_table(
        self, n: int, parameters: tuple[float, float], dtype: DType, xp: Namespace, ops: Ops
    ) -> Array | None:
        values = self.sorted_values
        if values.ndim != 1 or values.shape[0] != n or parameters != (self.alphap, self.betap):
            return None
        return with_middles(values, dtype, xp, ops)  # its order statistics lie at those positions

    def quantiles(self, positions: Positions, dtype: DType, ops: Ops) -> Array:
        del dtype
        values = self.sorted_values
        index = positions.order_statistic(values.shape[-1], self.alphap, self.betap)
        return order_statistics(values, index, positions.xp, ops)

    def probabilities(self, x: Array, xp: Namespace, ops: Ops) -> Array:
        values = as_widest_real(self.sorted_values, xp, ops)
        m = values.shape[-1]
        rank = xp.arange(m, dtype=values.dtype, device=compat.device(values))
        p = RankPositions(2.0 * rank, m, self.alphap, self.betap, xp=xp).p
        flat = xp.reshape(as_widest_real(x, xp, ops), (-1,))
        found = interpolate(flat, values, p, xp=xp, ops=ops)
        return xp.reshape(found, x.shape)


@final
@dataclass(frozen=True, eq=False)
class GivenReference(Target):
    """A reference sample as it is given, of the shapes of a `ReferenceTarget`: where Q is asked at
    few positions, and its different values are few, it is enough to count these; else it is put in
    order."""

    sample: Array
    alphap: float
    betap: float
    xp: Namespace
    ops: Ops
    # No functools.cached_property: before Python 3.12 it lets one thread wait for another's.
    made: dict[str, ReferenceTarget] = field(default_factory=dict, repr=False)

    is_elementwise: ClassVar[bool] = True

    @property
    def is_tabulated(self) -> bool:  # type: ignore[override]  # of the instance here
        return bool(self.sample.ndim == 1)

    def learns(self, ops: Ops) -> bool:
        return not ops.can_read(self.sample) or ops.wants_gradient(self.sample)

    def in_order(self) -> ReferenceTarget:
        """The sample in ascending order, once and for all."""
        if "in order" not in self.made:
            parameters = self.alphap, self.betap
            self.made["in order"] = target_of_samples(self.sample, parameters, self.xp, self.ops)
        return self.made["in order"]

    def of_rows(self) -> Sequence[Target] | None:
        return self.in_order().of_rows()

    def own_table(
        self, n: int, parameters: tuple[float, float], dtype: DType, xp: Namespace, ops: Ops
    ) -> Array | None:
        # Who asks for it will ask for many positions if there is none.
        return self.in_order().own_table(n, parameters, dtype, xp, ops)

    def quantiles(self, positions: Positions, dtype: DType, ops: Ops) -> Array:
        m = self.sample.shape[-1]
        index = positions.order_statistic(m, self.alphap, self.betap)
        are_few = index.shape[-1] * ENTRIES_WORTH_COUNTING <= m and not self.made
        counted = ops.count_values(self.sample) if are_few else None
        if counted is None:
            return self.in_order().quantiles(positions, dtype, ops)
        return counted_order_statistics(*counted, m, index, self.xp, ops)

    def probabilities(self, x: Array, xp: Namespace, ops: Ops) -> Array:
        return self.in_order().probabilities(x, xp, ops)


def sorted_reference(reference: Array, name: str, xp: Namespace, ops: Ops) -> Array:
    """The reference samples, ``(..., m)``, in ascending order.

    They keep their dtype, unless the library cannot sort it: narrow numbers take less time.
    """
    check_reference(reference, name, xp, ops)
    if ops.sortable(reference, xp) is not reference:
        reference = as_widest_real(reference, xp, ops)
    return ops.sort_rows(reference, xp)


def check_reference(reference: Array, name: str, xp: Namespace, ops: Ops) -> None:
    """Refuse samples between whose values nothing interpolates."""
    check_not_empty(reference, name, xp)
    may_be_infinite = xp.isdtype(reference.dtype, "real floating") and 0 not in reference.shape
    if may_be_infinite and ops.can_read(reference) and ops.screen(reference, xp)[1]:
        raise ValueError(
            f"{name} holds NaN or infinite values, between which nothing interpolates; "
            "leave them out of the sample."
        )


def check_not_empty(reference: Array, name: str, xp: Namespace) -> None:
    """Refuse what has no values, or none that are real."""
    check_real(reference, name, xp)
    if reference.shape[-1] == 0:
        raise ValueError(f"{name} is empty; it must have at least one value a group.")


def check_one_sample(sample: Array) -> Array:
    """The sample itself, if it is one that can serve every group."""
    if sample.ndim == 0:
        raise ValueError(
            "target_quantiles is a single number; a reference sample is 1-D, as numpy.asarray([…])."
        )
    if sample.ndim != 1:
        raise ValueError(
            f"target_quantiles is a sample of shape {tuple(sample.shape)}; a reference sample is "
            "1-D. Use match_quantiles for a reference a group."
        )
    return sample


def target_of_samples(
    samples: Array, parameters: tuple[float, float], xp: Namespace, ops: Ops
) -> ReferenceTarget:
    """The target that follows samples, ``(m,)`` for all groups or one a row."""
    return ReferenceTarget(sorted_reference(samples, SAMPLE, xp, ops), *parameters)


def target_of_given_samples(
    samples: Array, parameters: tuple[float, float], xp: Namespace, ops: Ops
) -> Target:
    """The same for one map, which may need no more than some of the order statistics."""
    check_not_empty(samples, SAMPLE, xp)
    return GivenReference(samples, *parameters, xp, ops)


def reference_target(sample: Array, positions: object) -> ReferenceTarget:
    """The target that follows a 1-D reference sample."""
    xp, ops = namespace_and_ops(target_quantiles=sample)
    values = sorted_reference(check_one_sample(sample), "target_quantiles", xp, ops)
    # Widened once: it may serve many calls, and each of them would.
    return ReferenceTarget(as_widest_real(values, xp, ops), *plotting_parameters(positions))
