"""The folder list is the architecture: imports run one way, technologies stay in their rooms."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "bus").rglob("*.py"))

LAYERS = [
    {"errors", "figures", "urls", "version"},
    {
        "ambient",
        "calls",
        "entering",
        "fingerprint",
        "judging",
        "payload",
        "round_trip",
        "shapes",
        "signatures",
        "tasks",
    },
    {"classes", "declarable", "limits", "unwritten"},
    {"messages"},
    {"registry"},
    {"lines", "log", "policies", "settings", "telling"},
    {"loops"},
    {"router", "middleware", "layers", "transports", "stores"},
    {"signing"},
    {"codec"},
    {"write", "read"},
    {"dependencies", "health", "checks", "backend", "declarations", "served", "continuity"},
    {"forking", "results"},
    {"dispatcher"},
    {"parts"},
    {"delivery", "contracts"},
    {"arguments", "assembly", "opening"},
    {"bus"},
    {"building"},
    {"cli", "testing", "__init__"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            yield from (
                [f"bus.{n}" for n in names] if node.module == "bus" else [node.module or ""]
            )


def room(path: Path) -> str:
    return path.relative_to(ROOT / "bus").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    here = LEVEL[room(path)]
    for name in imported(path):
        if name.startswith("bus.") and room(path) not in ("__init__", "testing"):
            there = name.split(".")[1]
            assert there == room(path) or LEVEL[there] <= here, f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_two_decks_never_import_each_other(path: Path) -> None:
    other = {"write": "bus.read", "read": "bus.write"}.get(room(path))
    assert other is None or not any(name.startswith(other) for name in imported(path))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_technologies_stay_in_their_rooms(path: Path) -> None:
    homes = {
        "aio_pika": "transports",
        "aiormq": "transports",
        "pamqp": "transports",
        "motor": "stores",
        "pymongo": "stores",
        "bson": "stores",
        "mongomock": "stores",
        "typer": "cli",
    }
    for name in imported(path):
        home = homes.get(name.partition(".")[0])
        assert home in (None, room(path)), f"{path} imports {name}, which stays in bus/{home}"
