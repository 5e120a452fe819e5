"""Targets that users bring: callables, distributions and (see `references`) samples."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, final

import array_api_compat as compat
import numpy as np

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import Ops, is_array
from groupmap.dtypes import as_widest_real, at_least_single
from groupmap.positions import Positions
from groupmap.references import reference_target
from groupmap.targets import (
    DEFAULT_CLAMP,
    NAMED_TARGETS,
    Target,
    check_clamp,
    with_clamped_ends,
)


class HostDistribution(Protocol):
    """What is asked of a SciPy distribution: `ppf` (frozen) or `icdf` (new), and `cdf`."""

    def cdf(self, x: Any, /) -> Any:
        """The cumulative distribution function."""


@final
@dataclass(frozen=True)
class CallableTarget(Target):
    """A function from probabilities to quantiles, or an `nn.Module`, called on each pass."""

    function: Callable[[Array], Array]

    def quantiles(self, positions: Positions, dtype: DType, ops: Ops) -> Array:
        xp = positions.xp
        p = xp.astype(positions.p, at_least_single(dtype, xp), copy=False)
        if _is_torch_object(self.function, "nn", "Module"):
            p = _as_its_parameters(p, self.function)
        values = self.function(p)
        _check_values(values, p, self.function, xp)
        return as_widest_real(values, xp, ops)


def _as_its_parameters(p: Any, module: Any) -> Any:
    """Probabilities of the dtype of the module's parameters, which torch's own layers ask for."""
    if any(getattr(each, "takes_any_dtype", False) for each in module.modules()):
        return p
    dtypes = [each.dtype for each in module.parameters() if each.is_floating_point()]
    return p.to(dtypes[0]) if dtypes else p


FAR = 100.0  # times as far from the median as the quantile of the clamp


@final
@dataclass(frozen=True)
class TorchDistributionTarget(Target):
    """A `torch.distributions` distribution; its parameters may learn."""

    distribution: Any
    clamp: float = DEFAULT_CLAMP

    def __post_init__(self) -> None:
        check_clamp(self.clamp)
        _check_is_one(self.distribution, math.prod(getattr(self.distribution, "batch_shape", ())))

    def quantiles(self, positions: Positions, dtype: DType, ops: Ops) -> Array:
        del dtype
        xp, p = positions.xp, positions.p
        if not _is_torch_object(p, "Tensor"):
            raise TypeError(
                f"target_quantiles={self.distribution!r} is a torch distribution and maps torch "
                "tensors only; use a named target or a SciPy distribution for other arrays."
            )
        is_unbounded, _, _ = self._ends(p, xp)
        low = xp.where(is_unbounded, self.clamp, xp.zeros_like(p))
        p = xp.maximum(xp.minimum(p, 1.0 - low), low)
        values = self.distribution.icdf(p)
        _check_values(values, p, self.distribution, xp)
        return as_widest_real(values, xp, ops)

    def probabilities(self, x: Array, xp: Namespace, ops: Ops) -> Array:
        wide = as_widest_real(x, xp, ops)
        p = self.distribution.cdf(wide)
        is_unbounded, first, last = self._ends(wide, xp)
        return xp.where(is_unbounded, with_clamped_ends(p, x, first, last, xp), p)

    def _ends(self, like: Array, xp: Namespace) -> tuple[Array, Array, Array]:
        """Whether an end is infinite, and the quantiles of the clamp."""
        probabilities = [0.0, self.clamp, 0.5, 1.0 - self.clamp, 1.0]
        at = xp.asarray(probabilities, dtype=like.dtype, device=like.device)
        least, first, middle, last, greatest = self.distribution.icdf(at)
        is_unbounded = xp.isinf(least) | xp.isinf(greatest)
        if not _has_two_bounds(self.distribution):
            # An infinite one may be rounded to a number, as tan(π/2) is, which lies far beyond.
            is_far_below = middle - least > FAR * (middle - first)
            is_far_above = greatest - middle > FAR * (last - middle)
            is_unbounded = is_unbounded | is_far_below | is_far_above
        return is_unbounded, first, last


@final
@dataclass(frozen=True)
class SciPyDistributionTarget(Target):
    """A SciPy distribution, frozen or new, or anything else with `ppf` or `icdf` on NumPy arrays.

    Its quantiles are made by NumPy, which knows how many values a group has and no value.
    """

    is_namespace_bound: ClassVar[bool] = False

    distribution: HostDistribution
    clamp: float = DEFAULT_CLAMP
    ppf: Callable[..., Any] = field(init=False, repr=False, compare=False)
    is_unbounded: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_clamp(self.clamp)
        ppf = getattr(self.distribution, "ppf", None) or getattr(self.distribution, "icdf", None)
        object.__setattr__(self, "ppf", ppf)
        try:
            median = self.ppf(np.asarray([0.5]))
            _check_is_one(self.distribution, np.size(median))
            ends = np.asarray([self.ppf(np.asarray([0.0, 1.0])), *self._support()])
        except TypeError as error:
            raise TypeError(
                f"target_quantiles={self.distribution!r} does not say its quantiles ({error}); "
                "give the distribution its parameters first, as in scipy.stats.gamma(2.0)."
            ) from error
        if np.any(np.isnan(median)):
            raise ValueError(
                f"target_quantiles={self.distribution!r} has the median {median}; give it "
                "parameters that it is defined for."
            )
        object.__setattr__(self, "is_unbounded", bool(np.any(np.isinf(ends))))

    def _support(self) -> list[Any]:
        """Its ends, if it says them; the quantiles at 0 and 1 may be some that SciPy found."""
        has_support = hasattr(self.distribution, "support")
        return [self.distribution.support()] if has_support else []  # type: ignore[attr-defined]  # asked

    def quantiles(self, positions: Positions, dtype: DType, ops: Ops) -> Array:
        del dtype
        p = positions.p
        if self.is_unbounded:
            p = np.clip(p, self.clamp, 1.0 - self.clamp)
        values = self.ppf(p)
        _check_values(values, p, self.distribution, positions.xp)
        for ends in self._support():
            values = np.clip(values, *ends)  # not so at 0, where discrete
        return as_widest_real(values, positions.xp, ops)

    def probabilities(self, x: Array, xp: Namespace, ops: Ops) -> Array:
        p = self.distribution.cdf(as_widest_real(x, xp, ops))
        if not self.is_unbounded:
            return p
        first, last = self.ppf(np.asarray([self.clamp, 1.0 - self.clamp]))
        return with_clamped_ends(p, x, np.asarray(first), np.asarray(last), xp)


def _has_two_bounds(distribution: object) -> bool:
    """Whether a torch distribution says so."""
    try:
        support = getattr(distribution, "support", None)
    except NotImplementedError:
        return False
    return hasattr(support, "lower_bound") and hasattr(support, "upper_bound")


def _check_is_one(distribution: object, count: int) -> None:
    if count != 1:
        raise ValueError(
            f"target_quantiles={distribution!r} is {count} distributions at once; give one that "
            "serves all groups, or give a layer a sequence of them, one a group."
        )


def _check_values(values: Array, p: Array, source: object, xp: Namespace) -> None:
    shape = p.shape
    if not (isinstance(values, type(p)) or _is_array_of(values, xp)):
        raise TypeError(
            f"target_quantiles={source!r} returned {type(values).__name__}; "
            "it must return an array of the same library as the probabilities that it is given."
        )
    if tuple(values.shape) != tuple(shape):
        raise ValueError(
            f"target_quantiles={source!r} returned shape {tuple(values.shape)} for probabilities "
            f"of shape {tuple(shape)}; it must return one value for each, and so serve all groups."
        )
    if not xp.isdtype(values.dtype, "real floating"):
        raise TypeError(
            f"target_quantiles={source!r} returned dtype {values.dtype} for probabilities of "
            f"shape {tuple(shape)}; it must return a real floating-point dtype."
        )


def _is_array_of(values: object, xp: Namespace) -> bool:
    return compat.is_array_api_obj(values) and compat.array_namespace(values) is xp


def as_target(  # noqa: PLR0911 (one return a kind of target)
    target_quantiles: object, positions: object = "linear"
) -> Target:
    """The target that `target_quantiles` names or is.

    Raises
    ------
    TypeError
        If it is nothing that says Q: a device, a dtype, a bool.
    ValueError
        If it is a name that is not known, or a reference sample that is empty, not 1-D or not
        finite.
    """
    if isinstance(target_quantiles, Target):
        return target_quantiles
    if isinstance(target_quantiles, str):
        return _named_target(target_quantiles)
    if _is_torch_object(target_quantiles, "device"):
        raise TypeError(_device_message(target_quantiles))
    if _is_torch_object(target_quantiles, "nn", "Module"):
        return CallableTarget(target_quantiles)  # type: ignore[arg-type]  # a Module is callable
    if _is_torch_object(target_quantiles, "distributions", "Distribution"):
        return _torch_distribution_target(target_quantiles)
    if is_array(target_quantiles):
        return reference_target(target_quantiles, positions)
    if hasattr(target_quantiles, "ppf") or hasattr(target_quantiles, "icdf"):
        return SciPyDistributionTarget(target_quantiles)  # type: ignore[arg-type]  # asked above
    if callable(target_quantiles) and not isinstance(target_quantiles, type):
        return CallableTarget(target_quantiles)
    if isinstance(target_quantiles, bool):
        raise TypeError(
            f"target_quantiles={target_quantiles} is a bool; torch's norms have bias in its place, "
            f"which is passed by keyword: bias={target_quantiles}."
        )
    raise TypeError(
        f"target_quantiles={target_quantiles!r} says no quantile function; use one of "
        f"{sorted(NAMED_TARGETS)}, a callable from probabilities to values, a SciPy or torch "
        "distribution, or a 1-D reference sample as an array, as numpy.asarray(values)."
    )


def _torch_distribution_target(distribution: Any) -> TorchDistributionTarget:
    torch = sys.modules["torch"]
    if type(distribution).icdf is torch.distributions.Distribution.icdf:
        raise TypeError(
            f"target_quantiles={distribution!r} has no icdf in torch; use a SciPy distribution, "
            "a callable or a reference sample."
        )
    return TorchDistributionTarget(distribution)


def _named_target(name: str) -> Target:
    if name in NAMED_TARGETS:
        return NAMED_TARGETS[name]
    if name.partition(":")[0] in {"cpu", "cuda", "mps", "xpu", "meta", "gpu"}:
        raise TypeError(_device_message(name))
    raise ValueError(f"target_quantiles={name!r} is not known; use one of {sorted(NAMED_TARGETS)}.")


def _device_message(device: object) -> str:
    return (
        f"target_quantiles={device!r} is a device, not a target; "
        "pass it by keyword, as device=..., and the target as target_quantiles=..."
    )


def _is_torch_object(value: object, *path: str) -> bool:
    """Whether value is an instance of ``torch.<path>``, without importing torch to find out."""
    found: object = sys.modules.get("torch")
    for name in path:
        found = getattr(found, name, None)
    return isinstance(found, type) and isinstance(value, found)
