"""Which primitives an array library has: native where they are better, else the standard's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module

import array_api_compat as compat

from groupmap._typing import Array, Namespace
from groupmap.backends._ops import Ops

__all__ = ["Ops", "namespace_and_ops", "ops_for"]

# (whose namespace it is, the module that has its primitives); a library in no row is generic.
_REGISTRY: tuple[tuple[Callable[[Namespace], bool], str], ...] = (
    (compat.is_numpy_namespace, "numpy"),
    (compat.is_torch_namespace, "torch"),
    (compat.is_cupy_namespace, "cupy"),
    (compat.is_jax_namespace, "jax"),
    (compat.is_dask_namespace, "dask"),
)


@cache
def ops_for(xp: Namespace) -> Ops:
    """The primitives for the arrays of namespace `xp`."""
    name = next((name for is_ours, name in _REGISTRY if is_ours(xp)), "generic")
    ops: Ops = import_module(f"groupmap.backends.{name}").OPS
    return ops


def namespace_and_ops(x: Array, *others: Array | None) -> tuple[Namespace, Ops]:
    """The one namespace of all arrays, and its primitives; None among the others does not count.

    Raises
    ------
    TypeError
        If an argument is no array of a supported library, or two libraries are mixed.
    """
    given = [x, *(array for array in others if array is not None)]
    for array in given:
        if not compat.is_array_api_obj(array):
            raise TypeError(
                f"{type(array).__name__} is not a supported array type; "
                "pass an array, for instance numpy.asarray(x)."
            )
    try:
        xp = compat.array_namespace(*given)
    except TypeError:
        libraries = sorted({type(array).__module__.partition(".")[0] for array in given})
        raise TypeError(
            f"the arrays come from different libraries ({', '.join(libraries)}) and must use the "
            "same namespace; convert one of them first, for instance with torch.from_numpy(a), "
            "t.numpy(force=True) or cupy.asarray(a)."
        ) from None
    return xp, ops_for(xp)
