"""groupmap: make data follow a distribution, by the increasing rearrangement y = Q(F(x))·γ + β."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from groupmap.functional import (
    group_map,
    instance_map,
    layer_map,
    quantile_map,
)
from groupmap.matching import match_quantiles, normalize_quantiles
from groupmap.targets import cauchy, gaussian, laplace, logistic, sparse, uniform

if TYPE_CHECKING:
    from groupmap import nn
    from groupmap.cdf import EmpiricalCDF
    from groupmap.nn import (
        BatchMap,
        BatchMap1d,
        BatchMap2d,
        BatchMap3d,
        GroupMap,
        InstanceMap,
        InstanceMap1d,
        InstanceMap2d,
        InstanceMap3d,
        LayerMap,
        Map,
        SyncBatchMap,
    )
    from groupmap.table_functions import quantile_transform
    from groupmap.transformer import GroupMapTransformer

__version__ = "0.2.0"

__all__ = [
    "BatchMap",
    "BatchMap1d",
    "BatchMap2d",
    "BatchMap3d",
    "EmpiricalCDF",
    "GroupMap",
    "GroupMapTransformer",
    "InstanceMap",
    "InstanceMap1d",
    "InstanceMap2d",
    "InstanceMap3d",
    "LayerMap",
    "Map",
    "SyncBatchMap",
    "cauchy",
    "gaussian",
    "group_map",
    "instance_map",
    "laplace",
    "layer_map",
    "logistic",
    "match_quantiles",
    "nn",
    "normalize_quantiles",
    "quantile_map",
    "quantile_transform",
    "sparse",
    "uniform",
]

# What is loaded on first use: the module that has it, and the extra that brings what it needs.
_ON_FIRST_USE: dict[str, tuple[str, str | None]] = {
    "BatchMap": ("groupmap.nn", "torch"),
    "BatchMap1d": ("groupmap.nn", "torch"),
    "BatchMap2d": ("groupmap.nn", "torch"),
    "BatchMap3d": ("groupmap.nn", "torch"),
    "EmpiricalCDF": ("groupmap.cdf", None),
    "GroupMap": ("groupmap.nn", "torch"),
    "GroupMapTransformer": ("groupmap.transformer", "sklearn"),
    "InstanceMap": ("groupmap.nn", "torch"),
    "InstanceMap1d": ("groupmap.nn", "torch"),
    "InstanceMap2d": ("groupmap.nn", "torch"),
    "InstanceMap3d": ("groupmap.nn", "torch"),
    "LayerMap": ("groupmap.nn", "torch"),
    "Map": ("groupmap.nn", "torch"),
    "SyncBatchMap": ("groupmap.nn", "torch"),
    "nn": ("groupmap.nn", "torch"),
    "quantile_transform": ("groupmap.table_functions", "sklearn"),
}


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _ON_FIRST_USE[name]
    try:
        found = import_module(module)
        value = found if module == f"groupmap.{name}" else getattr(found, name)
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "").partition(".")[0] != extra:
            raise
        raise ModuleNotFoundError(
            f"groupmap.{name} needs {extra}, which is not installed; "
            f"run: pip install 'groupmap[{extra}]'",
            name=error.name,
        ) from None
    globals()[name] = value
    return value


# help(), completion and a star ask for every name: of those whose library is absent nothing is
# said until one of them is asked for.
_EXTRAS = {extra for _, extra in _ON_FIRST_USE.values() if extra is not None}
_ABSENT = {
    extra
    for extra in _EXTRAS
    if (sys.modules[extra] if extra in sys.modules else find_spec(extra)) is None
}
__all__ = [name for name in __all__ if _ON_FIRST_USE.get(name, ("", None))[1] not in _ABSENT]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
