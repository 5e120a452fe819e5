"""torch layers that replace torch's norms, one for one, and what belongs to them."""

from __future__ import annotations

from groupmap.nn._replacing import ConversionReport
from groupmap.nn.batch import BatchMap, BatchMap1d, BatchMap2d, BatchMap3d
from groupmap.nn.convert import convert_norms, revert_norms
from groupmap.nn.frozen import FrozenMap
from groupmap.nn.group import GroupMap, Map
from groupmap.nn.instance import InstanceMap, InstanceMap1d, InstanceMap2d, InstanceMap3d
from groupmap.nn.layer import LayerMap
from groupmap.nn.monotone import MonotoneQuantile
from groupmap.nn.sync import SyncBatchMap

__all__ = [
    "BatchMap",
    "BatchMap1d",
    "BatchMap2d",
    "BatchMap3d",
    "ConversionReport",
    "FrozenMap",
    "GroupMap",
    "InstanceMap",
    "InstanceMap1d",
    "InstanceMap2d",
    "InstanceMap3d",
    "LayerMap",
    "Map",
    "MonotoneQuantile",
    "SyncBatchMap",
    "convert_norms",
    "revert_norms",
]
