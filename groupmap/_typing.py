"""Names for the types that no library shares: arrays and namespaces are known by what they do."""

from __future__ import annotations

from typing import Any, Literal

# The array API standard defines behaviour and no base class, so there is nothing narrower to name.
Array = Any
Namespace = Any
DType = Any
RandomSource = Any

Side = Literal["left", "right"]
