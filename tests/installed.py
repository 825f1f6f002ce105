"""Doubledecker as it is installed, and nothing else of this repository."""

from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]


def installed(folder: Path) -> Path:
    """A folder that holds what a wheel would: packages, modules and entry points."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    alone = folder / "installed"
    alone.mkdir()
    (alone / "bus").symlink_to(ROOT / "bus")
    for module in setup["options"]["py_modules"].split():
        (alone / f"{module}.py").symlink_to(ROOT / f"{module}.py")
    points = "".join(
        f"[{group}]{lines}\n" for group, lines in setup["options.entry_points"].items()
    )
    about = alone / "doubledecker-0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: doubledecker\nVersion: 0\n")
    (about / "entry_points.txt").write_text(points)
    return alone
