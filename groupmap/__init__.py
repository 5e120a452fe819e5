"""groupmap: make data follow a distribution, by the increasing rearrangement y = Q(F(x))·γ + β."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from groupmap.functional import (
    group_map,
    instance_map,
    layer_map,
    match_quantiles,
    normalize_quantiles,
    quantile_map,
)
from groupmap.targets import cauchy, gaussian, laplace, logistic, sparse, uniform

if TYPE_CHECKING:
    from groupmap.cdf import EmpiricalCDF
    from groupmap.nn import (
        GroupMap,
        InstanceMap,
        InstanceMap1d,
        InstanceMap2d,
        InstanceMap3d,
        LayerMap,
        Map,
    )
    from groupmap.transformer import GroupMapTransformer

__version__ = "0.2.0"

__all__ = [
    "EmpiricalCDF",
    "GroupMap",
    "GroupMapTransformer",
    "InstanceMap",
    "InstanceMap1d",
    "InstanceMap2d",
    "InstanceMap3d",
    "LayerMap",
    "Map",
    "cauchy",
    "gaussian",
    "group_map",
    "instance_map",
    "laplace",
    "layer_map",
    "logistic",
    "match_quantiles",
    "normalize_quantiles",
    "quantile_map",
    "sparse",
    "uniform",
]
