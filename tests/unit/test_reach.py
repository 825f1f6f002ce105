"""What stands outside of the package uses what is public, and reaches into no running bus."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUTSIDE = ["bin", "docs", "handlers", "read_models", "write_models"]
PAGES = [ROOT / "README.md", *(p for folder in OUTSIDE for p in (ROOT / folder).rglob("*"))]
READ = [path for path in PAGES if path.is_file() and path.suffix in ("", ".py", ".md")]


@pytest.mark.parametrize("path", READ, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_outside_reaches_into_a_running_bus(path: Path) -> None:
    assert not re.search(r"(?:\b|_)bus\.(runtime|parts)\b", path.read_text())


def test_pages_and_programs_are_read() -> None:
    assert {"calls.py", "dead-letters.md", "README.md", "worker"} <= {path.name for path in READ}
