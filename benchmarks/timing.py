"""Ratios of times on a noisy machine: interleaved repetitions, medians of each side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved_medians(
    sides: Mapping[str, Callable[[], object]], *, seconds: float = 3.0, least: int = 5
) -> dict[str, float]:
    """The median time of each side in seconds, all sides taking turns."""
    for work in sides.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in sides}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < least:
        for name, work in sides.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in times.items()}
