"""torch layers that replace GroupNorm, LayerNorm and InstanceNorm, one for one."""

from __future__ import annotations

from groupmap.nn.frozen import FrozenMap
from groupmap.nn.group import GroupMap, Map
from groupmap.nn.instance import InstanceMap, InstanceMap1d, InstanceMap2d, InstanceMap3d
from groupmap.nn.layer import LayerMap

__all__ = [
    "FrozenMap",
    "GroupMap",
    "InstanceMap",
    "InstanceMap1d",
    "InstanceMap2d",
    "InstanceMap3d",
    "LayerMap",
    "Map",
]
