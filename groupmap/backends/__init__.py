"""Which primitives an array library has: native where they are better, else the standard's own."""

from __future__ import annotations

import array_api_compat as compat

from groupmap._typing import Array, Namespace
from groupmap.backends._ops import Ask, Formula, Kind, Kinds, MapWanted, Ops, Scale, TieRule

__all__ = [
    "Ask",
    "Formula",
    "Kind",
    "Kinds",
    "MapWanted",
    "Ops",
    "Scale",
    "TieRule",
    "is_array",
    "namespace_and_ops",
    "ops_for",
]


def ops_for(xp: Namespace) -> Ops:
    """The primitives for the arrays of namespace `xp`; a library without its own is generic."""
    # Statements, which torch.compile follows, as it does not follow importlib.
    if compat.is_numpy_namespace(xp):
        from groupmap.backends.numpy import OPS
    elif compat.is_torch_namespace(xp):
        from groupmap.backends.torch import OPS
    elif compat.is_cupy_namespace(xp):
        from groupmap.backends.cupy import OPS
    elif compat.is_jax_namespace(xp):
        from groupmap.backends.jax import OPS
    elif compat.is_dask_namespace(xp):
        from groupmap.backends.dask import OPS
    else:
        from groupmap.backends.generic import OPS
    return OPS


def is_array(value: object) -> bool:
    """Whether a value is an array of some library: no class of arrays, and no text, which NumPy's
    strings are besides being scalars."""
    return compat.is_array_api_obj(value) and not isinstance(value, (type, str, bytes))


# How to make an array of a library from another one; what to write is in the error's remedy.
_CONVERSIONS = {
    "numpy": "numpy.asarray({name})",
    "torch": "torch.as_tensor({name})",
    "cupy": "cupy.asarray({name})",
    "jax": "jax.numpy.asarray({name})",
    "jaxlib": "jax.numpy.asarray({name})",
    "dask": "dask.array.from_array({name})",
}


def namespace_and_ops(**arrays: Array | None) -> tuple[Namespace, Ops]:
    """The one namespace of the arrays, given by their names, and its primitives.

    The first one decides; None among the others does not count.

    Raises
    ------
    TypeError
        If an argument is no array of a supported library, or two libraries are mixed.
    """
    (first, x), *others = arrays.items()
    _check_array(x, first)
    xp = compat.array_namespace(x)
    ops = ops_for(xp)
    ops.check(x, first)
    for name, array in others:
        if array is None:
            continue
        _check_array(array, name)
        if compat.array_namespace(array) is not xp:
            mine, its = _library(x), _library(array)
            remedy = _CONVERSIONS.get(mine, f"xp.asarray({{name}}), xp being {mine}")
            raise TypeError(
                f"{first} is of {mine} and {name} of {its}, but they must use the same "
                f"namespace; convert one of them, for instance {remedy.format(name=name)}."
            )
        ops.check(array, name)
    return xp, ops


def _check_array(array: object, name: str) -> None:
    if not is_array(array):
        is_sparse = callable(getattr(array, "toarray", None))
        remedy = f"{name}.toarray()" if is_sparse else f"numpy.asarray({name})"
        raise TypeError(
            f"{name} is of type {type(array).__name__}, which is not a supported array type; "
            f"pass an array, for instance {remedy}."
        )


def _library(array: Array) -> str:
    return type(array).__module__.partition(".")[0]
