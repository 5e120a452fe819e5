"""The examples of the README and of the pages run, and its commands are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_python_examples():
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    scope = {}
    for block in blocks("python"):
        exec(block, scope)


@pytest.mark.parametrize("page", ["torch.md", "transformer.md"])
def test_examples_of_pages(page, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)  # where they write files
    scope = {}
    for block in blocks("python", (ROOT / "docs" / page).read_text()):
        exec(block, scope)


def test_no_page_has_examples_that_do_not_run():
    pages = {
        path.name for path in (ROOT / "docs").glob("*.md") if blocks("python", path.read_text())
    }
    assert pages == {"torch.md", "transformer.md"}


def test_the_first_commands_are_the_demo_and_the_tests():
    demo, tests = blocks("bash")[:2]
    assert demo.splitlines()[-1] == "groupmap demo"
    assert tests.splitlines()[-1].startswith("python -m pytest")


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).parent.parent / target).exists(), target
