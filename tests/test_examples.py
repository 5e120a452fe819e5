"""The examples run, and what they say of a mapped input is so."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="the sdist has no examples")
torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("rich")


@pytest.fixture
def printed_by(monkeypatch, capsys):
    """What a script prints: run in this process, as it takes others longer to import torch."""
    threads = torch.get_num_threads()

    def run(script, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr("sys.argv", [script, *arguments])
            patch.syspath_prepend(EXAMPLES)
            runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return capsys.readouterr().out

    torch.set_num_threads(1)
    yield run
    torch.set_num_threads(threads)


def test_training_on_digits(printed_by):
    options = ("--norm", "GroupNorm", "GroupMap", "--gradient", "transport", "--seeds", "1")
    rows = [line.split() for line in printed_by("train_digits.py", *options).splitlines()]
    accuracy = {
        row[1]: float(row[5]) for row in rows if len(row) > 5 and row[1].startswith("Group")
    }
    assert set(accuracy) == {"GroupNorm", "GroupMap"}
    assert min(accuracy.values()) > 90.0


def test_a_mapped_input_loses_nothing_to_a_monotone_warp(printed_by):
    lines = printed_by("robustness.py", "--seeds", "1").splitlines()
    cells = [[cell.strip() for cell in line.split("│")] for line in lines if "│" in line]
    mapped = [row for row in cells if row[1].startswith("Map, then")]
    assert len(mapped) == 2
    for row in mapped:
        clean, warped = row[2], row[7]
        assert warped == clean


def test_tables(tmp_path, printed_by):
    pytest.importorskip("matplotlib")
    printed_by("tables.py", "--picture", str(tmp_path / "tables.png"))
    assert (tmp_path / "tables.png").read_bytes().startswith(b"\x89PNG")
    lines = printed_by("tables.py", "--data", "wine", "--warp").splitlines()
    rows = [[cell.strip() for cell in line.split("│")] for line in lines if "│" in line]
    assert len(rows) == 2
    for row in rows:
        standardised, mapped = (float(row[at].partition(" ")[0]) for at in (4, 6))
        assert mapped > standardised + 0.05


def test_the_population_table(printed_by):
    assert "modes at ±2, sd 0.05" in printed_by("population.py", "--n", "512", "--seeds", "1")


def cells_of(text):
    return [[cell.strip() for cell in line.split("│")] for line in text.splitlines() if "│" in line]


def test_a_batch_map_needs_no_batch(printed_by):
    """One sample at a time it is within a point of its batches, and of BatchNorm."""
    rows = cells_of(printed_by("replace_norms.py", "evaluation", "--seeds", "1"))
    norm, layer = ([float(cell.partition(" ")[0]) for cell in row[2:5]] for row in rows)
    assert min(norm[0], layer[0]) > 95.0
    assert abs(layer[0] - layer[1]) <= 1.0
    assert abs(layer[0] - layer[2]) <= 1.0
    assert abs(layer[0] - norm[0]) <= 1.0


def test_targets_that_learn(tmp_path, printed_by):
    pytest.importorskip("matplotlib")
    learned = ("learned, from gaussian", "learned, from uniform")
    picture = tmp_path / "targets.png"
    options = ("--targets", *learned, "--seeds", "1", "--picture", str(picture))
    rows = cells_of(printed_by("learned_target.py", *options))
    assert {row[1] for row in rows} == set(learned)
    assert min(float(row[2]) for row in rows) > 90.0
    assert picture.read_bytes().startswith(b"\x89PNG")
