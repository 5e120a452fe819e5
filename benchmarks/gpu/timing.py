"""How long works take on a device, taking turns, and how much memory they take besides."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping

import torch

from benchmarks.gpu.contenders import Contender
from benchmarks.gpu.failures import in_a_line

MOST_TURNS = 200
SPAN = 5e-3  # of one turn, at least: short works are called several times in a row
MOST_CALLS = 2000

# Starts timing; gives a function that waits for the end and says the seconds.
Timer = Callable[[Callable[[], object]], Callable[[], float]]


def by_events(work: Callable[[], object]) -> Callable[[], float]:
    """The time between two events on the device; the host does not wait in between."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()

    def seconds() -> float:
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    return seconds


def by_the_wall(work: Callable[[], object]) -> Callable[[], float]:
    """The time on the host until the device has done everything."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    elapsed = time.perf_counter() - start
    return lambda: elapsed


class Turn:
    """A contender's calls in a row. What comes out is kept as long as the inputs rotate, so that
    results rotate through memory, too."""

    def __init__(self, contender: Contender) -> None:
        self.work = contender.work
        self.inputs = itertools.cycle(contender.inputs)
        self.kept: deque[object] = deque(maxlen=len(contender.inputs))
        self.calls = len(contender.inputs) + 2  # to warm up

    def __call__(self) -> None:
        for _ in range(self.calls):
            self.kept.append(self.work(next(self.inputs)))

    def settle(self, timed: Timer) -> None:
        """Warm up, and find out how many calls a turn needs."""
        self()
        self.calls = 3
        a_call = timed(self)() / self.calls
        self.calls = min(max(1, round(SPAN / max(a_call, 1e-9))), MOST_CALLS)


def interleaved_medians(
    contenders: Mapping[str, Contender], timed: Timer, *, seconds: float, least: int
) -> tuple[dict[str, float], dict[str, str]]:
    """The median time of a call, all contenders taking turns; and what went wrong with others.

    Who has had his share of the time, and turns enough, leaves the rest to the quicker ones.
    """
    turns, failures = {}, {}
    for name, contender in contenders.items():
        turn = Turn(contender)
        try:
            turn.settle(timed)
        except Exception as error:  # a peer without a kernel must not end the run
            failures[name] = in_a_line(error)
        else:
            turns[name] = turn
    times: dict[str, list[float]] = {name: [] for name in turns}
    spent = dict.fromkeys(turns, 0.0)
    while due := [
        name
        for name in turns
        if len(times[name]) < least
        or (spent[name] < seconds / len(turns) and len(times[name]) < MOST_TURNS)
    ]:
        readings = {name: timed(turns[name]) for name in due}
        for name, reading in readings.items():
            elapsed = reading()
            spent[name] += elapsed
            times[name].append(elapsed / turns[name].calls)
    return {name: statistics.median(each) for name, each in times.items()}, failures


def extra_memory(contender: Contender) -> float:
    """By how much a call raises the peak of torch's memory, less its result, in inputs."""
    x = contender.inputs[0]
    contender.work(x)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    y = contender.work(x)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before - y.nbytes) / x.nbytes
