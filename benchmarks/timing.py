"""Ratios of times on a noisy machine: interleaved repetitions, medians of each side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

TURN = 0.02  # seconds that a side works on before the next one's turn


def interleaved_medians(
    sides: Mapping[str, Callable[[], object]], *, seconds: float = 3.0, least: int = 5
) -> dict[str, float]:
    """The median time of each side in seconds, all sides taking turns.

    The first call of a turn is not timed: threads of OpenMP spin for some milliseconds after their
    work, and a side would be charged for what the one before it has left running.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for work in sides.values():
        work()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < least:
        for name, work in sides.items():
            work()
            turn_ends = time.perf_counter() + TURN
            while True:
                start = time.perf_counter()
                work()
                now = time.perf_counter()
                times[name].append(now - start)
                if now > turn_ends:
                    break
    return {name: statistics.median(each) for name, each in times.items()}
