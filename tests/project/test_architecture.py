"""The folder list is the architecture: imports run one way, technologies stay in their rooms."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "bus").rglob("*.py"))

FLOORS = [
    {"errors", "version"},
    {"common"},
    {"data"},
    {"messages", "transports"},
    {"declare", "observe", "stores", "transports.memory"},
    {
        "lifecycle",
        "settings",
        "signing",
        "stores.documents",
        "stores.sinks",
        "stores.together",
        "transports.rabbitmq",
    },
    {"kafka", "stores.memory", "stores.mongo", "stores.search", "stores.sql"},
    {"codec"},
    {"read", "write"},
    {"dispatch", "rebuild"},
    {"continuity"},
    {"assembly"},
    {"describe", "failures", "recovery"},
    {"delivery", "opening"},
    {"telemetry"},
    {"bus", "following", "operate"},
    {"building", "duties"},
    {"worker"},
    {"cli", "testing", "__init__"},
    {"__main__"},
]
"""From the ground up. A room knows what stands on the floors below it, and nobody beside it."""
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FREE = {"__init__", "testing"}
"""The face of the package, and what tests reach into everything with."""


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imported(path: Path) -> frozenset[str]:
    return frozenset(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            yield from (
                [f"bus.{n}" for n in names] if node.module == "bus" else [node.module or ""]
            )


def room(name: str) -> str:
    """The room of a module, or of a name in one: `bus.stores.mongo.log` is in `stores.mongo`."""
    parts = name.split(".")[1:] or ["__init__"]
    within = ".".join(parts[:2])
    return within if within in FLOOR else parts[0]


def named(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_folder_is_a_room() -> None:
    folders = {room(named(path)) for path in MODULES}
    assert folders == FLOOR.keys()


def test_imports_run_one_way() -> None:
    for path in MODULES:
        here = room(named(path))
        for name in imported(path):
            if name.startswith("bus.") and here not in FREE:
                there = room(name)
                assert there == here or FLOOR[there] < FLOOR[here], f"{path} imports {name}"


HOMES = {
    "aio_pika": "bus/transports/rabbitmq",
    "aiormq": "bus/transports/rabbitmq",
    "pamqp": "bus/transports/rabbitmq",
    "motor": "bus/stores/mongo",
    "pymongo": "bus/stores/mongo",
    "bson": "bus/stores",
    "mongomock": "bus/stores/memory",
    "typer": "bus/cli",
    "sqlalchemy": "bus/stores/sql",
    "asyncpg": "bus/stores/sql",
    "aiomysql": "bus/stores/sql",
    "aiokafka": "bus/kafka",
    "opensearchpy": "bus/stores/search",
    "aiohttp": "bus/stores/search",
    "opentelemetry": "bus/telemetry",
    "prometheus_client": "bus/telemetry",
}


def test_technologies_stay_in_their_rooms() -> None:
    for path in MODULES:
        for name in imported(path):
            home = HOMES.get(name.partition(".")[0])
            is_at_home = not home or str(path.relative_to(ROOT)).startswith(home)
            assert is_at_home, f"{path} imports {name}"


def test_a_module_is_read_in_one_go() -> None:
    """But for contracts, which are lists of tests."""
    for path in MODULES:
        most = 700 if path.parent.name == "contracts" else 400
        assert len(path.read_text().splitlines()) <= most, f"{path} is too long"


def test_a_module_is_listed_in_the_face_of_its_folder() -> None:
    """But for those of `bus` itself, whose face is its names."""
    for path in MODULES:
        if path.parent != ROOT / "bus" and path.stem != "__init__":
            face = ast.get_docstring(parsed(path.parent / "__init__.py")) or ""
            assert re.search(rf"\b{path.stem}\b", face), f"{path.parent} does not list {path.stem}"


def test_a_folder_is_taken_in_at_a_glance() -> None:
    """But for `stores/mongo`, of which a first reader needs nothing."""
    for folder in {path.parent for path in MODULES}:
        count = len(list(folder.glob("*.py")))
        most = {"mongo": 30}.get(folder.name, 12)
        assert count <= most, f"{folder} has {count} modules"
