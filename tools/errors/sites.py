"""Where errors are made: the calls of their classes in bus/, with their words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bus import errors

ROOT = Path(__file__).parents[2]
ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type)} | {"BadParameter"}
LEAST = 8
"""Characters of its own that words must have to be known again."""


class Site(NamedTuple):
    """A place that makes an error. `words` has "..." for what differs from case to case."""

    path: str
    error: str
    words: str

    def matches(self, told: str) -> bool:
        place = 0
        for part in self.words.split("..."):
            place = told.find(part, place)
            if place < 0:
                return False
            place += len(part)
        return True


def sites() -> Iterator[Site]:
    """The places with words of their own; those that pass another place's on have none."""
    for path in sorted((ROOT / "bus").rglob("*.py")):
        if "testing" not in path.parts:
            yield from _in(path)


def _in(path: Path) -> Iterator[Site]:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    for node in sorted(calls, key=lambda call: call.lineno):
        if node.args and (name := _name(node.func)) in ERRORS:
            words = _words(node.args[0])
            if len(words.replace("...", "").strip()) >= LEAST:
                yield Site(str(path.relative_to(ROOT)), name, words)


def _name(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _words(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return re.sub(r"(\.\.\.)+", "...", "".join(map(_words, parts)))
        case ast.BinOp(left=left, right=right):
            return f"{_words(left)}{_words(right)}"
    return "..."
