"""Where errors are made: the calls of their classes in bus/, with their words."""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bus import errors

ROOT = Path(__file__).parents[2]
ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type)} | {"BadParameter"}
LEAST = 8
"""Characters of its own that words must have to be known again."""


class Site(NamedTuple):
    """A place that makes an error. `words` has "..." for what differs from case to case, `shown`
    a name for it."""

    path: str
    error: str
    words: str
    shown: str

    def matches(self, told: str) -> bool:
        place = 0
        for part in self.words.split("..."):
            place = told.find(part, place)
            if place < 0:
                return False
            place += len(part)
        return True


@cache
def sites() -> Sequence[Site]:
    """The places with words of their own; those that pass another place's on have none."""
    paths = sorted((ROOT / "bus").rglob("*.py"))
    return [site for path in paths if "testing" not in path.parts for site in _in(path)]


def _in(path: Path) -> Iterator[Site]:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    for node in sorted(calls, key=lambda call: call.lineno):
        if node.args and (name := _name(node.func)) in ERRORS:
            words = _words(node.args[0])
            if len(words.replace("...", "").strip()) >= LEAST:
                yield Site(str(path.relative_to(ROOT)), name, words, _shown(node.args[0]))


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


def _shown(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(_shown, parts))
        case ast.BinOp(left=left, right=right):
            return f"{_shown(left)}{_shown(right)}"
        case ast.FormattedValue(value=value):
            return _shown(value)
    return f"<{_noun(node)}>"


def _noun(node: ast.AST) -> str:
    """A name for what a value is."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").lower()
        case ast.Call(func=ast.Name(id="len")):
            return "number"
        case ast.Call(func=ast.Attribute(attr="join"), args=[several]):
            return _noun(several)
        case ast.Call(func=called, args=[]) | ast.Subscript(value=called):
            return _noun(called)
        case ast.Call(args=[first, *_]):
            return _noun(first)
    return "..."
