"""A promise: what torch.compile makes of a layer comes to eager's values."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import groupmap as gm
from benchmarks.gpu.failures import BrokenPromiseError
from benchmarks.gpu.layer_checks import both_ways, with_nan

# Not float64, in which it shows that compiled code has Q from torch: as accurate as eager's, but
# some last places differ, and more of them in the transport gradient, of which differences of Q
# are factors.
COMPILED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST_ULPS = 4.0
RESULTS = ("y", "the gradient to x", "that to the weight", "that to the bias")


def check_compiled(dtype: torch.dtype, device: str = "cuda") -> str:
    """Compiled in one piece, both passes come to eager's values but for a few last places."""
    torch.compiler.reset()
    layer = gm.GroupMap(4, 64, device=device, dtype=dtype)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    compiled = torch.compile(layer, fullgraph=True)
    x = torch.randn(2, 64, 14, 14, device=device).to(dtype)
    greatest = 0.0
    for kind, values in (("", x), (", NaN in the input", with_nan(x))):
        grad = torch.randn_like(values)
        found, expected = (both_ways(each, values, grad) for each in (compiled, layer))
        for name, ours, eagers in zip(RESULTS, found, expected, strict=True):
            apart = ulps_apart(ours, eagers)
            if not apart <= MOST_ULPS:
                raise BrokenPromiseError(f"{name}{kind}: {apart:.3g} ulp from eager's")
            greatest = max(greatest, apart)
    return f"forward and backward, at most {greatest:.2g} ulp of the greatest from eager's"


def ulps_apart(found: Tensor, expected: Tensor) -> float:
    """How far some are from others, in units in the last place of the greatest of these.

    ∞ where one of two is not finite, and the other something else.
    """
    is_same = (found == expected) | (found.isnan() & expected.isnan())
    if bool(is_same.all()):
        return 0.0
    a, b = found.double(), expected.double()
    distance = (a - b).abs().masked_fill(is_same, 0.0).nan_to_num(nan=torch.inf, posinf=torch.inf)
    greatest = float(b.nan_to_num(0.0, 0.0, 0.0).abs().max())
    about = torch.finfo(expected.dtype)
    _, exponent = math.frexp(max(greatest, about.tiny))
    return float(distance.max()) / math.ldexp(about.eps, exponent - 1)
