"""Nested tensors, whose samples differ in one length."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def map_samples(function: Callable[[Tensor], Tensor], x: Tensor, trailing: int) -> Tensor:
    """A function of the last `trailing` axes, of each sample by itself."""
    if x.layout != torch.jagged:
        return torch.nested.as_nested_tensor([function(sample) for sample in x.unbind()])
    ragged: int = x._ragged_idx  # type: ignore[attr-defined]  # of jagged ones; there is no other way
    if x.ndim - trailing <= ragged:
        raise NotImplementedError(
            f"input is ragged along axis {ragged} of {x.ndim}, and the last {trailing} are mapped "
            "together; layers take only the axes behind the ragged one. Pad it, as with "
            "torch.nested.to_padded_tensor(input, 0.0), and pass the mask of its entries as where."
        )
    offsets, lengths = x.offsets(), x.lengths()  # type: ignore[attr-defined]  # of jagged ones
    return torch.nested.nested_tensor_from_jagged(
        function(x.values()), offsets, lengths, jagged_dim=ragged
    )


def refuse_nested(x: Tensor) -> None:
    """An error for layers whose groups go across the axis that differs."""
    if x.is_nested:
        raise NotImplementedError(
            "input is a nested tensor, of which layers take only the axes behind the ragged one, "
            "as LayerMap does. Pad it, as with torch.nested.to_padded_tensor(input, 0.0), and "
            "pass the mask of its entries as where."
        )
