"""The command, in its own process: what it prints, writes and returns."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import groupmap as gm


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "groupmap", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def data(tmp_path, rng):
    x = rng.normal(size=(2, 6, 5))
    np.save(tmp_path / "in.npy", x)
    return x


def test_map_groups(tmp_path, data):
    done = run("map", "in.npy", "out.npy", "--target", "uniform", "--groups", "3", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "out.npy: float64 (2, 6, 5), uniform" in done.stdout
    expected = gm.group_map(data, 3, target_quantiles="uniform")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def test_map_axes_positions_and_ties(tmp_path, data):
    options = ("--axis", "0", "2", "--positions", "hazen", "--ties", "max")
    assert run("map", "in.npy", "in.npy", *options, cwd=tmp_path).returncode == 0
    expected = gm.quantile_map(data, axis=(0, 2), positions="hazen", ties="max")
    np.testing.assert_array_equal(np.load(tmp_path / "in.npy"), expected)


def test_map_all_axes(tmp_path, data):
    assert run("map", "in.npy", "out.npy", "--axis", "all", cwd=tmp_path).returncode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), gm.quantile_map(data, axis=None))


def test_files_behind_axes_are_told_apart(tmp_path):
    done = run("map", "--axis", "1", "in.npy", "out.npy", cwd=tmp_path)
    assert_one_line(done, "'in.npy' is no axis", "IN and OUT before the options")


def assert_one_line(done, *texts):
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    for text in texts:
        assert text in done.stderr


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    "damage",
    ["truncated", "empty", "pickled", "text", "absent", "folder", "huge", "endless", "header"],
)
def test_bad_files(tmp_path, damage):
    path = tmp_path / "in.npy"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "pickled":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif damage == "text":
        path.write_text("1 2 3")
    elif damage in {"huge", "endless", "header"}:
        shape = {"huge": f"(1{15 * '0'},)", "endless": f"(1{30 * '0'},)", "header": "(("}[damage]
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".encode()
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    else:
        path.unlink()
    if damage == "folder":
        path.mkdir()
    before = sorted(tmp_path.iterdir())
    assert_one_line(run("map", "in.npy", "out.npy", cwd=tmp_path), "in.npy")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--groups", "4"), "num_channels (6) must be divisible by num_groups (4)"),
        (("--groups", "0"), "num_groups=0"),
        (("--groups", "x"), "--groups"),
        (("--axis", "7"), "axis=7"),
        (("--axis", "all", "1"), "leave the others out"),
        (("--target", "normall"), "normall"),
        (("--ties", "random"), "random"),
        (("--groups", "2", "--axis", "1"), "not allowed with"),
    ],
)
def test_bad_options(tmp_path, options, text):
    assert_one_line(run("map", "in.npy", "out.npy", *options, cwd=tmp_path), text)
    assert not (tmp_path / "out.npy").exists()


def test_a_number_has_no_axes(tmp_path):
    np.save(tmp_path / "in.npy", np.array(3.0))
    assert_one_line(run("map", "in.npy", "out.npy", cwd=tmp_path), "in.npy", "--axis all")


def test_bad_numbers(tmp_path):
    np.save(tmp_path / "in.npy", np.array(["a", "b"]))
    assert_one_line(run("map", "in.npy", "out.npy", cwd=tmp_path), "in.npy", "<U1")


@pytest.mark.usefixtures("data")
def test_a_place_that_cannot_be_written(tmp_path):
    assert_one_line(run("map", "in.npy", "absent/out.npy", cwd=tmp_path), "absent/out.npy")


def test_without_a_command(tmp_path):
    assert_one_line(run(cwd=tmp_path), "command")
    assert run("--help", cwd=tmp_path).returncode == 0
    assert gm.__version__ in run("--version", cwd=tmp_path).stdout


def test_demo(tmp_path):
    for module in ("matplotlib", "rich", "sklearn", "PIL"):
        pytest.importorskip(module)
    done = run("demo", "--output", "picture.png", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("gaussian", "uniform", "sparse", "match flower.jpg", "KS before", "KS after"):
        assert word in done.stdout
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


def test_the_demo_writes_a_png(tmp_path):
    done = run("demo", "--output", tmp_path / "demo.pdf", cwd=tmp_path)
    assert done.returncode == 2
    assert "the picture is a PNG; name it demo.png" in done.stderr
    assert not list(tmp_path.iterdir())


def test_demo_where_it_cannot_write(tmp_path):
    pytest.importorskip("matplotlib")
    done = run("demo", "--output", "absent/picture.png", cwd=tmp_path)
    assert_one_line(done, "absent/picture.png")
