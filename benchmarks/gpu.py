"""``python -m benchmarks.gpu``: layers on one NVIDIA GPU, beside what people have and a copy.

python -m benchmarks.gpu --only "rows of 1024" --json results.json
python -m benchmarks.gpu --check
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import array_api_compat
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

import groupmap as gm
from benchmarks.environment import environment
from benchmarks.gpu_cases import PEERS, Case, Contender, Goal, Setting, all_cases, recorded
from groupmap.backends import cuda as kernels
from groupmap.backends import ops_for
from groupmap.backends.cuda import programs, ranking

NO_GPU = "benchmarks.gpu needs an NVIDIA GPU that torch can use, and there is none here."
SECONDS = 1.0  # on the device, for a case
LEAST_TURNS = 5
MOST_TURNS = 200
SPAN = 5e-3  # of one turn, at least: short works are called several times in a row
MOST_CALLS = 2000
ALL_IN = 420.0  # seconds from which on no case gets more than its least turns
CACHES = 4  # how many times the second-level cache all inputs are
WIDTH = 190

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
            failures[name] = _in_a_line(error)
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
        result.failures["the case"] = _in_a_line(error)
    return result


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _tidy() -> None:
    """Give back what the last case has left with the allocators."""
    gc.collect()
    with suppress(RuntimeError):  # of a case that has failed already
        torch.cuda.empty_cache()
    if "cupy" in sys.modules:
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()


FIRST_CALL = """
import time, torch, groupmap as gm
layer = gm.LayerMap(1024, device="cuda")
x = torch.randn(4096, 1024, device="cuda", requires_grad=True)
torch.nn.functional.layer_norm(x, (1024,)).backward(x.detach())  # torch's own first call
torch.cuda.synchronize()
for gradients in (False, True):
    start = time.perf_counter()
    with torch.set_grad_enabled(gradients):
        y = layer(x)
    if gradients:
        y.backward(x.detach())
    torch.cuda.synchronize()
    print(time.perf_counter() - start)
"""


def first_calls() -> dict[str, dict[str, float] | str]:
    """What the first calls of a process take: with nothing compiled yet, and with all on disk."""
    found: dict[str, dict[str, float] | str] = {}
    with tempfile.TemporaryDirectory() as empty:
        # Where cuda.core keeps programs, on Linux and on Windows.
        kept_there = os.environ | {"XDG_CACHE_HOME": empty, "LOCALAPPDATA": empty}
        for when in ("compiled from nothing", "from the disk cache"):
            run = subprocess.run(
                [sys.executable, "-c", FIRST_CALL],
                env=kept_there, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if run.returncode:
                found[when] = (run.stderr.strip().splitlines() or ["no output"])[-1]
                continue
            forward, both = map(float, run.stdout.split())
            found[when] = {"forward": forward, "then both ways": both}
    return found


def gpu_environment() -> dict[str, object]:
    """What `environment` says, and the GPU with everything that drives it."""
    found = environment() | {
        "gpu": torch.cuda.get_device_name(),
        "driver": _driver_version(),
        "CUDA of torch": torch.version.cuda,
        "kernels": kernels.INSTALLED,
    }
    with suppress(Exception):
        import cupy

        found["cupy"] = cupy.__version__
    with suppress(Exception):
        from cuda import core

        found["cuda.core"] = core.__version__
    with suppress(Exception):
        from cuda.bindings import nvrtc

        found["NVRTC"] = ".".join(map(str, nvrtc.nvrtcVersion()[1:]))
    with suppress(Exception):
        import cuml

        found["cuml"] = cuml.__version__
    return found


def _driver_version() -> str:
    with suppress(OSError, subprocess.CalledProcessError, IndexError):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.check_output(query, text=True).split()[0]
    with suppress(Exception):
        from cuda.core import system

        return ".".join(map(str, system.get_kernel_mode_driver_version()))
    return "unknown"


def summary(of: Mapping[str, object]) -> str:
    """The same in one line."""
    packages = of["packages"]
    assert isinstance(packages, dict)
    parts = [f"{of['date']}; {of['gpu']}, driver {of['driver']}; torch {packages['torch']}"]
    parts += [f"{each} {of.get(each, '–')}" for each in ("cupy", "cuda.core", "NVRTC", "cuml")]
    if not of["kernels"]:
        parts.append("without the kernels: cuda.core is not installed")
    return ", ".join(parts)


COLUMNS = ("textbook", "copy", "CuPy", "norm", "cuML")


def table_of(results: Iterable[Result], title: str) -> Table:
    """One row a case; what is in no column of its own is named in the last one."""
    table = Table(title=f"{title}\nothers in units of ours; G/s: 10⁹ elements a second of ours")
    table.add_column("case", no_wrap=True)
    for heading in ("ours, ms", "G/s", *COLUMNS, "extra memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("others")
    for each in results:
        cells, ours = _cells(each), each.ours
        others = [f"{name} {cell}" for name, cell in cells.items() if name not in COLUMNS]
        others += [f"{name} failed" for name in each.failures]
        table.add_row(
            each.case.name,
            "–" if ours is None else f"{1e3 * ours:.4f}",
            "–" if ours is None else f"{each.case.elements / ours / 1e9:.2f}",
            *(cells.get(column, "–") for column in COLUMNS),
            "–" if each.memory is None else f"{each.memory:.1%}",
            ", ".join(others),
        )
    return table


def _cells(of: Result) -> dict[str, str]:
    """The ratios, each with its goal."""
    goals = {goal.of: f" ({goal}: {'yes' if reached else 'no'})" for goal, _, reached in of.goals()}
    return {name: f"{ratio:.3g}{goals.get(name, '')}" for name, ratio in of.ratios.items()}


def notes_on(results: Sequence[Result], first: Mapping[str, object]) -> list[str]:
    """What is said below the table."""
    judged = [(each.case.name, *goal) for each in results for goal in each.goals()]
    missed = [each for each in judged if not each[-1]]
    notes = [f"goals reached: {len(judged) - len(missed)} of {len(judged)}"]
    notes += [f"missed: {name}: {of.of} {got:.3g}, goal {of}" for name, of, got, _ in missed]
    for when, found in first.items():
        seconds = (
            ", ".join(f"{name} {each:.2f} s" for name, each in found.items())
            if isinstance(found, Mapping)
            else f"failed: {found}"
        )
        notes.append(f"first call, {when}: {seconds}")
    for each in results:
        for name, reason in each.failures.items():
            notes.append(f"failed: {each.case.name}: {name}: {reason}")
    return notes


def run(options: argparse.Namespace) -> int:
    """The benchmark; 1 if something of ours failed."""
    end = time.perf_counter() + ALL_IN
    chosen = [each for each in all_cases() if options.only in each.name]
    share = 2 if options.quick else 1
    first = first_calls()  # in processes of their own, before this one is on the device
    about = gpu_environment()
    written: dict[str, object] = {"environment": about, "first call, in seconds": first}
    cache = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    setting = Setting(cache_bytes=CACHES * cache)
    torch.manual_seed(0)
    results: list[Result] = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(chosen))
        for done, case in enumerate(chosen):
            progress.update(task, description=case.name)
            left = max(end - time.perf_counter(), 0.0) / (len(chosen) - done)
            seconds = min(SECONDS / share, left)
            results.append(measure(case, setting, seconds=seconds, least=-(-LEAST_TURNS // share)))
            _tidy()
            if options.json:  # after each case, should the run be ended from outside
                written["results"] = [each.as_json() for each in results]
                options.json.write_text(json.dumps(written, indent=1, ensure_ascii=False))
            progress.advance(task)
    console = Console(width=WIDTH)
    console.print(table_of(results, summary(about)))
    for note in notes_on(results, first):
        console.print(note, markup=False, highlight=False)
    return int(any(each.has_failed for each in results))


class BrokenPromiseError(Exception):
    """A promise that is not kept."""


MOST_CHECKED = 2**18  # elements of an input
CHECKED_LENGTHS = (256, 1024, 8192, 32_768, 100_000)  # each for another way to rank
CHECKED_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
CHECKED_GRADIENTS = ("transport", "affine", "straight_through")
RANK_LENGTHS = (
    1, 2, 3, 31, 32, 33, 64, 127, 255, 512, 513, 1000, 2048, 4096, 4097, 8192, 8193, 16_384,
    20_000, 25_088, 32_768, 36_000, 65_535, 65_536, 100_000,
)  # fmt: skip
RANK_DTYPES = (
    "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
MEMORY_LENGTHS = (256, 1024, 4096, 16_384, 32_768)
MOST_EXTRA_MEMORY = 0.1


def _checked_layers(
    gradient: str, dtype: torch.dtype, device: str = "cuda"
) -> dict[str, tuple[nn.Module, Tensor]]:
    """Some layers, and an input for each."""
    where = {"device": device, "dtype": dtype}
    found = {}
    for n in CHECKED_LENGTHS:
        x = torch.randn(min(64, MOST_CHECKED // n), n, device=device).to(dtype)
        found[f"LayerMap({n})"] = gm.LayerMap(n, gradient=gradient, **where), x
    x = torch.randn(8, 64, 14, 14, device=device).to(dtype)
    found["GroupMap(4, 64)"] = gm.GroupMap(4, 64, gradient=gradient, **where), x
    return found


def _with_nan(x: Tensor) -> Tensor:
    """The same with NaN, infinities and ties here and there."""
    x = x.clone()
    flat = x.view(-1)
    flat[::97], flat[5::101], flat[7::103] = torch.nan, torch.inf, -torch.inf
    flat[::3] = flat[::3].round()
    return x


def _both_ways(layer: nn.Module, x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """The result, and all gradients."""
    result = recorded(layer, x, grad)
    return (result.y.detach(), *result.backward())


def _is_same(left: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    """Whether all bits are the same, those of NaN among them."""
    return all(
        torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
        for a, b in zip(left, right, strict=True)
    )


def check_synchronisation(gradient: str, dtype: torch.dtype) -> str:
    """Neither pass waits for the device, whatever the input holds."""
    layers = _checked_layers(gradient, dtype)
    for name, (layer, x) in layers.items():
        for kind, values in (("", x), (", NaN in the input", _with_nan(x))):
            grad = torch.randn_like(values)
            _both_ways(layer, values, grad)
            with torch.no_grad():
                layer(values)
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
            try:
                _both_ways(layer, values, grad)
                with torch.no_grad():
                    layer(values)
            except RuntimeError as error:
                raise BrokenPromiseError(f"{name}{kind}: {_in_a_line(error)}") from error
            finally:
                torch.cuda.set_sync_debug_mode("default")
    return f"{len(layers)} layers"


def check_graphs(gradient: str, dtype: torch.dtype) -> str:
    """What is captured and replayed comes to the same bits as what is called."""
    layers = _checked_layers(gradient, dtype)
    for name, (layer, x) in layers.items():
        static, grad = x.clone(), torch.randn_like(x)

        @torch.no_grad()
        def forward(values: Tensor, layer: nn.Module = layer) -> tuple[Tensor, ...]:
            return (layer(values),)

        def both(values: Tensor, layer: nn.Module = layer, grad: Tensor = grad) -> object:
            return _both_ways(layer, values, grad)

        for passes, work in (("forward", forward), ("both ways", both)):
            # https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    work(static)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                captured = work(static)
            for kind, values in (
                ("the same input", x),
                ("another input", torch.randn_like(x)),
                ("NaN in the input", _with_nan(x)),
            ):
                static.copy_(values)
                graph.replay()
                if not _is_same(captured, work(values)):
                    raise BrokenPromiseError(
                        f"{name}, {passes}, {kind}: other bits than without a graph"
                    )
    return f"{len(layers)} layers, forward and both ways"


def check_repetition(gradient: str, dtype: torch.dtype, device: str = "cuda") -> str:
    """Two runs come to the same bits."""
    layers = _checked_layers(gradient, dtype, device)
    for name, (layer, x) in layers.items():
        for values in (x, x.relu(), _with_nan(x)):
            grad = torch.randn_like(values)
            first = _both_ways(layer, values, grad)
            if not all(_is_same(first, _both_ways(layer, values, grad)) for _ in range(4)):
                raise BrokenPromiseError(f"{name}: other bits in another run")
    return f"{len(layers)} layers, five runs"


def rank_inputs(dtype: str, n: int) -> Tensor:
    """Rows without NaN on the host: plain, tied, of extremes, of neighbours, constant."""
    rng = np.random.default_rng(n)
    of_torch = getattr(torch, dtype)
    if of_torch.is_floating_point:
        about = torch.finfo(of_torch)
        extremes = (0.0, -0.0, np.inf, -np.inf, about.max, about.min, about.tiny, about.tiny / 4)
        neighbours = 1.0 + about.eps * rng.permutation(n)
        neighbours[0] = about.max
        found = [
            rng.normal(size=n), rng.normal(size=n).round(), rng.choice(extremes, n), neighbours,
            np.ones(n),
        ]  # fmt: skip
        return torch.from_numpy(np.stack(found)).to(of_torch)
    range_of = np.iinfo(dtype)
    found = [
        rng.integers(range_of.min, range_of.max, n, dtype=dtype, endpoint=True),
        rng.integers(0, 5, n, dtype=dtype),
        rng.choice(np.array([range_of.min, range_of.max, 0], dtype=dtype), n),
        np.ones(n, dtype=dtype),
    ]
    return torch.from_numpy(np.stack(found))


def check_ranks(library: str, dtype: str, device: str = "cuda") -> str:
    """Numbers of lesser entries, and of those at most equal, as NumPy counts them."""
    for n in RANK_LENGTHS:
        rows = rank_inputs(dtype, n)
        # NumPy has no bfloat16, whose values single precision has.
        on_host = (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()
        expected = _counted(on_host)
        if library == "cupy":
            import cupy

            found = _counted(cupy.asarray(on_host))
        else:
            found = _counted(rows.to(device))
        for relation, ours, numpys in zip("<≤", found, expected, strict=True):
            if not np.array_equal(ours, numpys):
                raise BrokenPromiseError(
                    f"n = {n}: {np.sum(ours != numpys)} counts of {relation} differ"
                )
    return f"{len(RANK_LENGTHS)} lengths to {RANK_LENGTHS[-1]}"


def _counted(rows: Any) -> list[np.ndarray]:
    xp = array_api_compat.array_namespace(rows)
    ops = ops_for(xp)
    counts = ops.count_less(ops.sortable(rows, xp), xp)
    return [np.asarray(ops.to_host(each), dtype=np.int64) for each in counts]


def check_memory(dtype: torch.dtype) -> str:
    """A forward pass takes little besides input and output, where rows fit a block."""
    greatest, lengths = 0.0, []
    for n in MEMORY_LENGTHS:
        x = torch.randn(2**24 // n, n, device="cuda").to(dtype)
        if not ranking.fits(n, programs.numbers_of(dtype), x.device.index, ordered=False):
            continue
        layer = gm.LayerMap(n, device="cuda", dtype=dtype)
        with torch.no_grad():
            extra = extra_memory(Contender(layer, [x]))
        if extra > MOST_EXTRA_MEMORY:
            raise BrokenPromiseError(f"rows of {n}: {extra:.1%} of the input")
        greatest = max(greatest, extra)
        lengths.append(n)
    if not lengths:
        raise BrokenPromiseError("no row fits a block")
    return f"at most {greatest:.1%} of the input, rows of {', '.join(map(str, lengths))}"


def check_kernels() -> str:
    """There are kernels at all: else everything else says nothing of them."""
    if not kernels.INSTALLED:
        raise BrokenPromiseError("cuda.core is not installed; pip install 'groupmap[cuda]'")
    return "installed"


def all_checks() -> Iterator[tuple[str, Callable[[], str]]]:
    """What is promised, by name. Graphs come last: a failed capture may spoil what follows."""
    yield "kernels", check_kernels
    for library in ("torch", "cupy"):
        if find_spec(library):
            for name in RANK_DTYPES:
                if library != "cupy" or name != "bfloat16":
                    yield (
                        f"ranks as NumPy's, {library}, {name}",
                        partial(check_ranks, library, name),
                    )
    for dtype in CHECKED_DTYPES:
        yield f"extra memory, {dtype}", partial(check_memory, dtype)
    for what, check in (
        ("the same bits in every run", check_repetition),
        ("no host synchronisation", check_synchronisation),
        ("CUDA graphs", check_graphs),
    ):
        for gradient, dtype in itertools.product(CHECKED_GRADIENTS, CHECKED_DTYPES):
            yield f"{what}, {gradient}, {dtype}", partial(check, gradient, dtype)


def run_checks(only: str) -> int:
    """A line for each; 1 if one failed."""
    failed = 0
    torch.manual_seed(0)
    for name, check in all_checks():
        if only not in name:
            continue
        try:
            said = f"PASS  {name}: {check()}"
        except BrokenPromiseError as error:
            said = f"FAIL  {name}: {error}"
        except Exception as error:
            said = f"FAIL  {name}: {_in_a_line(error)}"
        failed += said.startswith("FAIL")
        print(said, flush=True)
        _tidy()
    return int(failed > 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0, 1 where something failed, 2 without a GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0].partition(": ")[2]
    )
    parser.add_argument("--only", default="", help="cases, or checks, whose names contain this")
    parser.add_argument("--quick", action="store_true", help="half the repetitions")
    parser.add_argument("--json", type=Path, help="write the medians, the ratios and the machine")
    parser.add_argument(
        "--check", action="store_true", help="what is promised besides speed, in place of times"
    )
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available() or torch.version.cuda is None:
        print(NO_GPU, file=sys.stderr)
        return 2
    if options.check:
        return run_checks(options.only)
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
