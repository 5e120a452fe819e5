"""The cases, one function each: what is compared, as functions to be timed in turns.

In each of them "ours" comes first, and what it is divided into next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

import groupmap as gm
from benchmarks.textbook import textbook_numpy, textbook_torch

Sides = dict[str, Callable[[], object]]

# (name, shape, groups); None: the last axis
LAYERS: tuple[tuple[str, tuple[int, ...], int | None], ...] = (
    ("GroupMap", (16, 64, 56, 56), 8),
    ("GroupMap", (32, 256, 14, 14), 32),
    ("GroupMap", (8, 512, 7, 7), 32),
    ("GroupMap", (32, 512, 7, 7), 512),  # rows of 49, as InstanceMap has them
    ("LayerMap", (64, 128, 768), None),
    ("LayerMap", (8, 1_000_000), None),
)
NUMPY_SHAPES = ((1024, 1568), (8192, 768), (512, 4096), (128, 25088), (32, 65536), (8, 1_000_000))
TABLES = ((20_000, 200), (200_000, 20), (2000, 2000))
ZEROS = (  # as behind a ReLU, and as in counts of rare events
    ((8192, 768), 0.5), ((128, 25088), 0.5), ((128, 25088), 0.95), ((8, 1_000_000), 0.95)
)  # fmt: skip
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def forwards() -> Iterator[tuple[str, Sides]]:
    """Layers under no_grad: ours, the textbook and the norm, and what a sort and a copy take."""
    for name, shape, groups in LAYERS:
        for dtype in DTYPES:
            x = torch.randn(shape).to(dtype)
            if groups is None:
                layer, norm = gm.LayerMap(shape[-1]), nn.LayerNorm(shape[-1])
                rows, parameters = x.reshape(-1, shape[-1]), (shape[-1],)
            else:
                layer, norm = gm.GroupMap(groups, shape[1]), nn.GroupNorm(groups, shape[1])
                rows = x.reshape(shape[0] * groups, -1)
                parameters = (1, shape[1], 1, 1)
            layer, norm = layer.to(dtype), norm.to(dtype)
            weight, bias = (each.reshape(parameters) for each in (layer.weight, layer.bias))
            sides: Sides = {
                "ours": lambda x=x, layer=layer: layer(x),
                "textbook torch": lambda x=x, rows=rows, w=weight, b=bias: (
                    textbook_torch(rows).reshape(x.shape) * w + b
                ),
                "torch's norm": lambda x=x, norm=norm: norm(x),
                "copy": lambda x=x: x.clone(),
            }
            if dtype != torch.bfloat16:
                array = rows.numpy()
                sides["np.sort"] = lambda array=array: np.sort(array, axis=-1)
            yield f"{name} {shape}" + (f", {groups} groups" if groups else "") + _of(dtype), sides


def _of(dtype: torch.dtype) -> str:
    return f", {str(dtype).removeprefix('torch.')}"


def arrays() -> Iterator[tuple[str, Sides]]:
    """`quantile_map` on NumPy arrays, with Numba and without."""
    from groupmap.backends import kernels

    def without_kernels(x: np.ndarray) -> np.ndarray:
        installed, kernels.INSTALLED = kernels.INSTALLED, False
        try:
            return gm.quantile_map(x)
        finally:
            kernels.INSTALLED = installed

    for shape in NUMPY_SHAPES:
        for dtype in (np.float32, np.float64):
            x = np.random.default_rng(0).normal(size=shape).astype(dtype)
            yield (
                f"quantile_map {shape}, NumPy {np.dtype(dtype)}",
                {
                    "ours": lambda x=x: gm.quantile_map(x),
                    "textbook NumPy": lambda x=x: textbook_numpy(x),
                    "np.sort": lambda x=x: np.sort(x, axis=-1),
                },
            )
            yield (
                f"the same without Numba, {np.dtype(dtype)}",
                {
                    "ours": lambda x=x: without_kernels(x),
                    "textbook NumPy": lambda x=x: textbook_numpy(x),
                },
            )


def tables() -> Iterator[tuple[str, Sides]]:
    """`quantile_map` of the columns of a table, whose entries lie apart."""
    for shape in TABLES:
        for dtype in (np.float32, np.float64):
            x = np.random.default_rng(0).normal(size=shape).astype(dtype)
            rows = np.ascontiguousarray(x.T)
            yield (
                f"quantile_map {shape} along axis 0, {np.dtype(dtype)}",
                {
                    "ours": lambda x=x: gm.quantile_map(x, axis=0),
                    "textbook NumPy": lambda x=x: textbook_numpy(x.T).T,
                    "rows that lie together": lambda rows=rows: gm.quantile_map(rows, axis=1),
                    "np.sort": lambda x=x: np.sort(x, axis=0),
                },
            )


def zeros() -> Iterator[tuple[str, Sides]]:
    """`quantile_map` on rows in which many values are zero."""
    rng = np.random.default_rng(0)
    for shape, share in ZEROS:
        x = rng.normal(size=shape).astype(np.float32)
        x[rng.random(size=shape) < share] = 0
        yield (
            f"quantile_map {shape}, {share:.0%} zeros",
            {
                "ours": lambda x=x: gm.quantile_map(x),
                "textbook NumPy": lambda x=x: textbook_numpy(x),
                "np.sort": lambda x=x: np.sort(x, axis=-1),
            },
        )


def backwards() -> Iterator[tuple[str, Sides]]:
    """dL/dx alone, beside the textbook's forward and beside all of LayerNorm."""
    for shape in ((1024, 256), (256, 1024), (64, 4096), (16, 25088), (4, 262_144)):
        x = torch.randn(shape)

        def layer_norm(x: torch.Tensor = x, n: int = shape[-1]) -> None:
            leaf = x.detach().requires_grad_()
            nn.functional.layer_norm(leaf, (n,)).backward(x)

        for mode, name, other in (
            ("transport", "textbook torch, forward", lambda x=x: textbook_torch(x)),
            ("affine", "LayerNorm, both ways", layer_norm),
        ):
            leaf = x.detach().requires_grad_()
            y = gm.quantile_map(leaf, gradient=mode)
            yield (
                f"backward, {mode}, {shape[0]} × {shape[1]}",
                {
                    "ours": lambda y=y, leaf=leaf, x=x: torch.autograd.grad(
                        y, leaf, x, retain_graph=True
                    ),
                    name: other,
                },
            )


def transformers() -> Iterator[tuple[str, Sides]]:
    """A table of 200 000 × 20 with 1000 knots, beside scikit-learn."""
    from sklearn.preprocessing import QuantileTransformer

    X = np.random.default_rng(0).normal(size=(200_000, 20))
    for target, theirs in (("uniform", "uniform"), ("gaussian", "normal")):
        ours = gm.GroupMapTransformer(target_quantiles=target, n_quantiles=1000).fit(X)
        peer = QuantileTransformer(
            n_quantiles=1000, output_distribution=theirs, subsample=None
        ).fit(X)
        Y = peer.transform(X)
        for name, mine, its in (
            ("fit", lambda o=ours: o.fit(X), lambda p=peer: p.fit(X)),
            ("transform", lambda o=ours: o.transform(X), lambda p=peer: p.transform(X)),
            (
                "inverse_transform",
                lambda o=ours, Y=Y: o.inverse_transform(Y),
                lambda p=peer, Y=Y: p.inverse_transform(Y),
            ),
        ):
            yield f"{name}, 200 000 × 20, {target}", {"ours": mine, "QuantileTransformer": its}
        single, peers = X.astype(np.float32), Y.astype(np.float32)
        of_single = gm.GroupMapTransformer(target_quantiles=target, n_quantiles=1000).fit(single)
        for name, narrow, wide in (
            (
                "transform",
                lambda o=of_single, x=single: o.transform(x),
                lambda o=ours: o.transform(X),
            ),
            (
                "inverse_transform",
                lambda o=of_single, y=peers: o.inverse_transform(y),
                lambda o=ours, Y=Y: o.inverse_transform(Y),
            ),
        ):
            sides = {"ours": narrow, "ours, float64": wide}
            yield f"{name}, 200 000 × 20, {target}, float32", sides


def wide_tables() -> Iterator[tuple[str, Sides]]:
    """More features than samples, as with genes, beside scikit-learn."""
    from sklearn.preprocessing import QuantileTransformer

    X = np.random.default_rng(0).gamma(2.0, size=(500, 8000))
    ours = gm.GroupMapTransformer(target_quantiles="gaussian", n_quantiles=500).fit(X)
    peer = QuantileTransformer(n_quantiles=500, output_distribution="normal").fit(X)
    Y = peer.transform(X)
    for name, mine, its in (
        ("fit", lambda: ours.fit(X), lambda: peer.fit(X)),
        ("transform", lambda: ours.transform(X), lambda: peer.transform(X)),
        (
            "inverse_transform",
            lambda: ours.inverse_transform(Y),
            lambda: peer.inverse_transform(Y),
        ),
    ):
        yield f"{name}, 500 × 8000, gaussian", {"ours": mine, "QuantileTransformer": its}


def _sorted_channels(image: np.ndarray) -> np.ndarray:
    return np.sort(image.reshape(-1, image.shape[-1]), axis=0)


def _channels(*images: np.ndarray) -> list[np.ndarray]:
    """Each of them by itself, its values side by side."""
    return [
        np.ascontiguousarray(image[..., channel]).reshape(-1)
        for image in images
        for channel in range(image.shape[-1])
    ]


def _photographs() -> list[np.ndarray]:
    """Two of scikit-learn's, repeated to (1024, 1024, 3); a value is one of 256."""
    from sklearn.datasets import load_sample_image

    names = ("china.jpg", "flower.jpg")
    return [np.tile(load_sample_image(name), (3, 2, 1))[:1024, :1024].copy() for name in names]


def matching() -> Iterator[tuple[str, Sides]]:
    """Images and tables, beside the libraries that people take for them."""
    rng = np.random.default_rng(0)
    with contextlib.suppress(ImportError):
        from skimage.exposure import match_histograms

        noise = [rng.normal(size=(1024, 1024, 3)).astype(np.float32) for _ in "ir"]
        pool = ThreadPoolExecutor(torch.get_num_threads())
        for name, (image, reference) in (
            ("normal draws", noise),
            ("photographs, float32", [each / np.float32(255) for each in _photographs()]),
            ("photographs, float64", [each / 255 for each in _photographs()]),
            ("photographs, uint8", _photographs()),
        ):
            rows = _channels(image, reference)
            yield (
                f"match_quantiles (1024, 1024, 3), {name}",
                {
                    "ours": lambda x=image, y=reference: gm.match_quantiles(x, y, axis=(0, 1)),
                    "match_histograms": lambda x=image, y=reference: match_histograms(
                        x, y, channel_axis=-1
                    ),
                    "np.sort of both": lambda x=image, y=reference: [
                        _sorted_channels(each) for each in (x, y)
                    ],
                    # What is left when nothing is read from an image, ranked or written to one.
                    "np.sort of channels on all threads": lambda rows=rows: list(
                        pool.map(np.sort, rows)
                    ),
                },
            )
    with contextlib.suppress(ImportError):
        import qnorm

        table = rng.gamma(2.0, size=(20_000, 200))
        yield (
            "normalize_quantiles 20 000 × 200",
            {
                "ours": lambda: gm.normalize_quantiles(table, axis=0),
                "qnorm": lambda: qnorm.quantile_normalize(table),
                "np.sort, twice": lambda: [np.sort(table, axis=0) for _ in range(2)],
            },
        )
    from scipy.stats import rankdata

    x = rng.normal(size=(256, 4096)).astype(np.float32)
    yield (
        "ranks of 256 × 4096",
        {
            "ours": lambda: gm.quantile_map(x, "uniform"),
            "rankdata": lambda: rankdata(x, axis=-1),
        },
    )


KINDS = {
    "forward": forwards,
    "arrays": arrays,
    "tables": tables,
    "zeros": zeros,
    "backward": backwards,
    "transformer": transformers,
    "wide": wide_tables,
    "matching": matching,
}
