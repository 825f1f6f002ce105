"""docs/log.md lists every line that the bus can log, and every signal, as the code has them."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from bus.observe.logged import LEVELS
from bus.observe.signals import KINDS, Signal

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "log.md").read_text()
METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
ELSEWHERE = {"bus/observe/log.py", "bus/observe/logged.py"}
"""What hands on the lines of others, or of signals."""


def rows(title: str) -> dict[str, list[str]]:
    """The table under a title: its cells, by event."""
    section = re.split(r"^#+ ", PAGE.partition(f" {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = [re.split(r" \| ", line.strip("| ")) for line in section.splitlines() if "|" in line]
    events = [row[0].strip("`") for row in found[2:]]
    assert sorted(set(events)) == sorted(events)
    return dict(zip(events, found[2:], strict=True))


def words(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))


def is_logger(node: ast.expr) -> bool:
    written = ast.unparse(node)
    return written == "log" or written.startswith(("Logger(", "log.Logger("))


NODES = [
    (str(path.relative_to(ROOT)), node)
    for path in sorted((ROOT / "bus").rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
]


def calls() -> Iterator[tuple[str, ast.Call, str]]:
    """Where a line is logged, and at which level."""
    for path, node in NODES:
        match node:
            case ast.Call(func=ast.Attribute(value=logger, attr=level)):
                if level in METHODS and is_logger(logger):
                    yield path, node, level


def test_each_line_has_an_event_of_small_letters_that_can_be_searched_for() -> None:
    for path, call, _ in calls():
        (event,) = map(ast.unparse, call.args)
        assert re.fullmatch("'[a-z]+(_[a-z]+)*'", event), f"{path}:{call.lineno}: {event}"


def test_nobody_logs_by_the_way() -> None:
    """So that these tests see every line: each is a call of a logger's method."""
    called = {call.func for _, call, _ in calls()}
    for path, node in NODES:
        if isinstance(node, ast.Attribute) and node.attr in METHODS and is_logger(node.value):
            assert node in called, f"{path}:{node.lineno}"
        match node:
            case ast.Call(func=ast.Name(id="getattr"), args=[logger, *_]) if is_logger(logger):
                assert path in ELSEWHERE, f"{path}:{node.lineno}"


def test_the_page_has_each_line_with_its_levels_and_fields() -> None:
    levels, named = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for _, call, level in calls():
        event = ast.literal_eval(call.args[0])
        levels[event].add(level)
        named[event] |= {one.arg for one in call.keywords if one.arg}
    named["recovered"] = {"broken", "rebuilt", "marks", "sent_again"}  # the fields of its plan
    page = rows("Other lines")
    assert page.keys() == levels.keys()
    for event, (_, level, cell, *_) in page.items():
        assert set(level.split(", ")) == levels[event], event
        assert words(cell) == named[event], event


def test_the_page_has_each_signal_with_its_kind_and_fields() -> None:
    page = rows("Signals")
    assert page.keys() == {kind.name for kind in KINDS}
    for kind in KINDS:
        _, name, level, cell, *_ = page[kind.name]
        assert name == f"`{kind.__name__}`"
        assert words(cell) == {one.name for one in fields(kind)} - {"service"}, kind
        assert (level == "-") == (kind not in LEVELS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_page_has_the_level_of_a_signal(kind: type[Signal]) -> None:
    if isinstance(level := LEVELS.get(kind), str):
        assert rows("Signals")[kind.name][2] == level
