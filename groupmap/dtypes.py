"""What dtype comes in, and which one the arithmetic and the result have."""

from __future__ import annotations

from typing import Literal

import numpy as np

from groupmap._typing import Array, DType, Namespace
from groupmap.backends import Ops


def check_real(x: Array, name: str, xp: Namespace) -> None:
    """Refuse everything that has no order: bool, complex, object, str, datetime, masked arrays."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array of dtype {x.dtype}; pass what counts, {name}.compressed(), "
            f"or, where NaN may stand for the rest, {name}.astype(float).filled(numpy.nan)."
        )
    if x is None:
        raise TypeError(f"{name} is None; pass an array.")
    try:
        is_real = xp.isdtype(x.dtype, ("real floating", "integral"))
    except TypeError as error:  # NumPy does not answer for dtypes that a package adds to its own
        library = xp.__name__.rpartition(".")[2]
        raise TypeError(
            f"{name} has dtype {x.dtype}, which {library} does not know for a real one; convert "
            "it to a dtype of its own, such as float32, first."
        ) from error
    if not is_real:
        is_time = str(x.dtype).startswith(("datetime64", "timedelta64"))
        remedy = "convert it to a real dtype such as float64 first."
        if is_time:
            remedy = (
                "convert it to int64 first, which holds every tick, and leave out what is no time: "
                f"where=~numpy.isnat({name})."
            )
        raise TypeError(
            f"{name} has dtype {x.dtype}, which has no distribution on the real line; {remedy}"
        )


def result_dtype(x: Array, xp: Namespace) -> DType:
    """The dtype of the map of x: its own, or for integers the namespace's default real one."""
    if xp.isdtype(x.dtype, "real floating"):
        return x.dtype
    return default_dtype(xp, "real floating")


def default_dtype(xp: Namespace, kind: Literal["real floating", "integral"]) -> DType:
    """The namespace's default dtype of a kind."""
    return xp.__array_namespace_info__().default_dtypes()[kind]


def at_least_single(dtype: DType, xp: Namespace) -> DType:
    """The dtype itself, or float32 in place of a half precision."""
    return xp.float32 if xp.finfo(dtype).bits < 32 else dtype


def holds_without_rounding(dtype: DType, other: DType, xp: Namespace) -> bool:
    """Whether numbers of the other dtype, met by some of the first, become such."""
    return bool(xp.result_type(dtype, other) == dtype)


def as_widest_real(x: Array, xp: Namespace, ops: Ops) -> Array:
    """X in the widest real dtype of its device."""
    return xp.astype(x, ops.widest_real(x, xp), copy=False)
