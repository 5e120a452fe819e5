"""Draw the README's picture: ``python docs/draw.py``."""

from pathlib import Path

import groupmap as gm
from groupmap.demo import PIXELS, photographs
from groupmap.files import written_whole
from groupmap.plots import BeforeAndAfter, draw_before_and_after

if __name__ == "__main__":
    china, flower = photographs()
    pairs = [
        BeforeAndAfter("to a normal distribution", china, gm.quantile_map(china, axis=PIXELS)),
        BeforeAndAfter(
            "to a uniform distribution", china, gm.quantile_map(china, "uniform", axis=PIXELS)
        ),
        BeforeAndAfter("to flower.jpg", china, gm.match_quantiles(china, flower, axis=PIXELS)),
    ]
    with written_whole(Path(__file__).parent / "images" / "demo.png") as file:
        draw_before_and_after(pairs, file, dpi=64)
