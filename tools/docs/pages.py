"""What the site is made of: files of the repository, at the same places to one another."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "docs" / "zensical.toml"
PLACES = ("*.md", "compose.yaml", "docs/**/*.md", "docs/pictures/*", "docs/reference/[!_]*.py")

_TO_PYTHON = re.compile(r"(\]\((?!\w+:)[^)\s#]+\.py)(?=[)#])")


def pages() -> Iterator[tuple[str, bytes]]:
    """Each file's path, and what it holds; examples in Python are pages of their own."""
    for file in sorted(file for place in PLACES for file in ROOT.glob(place)):
        path = file.relative_to(ROOT).as_posix()
        match file.suffix:
            case ".md":
                yield path, _TO_PYTHON.sub(r"\1.md", file.read_text()).encode()
            case ".py":
                yield f"{path}.md", f"# {file.name}\n\n```python\n{file.read_text()}```\n".encode()
            case _:
                yield path, file.read_bytes()


def copy(folder: Path) -> None:
    """Brings the folder up to date with the repository; what has not changed is not touched."""
    files = {folder / "pages" / path: held for path, held in pages()}
    for file in set(folder.glob("pages/**/*.*")) - set(files):
        file.unlink()
    files[folder / CONFIGURATION.name] = CONFIGURATION.read_bytes()
    for file, held in files.items():
        if not file.exists() or file.read_bytes() != held:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(held)
