"""Names for the types that no library shares: arrays and namespaces are known by what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

# The array API standard defines behaviour and no base class, so there is nothing narrower to name.
Array = Any
Namespace = Any
DType = Any
RandomSource = Any

# From #(values < x) and #(values ≤ x) to the doubled mid-rank of x.
TieRule = Callable[[Array, Array], Array]
Side = Literal["left", "right"]
