"""Which of torch's operations the layers use: all of them, or those that tracing is at home in."""

from __future__ import annotations

import array_api_compat.torch as xp_torch
import torch

from groupmap._typing import Namespace
from groupmap.backends import Ops, torch_portable
from groupmap.backends.torch import OPS


def libraries() -> tuple[Namespace, Ops]:
    """The namespace and the primitives that serve this call."""
    if torch.compiler.is_exporting():
        return torch_portable.XP, torch_portable.OPS
    if torch.compiler.is_compiling():
        return torch_portable.TRACED_XP, OPS
    return xp_torch, OPS
