"""A record of many fields is made by their names: by place, two of one type are mixed up unseen."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "bus").rglob("*.py"))
CALLERS = [
    *MODULES,
    *(
        path
        for folder in ("bench", "handlers", "read_models", "tools", "write_models")
        for path in (ROOT / folder).rglob("*.py")
    ),
]
MOST = 4
FOR_EACH_MESSAGE = {
    "bus/codec/frames.py",
    "bus/codec/reading.py",
    "bus/signing.py",
    "bus/stores/records.py",
    "bus/stores/sql/rows.py",
    "bus/transports/memory/transport.py",
    "bus/transports/rabbitmq/frames.py",
    "bus/transports/rabbitmq/inbox.py",
}
"""Made for each message, where names take twice the time (1 µs and more for a `Frame`)."""


def fields(cls: ast.ClassDef) -> int:
    """How many a named tuple or a dataclass has; 0 for other classes."""
    marks = [*cls.bases, *cls.decorator_list]
    if not any(ast.unparse(one).partition("(")[0] in ("NamedTuple", "dataclass") for one in marks):
        return 0
    return sum(isinstance(one, ast.AnnAssign) for one in cls.body)


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


RECORDS = {
    node.name
    for path in MODULES
    for node in nodes(path)
    if isinstance(node, ast.ClassDef) and fields(node) > MOST
}


def test_the_records_are_found() -> None:
    assert {"Commit", "DeadLetter", "Duty", "Frame", "Runtime"} <= RECORDS


@pytest.mark.parametrize("path", CALLERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_records_are_made_by_the_names_of_their_fields(path: Path) -> None:
    if str(path.relative_to(ROOT)) in FOR_EACH_MESSAGE:
        return
    for node in nodes(path):
        if isinstance(node, ast.Call) and called(node) in RECORDS:
            starred = any(isinstance(one, ast.Starred) for one in node.args)
            assert len(node.args) <= MOST, f"{path}:{node.lineno}"
            assert not starred, f"{path}:{node.lineno}"


def called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""
