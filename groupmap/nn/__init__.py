"""torch layers that replace GroupNorm, LayerNorm and InstanceNorm, one for one."""

from __future__ import annotations

from groupmap.nn.modules import (
    GroupMap,
    InstanceMap,
    InstanceMap1d,
    InstanceMap2d,
    InstanceMap3d,
    LayerMap,
    Map,
)

__all__ = [
    "GroupMap",
    "InstanceMap",
    "InstanceMap1d",
    "InstanceMap2d",
    "InstanceMap3d",
    "LayerMap",
    "Map",
]
