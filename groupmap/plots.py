"""Pictures of what a map does: images and histograms, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from groupmap._typing import Array

CHANNEL_COLOURS = ("tab:red", "tab:green", "tab:blue")
INK = "#333333"


@dataclass(frozen=True)
class BeforeAndAfter:
    """One map of an image ``(H, W, 3)``."""

    title: str
    before: Array
    after: Array


def draw_before_and_after(
    pairs: Sequence[BeforeAndAfter], file: IO[bytes], *, dpi: int = 100
) -> None:
    """Write a PNG with one row a map: image and histogram before, image and histogram after."""
    figure = Figure(figsize=(13, 2.6 * len(pairs)), layout="constrained")
    axes = figure.subplots(len(pairs), 4, width_ratios=(1.2, 1, 1.2, 1), squeeze=False)
    for row, pair in zip(axes, pairs, strict=True):
        _show_image(row[0], pair.before, "before")
        _show_histogram(row[1], pair.before)
        _show_image(row[2], pair.after, pair.title)
        _show_histogram(row[3], pair.after)
    figure.savefig(file, format="png", dpi=dpi)


def _show_image(axes: Axes, image: Array, title: str) -> None:
    low, high = np.nanmin(image), np.nanmax(image)
    axes.imshow((image - low) / (high - low if high > low else 1.0))
    axes.set_title(title, color=INK, fontsize=11)
    axes.set_axis_off()


def _show_histogram(axes: Axes, image: Array) -> None:
    low, high = np.nanmin(image), np.nanmax(image)
    for channel, colour in enumerate(CHANNEL_COLOURS):
        values = image[..., channel].ravel()
        axes.hist(
            values, bins=64, range=(low, high), density=True, histtype="stepfilled",
            color=colour, alpha=0.3,
        )  # fmt: skip
        axes.hist(values, bins=64, range=(low, high), density=True, histtype="step", color=colour)
    if _is_peaked(image):
        axes.set_yscale("log")
        axes.set_ylabel("log scale", color=INK, fontsize=8)
    axes.set_yticks([])
    axes.minorticks_off()
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)


def _is_peaked(image: Array) -> bool:
    """Whether so much lies in one bin that a linear axis would show nothing else."""
    counts, _ = np.histogram(image, bins=64)
    return bool(counts.max() > 0.5 * counts.sum())
