"""`benchmarks.gpu` as far as it goes without a GPU: its cases, its table, and what it says."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

import benchmarks.gpu.__main__ as gpu
import groupmap as gm
from benchmarks.gpu import (
    checks,
    compiled_checks,
    layer_checks,
    rank_checks,
    timing,
)
from benchmarks.gpu import (
    environment as gpu_environment,
)
from benchmarks.gpu import (
    results as gpu_results,
)
from benchmarks.gpu.cases import Case, all_cases
from benchmarks.gpu.contenders import PEERS, Contender, Setting
from benchmarks.gpu.failures import BrokenPromiseError
from benchmarks.gpu.goals import Goal, goals_of_rows
from tests.backends import no_kernels

SMALL = Setting(device="cpu", shrink=2**11)
CASES = all_cases()


@pytest.fixture(autouse=True)
def on_one_core_without_numba():
    """What these tests show needs neither threads nor kernels, which wait for others' and load."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with no_kernels():
        yield
    torch.set_num_threads(threads)


def by_the_host(work):
    """A timer as the benchmark's own, without a device to wait for."""
    start = time.perf_counter()
    work()
    elapsed = time.perf_counter() - start
    return lambda: elapsed


def named(*parts):
    return next(each for each in CASES if all(part in each.name for part in parts))


def printed(results):
    console = Console(width=gpu.WIDTH)
    with console.capture() as capture:
        console.print(gpu.table_of(results, "made up"))
    return capture.get()


def test_help(monkeypatch, capsys):
    """As ``python -m benchmarks.gpu --help``."""
    monkeypatch.delitem(sys.modules, "benchmarks.gpu.__main__")
    monkeypatch.setattr(sys, "argv", ["gpu", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("benchmarks.gpu", run_name="__main__")
    said = capsys.readouterr().out
    for option in ("--only", "--quick", "--json", "--check"):
        assert option in said


@pytest.mark.parametrize("arguments", [[], ["--check"], ["--quick", "--only", "rows"]], ids=str)
def test_without_a_gpu_it_says_so(arguments, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(arguments) == 2
    said = capsys.readouterr()
    assert said.err == f"{gpu.NO_GPU}\n"
    assert said.out == ""


def test_names_are_unique():
    assert len({each.name for each in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_small_inputs(case):
    """Every case makes its contenders; ours are in front, and all goals are of some of them."""
    contenders = case.contenders(SMALL)
    ours, *others = contenders
    assert ours not in PEERS
    assert others
    missing = {goal.of for goal in case.goals} - set(contenders)
    assert missing <= {"CuPy"}
    for each in contenders.values():
        assert each.inputs


@pytest.mark.parametrize(
    "parts",
    [
        ("GroupMap (256, 512", "bfloat16"),
        ("rows of 1024", "float32"),
        ("ties", "4096, float32"),
        ("backward, affine", "256, float32"),
        ("backward, transport", "1024, bfloat16"),
        ("wall time", "LayerMap"),
    ],
    ids=str,
)
def test_small_runs(parts):
    """A measurement with the host's clock: all contenders work, and give what they should."""
    case = named(*parts)
    contenders = case.contenders(SMALL)
    medians, failures = timing.interleaved_medians(contenders, by_the_host, seconds=0.0, least=2)
    assert failures == {}
    assert list(medians) == list(contenders)
    assert all(seconds > 0.0 for seconds in medians.values())
    for work, inputs in contenders.values():
        y, x = work(inputs[0]), inputs[0]
        if isinstance(y, torch.Tensor):
            assert (y.shape, y.dtype) == (x.shape, x.dtype)
            assert not y.requires_grad


def test_the_worst_input():
    x = named("ties, rows of 1024, float32").contenders(SMALL)["adversarial"].inputs[0]
    neighbours = x[:, 1:].sort(dim=-1).values
    assert bool((x[:, 0] == 1e30).all())
    assert bool((neighbours.diff(dim=-1) <= 2.0**-22).all())
    assert bool((neighbours.diff(dim=-1) > 0.0).all())


def test_buffers_outgrow_the_cache():
    make = torch.ones(1000).clone
    assert len(Setting(cache_bytes=10_000).buffers(make)) == 3
    assert len(Setting(cache_bytes=3000).buffers(make)) == 1
    assert len(Setting(cache_bytes=0).buffers(make)) == 1


def test_inputs_rotate():
    seen = []
    turn = timing.Turn(Contender(seen.append, ["a", "b", "c"]))
    turn()
    assert seen == ["a", "b", "c", "a", "b"]


def test_a_failing_peer_leaves_the_others():
    def fail(_):
        raise RuntimeError("no kernel\nand more")

    contenders = {"ours": Contender(abs, [1]), "CuPy": Contender(fail, [1])}
    medians, failures = timing.interleaved_medians(contenders, by_the_host, seconds=0.0, least=1)
    assert list(medians) == ["ours"]
    assert failures == {"CuPy": "RuntimeError: no kernel"}


def test_a_case_that_cannot_be_made_is_a_failure_of_ours():
    def fail(_):
        raise MemoryError("too large")

    result = gpu_results.measure(Case("large", 1, fail), SMALL, seconds=0.0, least=1)
    assert result.failures == {"the case": "MemoryError: too large"}
    assert result.has_failed
    assert "the case failed" in printed([result])


def test_a_run(monkeypatch, tmp_path, capsys):
    """From the options to the table, the device's part made up."""
    monkeypatch.setattr(gpu, "first_calls", lambda: {"from the disk cache": {"forward": 0.1}})
    monkeypatch.setattr(gpu, "gpu_environment", lambda: {"gpu": "made up"})
    monkeypatch.setattr(gpu, "summary", str)
    monkeypatch.setattr(gpu_results, "by_events", by_the_host)
    monkeypatch.setattr(gpu_results, "extra_memory", lambda contender: 0.0)
    monkeypatch.setattr(gpu, "Setting", lambda cache_bytes: SMALL)
    monkeypatch.setattr(gpu, "SECONDS", 0.01)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(L2_cache_size=1)
    )
    file = tmp_path / "found.json"
    assert gpu.main(["--only", "rows of 512, float32", "--quick", "--json", str(file)]) == 0
    assert "rows of 512, float32" in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert list(written) == ["environment", "first call, in seconds", "results"]
    assert [each["case"] for each in written["results"]] == ["rows of 512, float32"]


@pytest.mark.parametrize(
    ("dtype", "n", "bounds"),
    [
        (torch.float32, 256, [12.0, 0.15]),
        (torch.float32, 3136, [6.0, 0.15]),
        (torch.float32, 8192, []),
        (torch.float32, 25_088, [8.0, 0.11]),
        (torch.float32, 1_000_000, [2.8, 0.08]),
        (torch.bfloat16, 64, [5.0, 0.10]),
        (torch.float16, 32_768, [12.0, 0.19]),
        (torch.float64, 1024, []),
    ],
)
def test_goals(dtype, n, bounds):
    assert [goal.bound for goal in goals_of_rows(dtype, n)] == [*bounds, 20.0]


def made_up():
    """Results as a run would have them, in seconds."""
    goals = (Goal("textbook", 6.0), Goal("copy", 0.15), Goal("CuPy", 20.0))
    case = Case("rows of 1024, float32", 2**26, lambda _: {}, goals, has_memory=True)
    tied = Case("ties", 2**26, lambda _: {}, (Goal("half zeros", 1.5, at_most=True),))
    return [
        gpu_results.Result(
            case,
            {"ours": 1e-3, "textbook": 7e-3, "copy": 1e-4},
            {"CuPy": "no kernel"},
            0.03,
            "ours",
        ),
        gpu_results.Result(tied, {"Gaussian": 1e-3, "half zeros": 1.2e-3}, base="Gaussian"),
        gpu_results.Result(
            tied, {"half zeros": 1.2e-3}, {"Gaussian": "illegal access"}, base="Gaussian"
        ),
    ]


def test_table():
    text = printed(made_up())
    for part in (
        "1.0000", "67.11", "7 (≥ 6: yes)", "0.1 (≥ 0.15: no)", "3.0%", "CuPy failed",
        "half zeros 1.2 (≤ 1.5: yes)", "Gaussian failed",
    ):  # fmt: skip
        assert part in text


def test_notes():
    first = {
        "compiled from nothing": {"forward": 1.25, "then both ways": 0.5},
        "from the disk cache": "no output",
    }
    notes = gpu.notes_on(made_up(), first)
    assert notes == [
        "goals reached: 2 of 3",
        "missed: rows of 1024, float32: copy 0.1, goal ≥ 0.15",
        "first call, compiled from nothing: forward 1.25 s, then both ways 0.50 s",
        "first call, from the disk cache: failed: no output",
        "failed: rows of 1024, float32: CuPy: no kernel",
        "failed: ties: Gaussian: illegal access",
    ]


def test_a_failing_peer_is_no_failure_of_ours():
    assert [each.has_failed for each in made_up()] == [False, False, True]


def test_json():
    first, _, failed = (json.loads(json.dumps(each.as_json())) for each in made_up())
    assert first["ratios"] == {"textbook": 7.0, "copy": 0.1}
    assert [goal["reached"] for goal in first["goals"]] == [True, False]
    assert failed["ratios"] == {}


def test_summary():
    about = {
        "date": "2026-01-01", "gpu": "a GPU", "driver": "1.2", "packages": {"torch": "2.13.0"},
        "cuda.core": "1.0", "kernels": False,
    }  # fmt: skip
    assert gpu_environment.summary(about) == (
        "2026-01-01; a GPU, driver 1.2; torch 2.13.0, cupy –, cuda.core 1.0, NVRTC –, cuml –, "
        "without the kernels: cuda.core is not installed"
    )


@pytest.mark.parametrize("dtype", rank_checks.RANK_DTYPES)
def test_rank_inputs(dtype):
    """What ranks are checked on is of that dtype, has ties, and no NaN."""
    rows = rank_checks.rank_inputs(dtype, 100)
    assert rows.dtype == getattr(torch, dtype)
    assert not bool(rows.double().isnan().any())
    assert len(rows[-1].double().unique()) == 1


def test_checks_pass_where_they_can_run(monkeypatch):
    monkeypatch.setattr(rank_checks, "RANK_LENGTHS", (1, 2, 33, 1000))
    monkeypatch.setattr(layer_checks, "CHECKED_LENGTHS", (256, 1024))
    monkeypatch.setattr(layer_checks, "MOST_CHECKED", 2**12)
    for dtype in rank_checks.RANK_DTYPES:
        assert rank_checks.check_ranks("torch", dtype, device="cpu") == "4 lengths to 1000"
    for gradient in layer_checks.CHECKED_GRADIENTS:
        assert "five runs" in layer_checks.check_repetition(gradient, torch.float32, device="cpu")


def test_checks_fail_where_they_should(monkeypatch):
    counts = iter([[np.zeros(3), np.ones(3)], [np.zeros(3), np.arange(3)]])
    monkeypatch.setattr(rank_checks, "_counted", lambda rows: next(counts))
    with pytest.raises(BrokenPromiseError, match="n = 1: 2 counts of ≤ differ"):
        rank_checks.check_ranks("torch", "float32", device="cpu")


def test_passes():
    """Both are checked of rows of every length, and give the same result."""
    layer, x = gm.LayerMap(256), torch.randn(3, 256)
    passes = layer_checks.passes_of(layer, torch.ones_like(x))
    assert list(passes) == ["forward", "both ways"]
    (y,) = passes["forward"](x)
    y_both, *gradients = passes["both ways"](x)
    assert not y.requires_grad
    torch.testing.assert_close(y, y_both, rtol=1e-6, atol=1e-6)
    assert [each.shape for each in gradients] == [x.shape, (256,), (256,)]


@pytest.mark.parametrize("dtype", compiled_checks.COMPILED_DTYPES, ids=str)
def test_compiled_code_is_held_against_eager_code(dtype, monkeypatch):
    """Nothing is compiled here: the layer itself keeps the promise, one of other positions not."""
    monkeypatch.setattr(torch, "compile", lambda layer, fullgraph: layer)
    assert "at most 0 ulp" in compiled_checks.check_compiled(dtype, "cpu")
    other = gm.GroupMap(4, 64, positions="weibull", dtype=dtype)
    monkeypatch.setattr(torch, "compile", lambda layer, fullgraph: other)
    with pytest.raises(BrokenPromiseError, match="ulp from eager's"):
        compiled_checks.check_compiled(dtype, "cpu")


@pytest.mark.parametrize(
    ("found", "expected", "ulps"),
    [
        ([1.0, 0.5], [1.0, 0.5], 0.0),
        ([1.5 + 2.0**-22, 0.5], [1.5, 0.5], 2.0),
        ([1.5, 0.5 + 2.0**-23], [1.5, 0.5], 1.0),
        ([torch.nan, torch.inf], [torch.nan, torch.inf], 0.0),
        ([torch.nan, 1.0], [0.0, 1.0], torch.inf),
        ([torch.inf, 1.0], [1.0, 1.0], torch.inf),
        ([torch.inf, 1.0], [-torch.inf, 1.0], torch.inf),
        ([0.0, 2.0**-149], [0.0, 0.0], 1.0),
    ],
    ids=str,
)
def test_ulps(found, expected, ulps):
    apart = compiled_checks.ulps_apart(torch.tensor(found), torch.tensor(expected))
    assert apart == ulps


def test_lines_of_checks(monkeypatch, capsys):
    def broken():
        raise BrokenPromiseError("rows of 7")

    listed = [("one", lambda: "fine"), ("two", broken), ("other", broken)]
    monkeypatch.setattr(checks, "all_checks", lambda: iter(listed))
    monkeypatch.setattr(checks, "by_hand", lambda: iter([("a tool", "do"), ("it", "not")]))
    monkeypatch.setattr(checks, "tidy", lambda: None)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)
    assert checks.run_checks("o") == 1
    assert capsys.readouterr().out == (
        "PASS  one: fine\nFAIL  two: rows of 7\nFAIL  other: rows of 7\n"
        "TO RUN BY HAND  a tool: do\n"
    )
    assert checks.run_checks("one") == 0


def test_the_sanitizer_is_named_where_it_is(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert list(checks.by_hand()) == []
    monkeypatch.setattr(shutil, "which", lambda name: name)
    commands = dict(checks.by_hand())
    assert list(commands) == ["compute-sanitizer, memcheck", "compute-sanitizer, racecheck"]
    for command in commands.values():
        assert "python -m benchmarks.gpu --check --only 'the same bits" in command
    assert any(checks.SANITIZED in name for name, _ in checks.all_checks())


def test_every_check_has_a_name_of_its_own():
    names = [name for name, _ in checks.all_checks()]
    assert len(set(names)) == len(names)
    for promise in (
        "ranks", "extra memory", "compiled", "same bits", "no host synchronisation", "CUDA graphs",
    ):  # fmt: skip
        assert any(promise in each for each in names)
