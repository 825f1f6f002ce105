"""What the documents say of the code is so."""

import re
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


@pytest.mark.parametrize("page", [ROOT / "README.md", *(ROOT / "docs").glob("*.md")], ids=str)
def test_links_between_the_documents_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"
