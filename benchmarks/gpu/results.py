"""What a case came to: medians, ratios, which goals are reached, and what failed."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.gpu.cases import Case
from benchmarks.gpu.contenders import PEERS, Setting
from benchmarks.gpu.failures import in_a_line
from benchmarks.gpu.goals import Goal
from benchmarks.gpu.timing import by_events, by_the_wall, extra_memory, interleaved_medians


@dataclass
class Result:
    """What a case came to; times in seconds, memory in inputs."""

    case: Case
    medians: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    memory: float | None = None

    base: str = ""
    """The contender by which the others are divided."""

    @property
    def ours(self) -> float | None:
        """The time of the first contender; None where it failed."""
        return self.medians.get(self.base)

    @property
    def has_failed(self) -> bool:
        """Whether something of ours failed."""
        return bool(set(self.failures) - PEERS)

    @property
    def ratios(self) -> dict[str, float]:
        """How many times ours the others take."""
        ours = self.ours
        if ours is None:
            return {}
        return {name: each / ours for name, each in self.medians.items() if name != self.base}

    def goals(self) -> list[tuple[Goal, float, bool]]:
        """The goals that can be judged, what was measured, and whether they are reached."""
        ratios = self.ratios
        return [
            (goal, ratios[goal.of], goal.is_reached(ratios[goal.of]))
            for goal in self.case.goals
            if goal.of in ratios
        ]

    def as_json(self) -> dict[str, object]:
        """Everything, for a file."""
        return {
            "case": self.case.name,
            "elements": self.case.elements,
            "medians": self.medians,
            "ratios": self.ratios,
            "goals": [
                {"of": goal.of, "goal": str(goal), "measured": ratio, "reached": reached}
                for goal, ratio, reached in self.goals()
            ],
            "extra memory, in inputs": self.memory,
            "failures": self.failures,
        }


def measure(case: Case, setting: Setting, *, seconds: float, least: int) -> Result:
    """One case; what goes wrong is in the result, so that the others are still measured."""
    result = Result(case)
    try:
        contenders = case.contenders(setting)
        result.base = next(iter(contenders))
        timed = by_the_wall if case.is_host_bound else by_events
        result.medians, result.failures = interleaved_medians(
            contenders, timed, seconds=seconds, least=least
        )
        if case.has_memory and result.ours is not None:
            result.memory = extra_memory(contenders["ours"])
    except Exception as error:
        result.failures["the case"] = in_a_line(error)
    return result
