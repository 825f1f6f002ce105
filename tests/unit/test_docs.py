"""What the documents say of the code is so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()


def named_tests() -> list[tuple[str, str]]:
    return re.findall(r"`(\w+\.py)::(\w+)`", GUARANTEES)


@pytest.mark.parametrize(("file", "name"), named_tests())
def test_a_test_that_proves_a_guarantee_exists(file: str, name: str) -> None:
    (path,) = [*(ROOT / "tests").rglob(file), *(ROOT / "bus" / "testing").rglob(file)]
    assert re.search(rf"\b{name}\b", path.read_text()), f"{path} has no {name}"


def test_every_guarantee_names_a_test() -> None:
    rows = [line for line in GUARANTEES.splitlines() if re.match(r"\| G\d+ \|", line)]
    assert len(rows) == 10
    assert all("::test_" in row or "::Test" in row for row in rows)


def write_files(page: str, folder: Path) -> int:
    """Writes the files that a page shows; returns how many."""
    text = (ROOT / "docs" / page).read_text()
    files = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", text, re.DOTALL)
    for name, content in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return len(files)


def installed(folder: Path) -> Path:
    """A folder that holds `bus` and nothing else of this repository."""
    alone = folder / "installed"
    alone.mkdir()
    (alone / "bus").symlink_to(ROOT / "bus")
    return alone


def test_the_tests_on_the_page_of_testing_pass(tmp_path: Path) -> None:
    write_files("a-service-of-your-own.md", tmp_path)
    assert write_files("testing.md", tmp_path) == 3
    shown = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{installed(tmp_path)}:{tmp_path}"},
        capture_output=True,
        text=True,
    )
    assert "7 passed" in shown.stdout, shown.stdout


def test_the_service_from_nothing_is_built_by_what_the_page_says(tmp_path: Path) -> None:
    assert write_files("a-service-of-your-own.md", tmp_path) == 3
    alone = installed(tmp_path)
    shown = subprocess.run(
        [sys.executable, "-m", "bus", "topology", "handlers.app:build"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(alone)},
        capture_output=True,
        text=True,
    )
    assert "bank.balances\n    bank.events: account.#" in shown.stdout, shown.stderr


@pytest.mark.parametrize("page", [ROOT / "README.md", *(ROOT / "docs").glob("*.md")], ids=str)
def test_links_between_the_documents_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"
