"""What passes back through the map: estimates of dL/dx from dL/dy.

The map itself is piecewise constant in each entry, so its own derivative is 0 almost everywhere;
`gradient` names the estimate that stands for it. A new estimate is one function and one row here.
"""

from __future__ import annotations

from collections.abc import Callable

from groupmap._typing import Array, Namespace

VectorJacobianProduct = Callable[..., Array]


def straight_through(
    x: Array, y: Array, missing: Array | None, grad: Array, xp: Namespace
) -> Array:
    """dL/dx = dL/dy, as if y were x; 0 where x is missing.

    References
    ----------
    Zhang, Y. et al. (2022). Exact feature distribution matching for arbitrary style transfer and
    domain generalization. CVPR.
    """
    del x, y
    return grad if missing is None else xp.where(missing, xp.zeros_like(grad), grad)


GRADIENTS: dict[str | None, VectorJacobianProduct | None] = {
    None: None,
    "straight_through": straight_through,
}


def check_gradient(gradient: object) -> str | None:
    """`gradient` itself, if it is the name of an estimate or None."""
    if gradient is None or (isinstance(gradient, str) and gradient in GRADIENTS):
        return gradient
    raise ValueError(f"gradient={gradient!r} is not known; use one of {list(GRADIENTS)}.")
