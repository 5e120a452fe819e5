"""Rows that miss values, taken out from among those that do not, and put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from groupmap._typing import Array, Namespace
from groupmap.backends import Ops


@final
@dataclass(frozen=True)
class RowsApart:
    """Which rows ``(..., n)`` miss values, where some do and some do not."""

    index: Array
    """The incomplete rows, among all of them laid end to end."""

    place: Array
    """For each row its place among the incomplete ones; 0 for the others."""

    is_incomplete: Array
    xp: Namespace

    @classmethod
    def found(cls, missing: Array | None, xp: Namespace, ops: Ops) -> RowsApart | None:
        """None where all rows are alike, or where the host cannot look at them."""
        if missing is None or missing.ndim == 1 or not ops.can_read(missing):
            return None
        is_incomplete = xp.any(missing, axis=-1, keepdims=True)
        try:
            on_host = np.reshape(ops.to_host(is_incomplete), (-1,))
        except (TypeError, RuntimeError):  # another device, of a library that keeps it to itself
            return None
        index = np.flatnonzero(on_host)
        if len(index) in (0, len(on_host)):
            return None
        on = ops.device(missing)
        place = np.cumsum(on_host) - 1
        return cls(
            xp.asarray(index, device=on),
            xp.asarray(np.maximum(place, 0), device=on),
            is_incomplete,
            xp,
        )

    def taken(self, rows: Array | None) -> Array | None:
        """The incomplete ones of the rows, ``(r, n)``."""
        if rows is None:
            return None
        return self.xp.take(self._end_to_end(rows), self.index, axis=0)

    def put(self, incomplete: Array, rows: Array) -> Array:
        """The rows, with those in place of the incomplete ones."""
        xp = self.xp
        return xp.where(
            self.is_incomplete,
            xp.reshape(xp.take(incomplete, self.place, axis=0), rows.shape),
            rows,
        )

    def _end_to_end(self, rows: Array) -> Array:
        return self.xp.reshape(rows, (-1, rows.shape[-1]))
