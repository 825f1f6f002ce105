"""What a message's data may be beyond what its model says: JSON that nothing on its way changes.

Each rule is about something that a store or a parser would silently change or misread: a number
that becomes null, a key that comes back as another type, a key that is given twice.
"""

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from pydantic_core import from_json

from bus.errors import InvalidMessage

Document = dict[str, Any]
"""A JSON object, or a document of a store."""

MAX_DEPTH = 50
MOST, LEAST = 2**63 - 1, -(2**63)
MOST_PARTS = 6
"""How many parts of the path to a fault are shown."""
DECODED = "decode it as what it is where it comes in, or use text.encode(errors='replace').decode()"


def parsed(body: bytes, what: str) -> Any:
    """Returns the data in the JSON text of `what`. Raises: InvalidMessage; it quotes no value."""
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidMessage(f"{what}: no JSON: {error}") from None
    # Each key costs one colon, so only a text with more of them can hold a key twice.
    if check(data, what) != body.count(b":") or b"\\u003" in body:
        json.loads(body, object_pairs_hook=partial(_once, what))
    return data


def check(data: Any, what: str) -> int:
    """Checks data, and returns how many colons its JSON text has.

    Raises: InvalidMessage, which says where in `what` the fault is, and quotes no value.
    """
    try:
        return _colons(data, 0)
    except InvalidMessage as error:
        path: list[str] = []
        with suppress(InvalidMessage):
            _seek(data, path, 0)
        raise InvalidMessage(f"{_place(what, path)}: {error}") from None


def _seek(value: Any, path: list[str], depth: int) -> None:
    """Goes through a value once more until it fails; then `path` leads to the fault."""
    if not isinstance(value, dict | list):
        _colons(value, depth)
        return
    if isinstance(value, dict):
        _colons_of_keys(value)
    _colons_within((), depth + 1)
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        path.append(str(key))
        _seek(part, path, depth + 1)
        path.pop()


def _place(what: str, path: list[str]) -> str:
    shown = [part if part.isprintable() else "?" for part in path[:MOST_PARTS]]
    return ".".join([what, *shown])[:200] + ("..." if len(path) > MOST_PARTS else "")


def plain_integers(data: Any) -> Any:
    """Returns the data with integers of Python's own type: beyond 32 bits, BSON has another type,
    which a union of `int` and `float` reads as a float."""
    if type(data) is dict:
        return {key: plain_integers(value) for key, value in data.items()}
    if type(data) is list:
        return [plain_integers(value) for value in data]
    return int(data) if isinstance(data, int) and type(data) is not bool else data


def in_order(data: Any) -> Any:
    """Returns data with its lists sorted, at every depth: the order of a set differs between
    processes."""
    if isinstance(data, dict):
        return {key: in_order(value) for key, value in data.items()}
    if isinstance(data, list):
        return sorted(map(in_order, data), key=lambda item: json.dumps(item, sort_keys=True))
    return data


def _colons(value: Any, depth: int) -> int:
    """Checks a value and all within it; returns how many colons its text has."""
    kind = type(value)
    if kind is str:
        if not value.isascii():
            _check_text(value)
        return int(value.count(":"))
    if kind is int:
        if not LEAST <= value <= MOST:
            raise InvalidMessage("the integer has more than 64 bits; carry it as text")
    elif kind is float:
        if not math.isfinite(value):
            raise InvalidMessage(
                "the number is NaN or infinite, which JSON cannot say; give None, or text"
            )
    elif kind is dict:
        return _colons_of_keys(value) + _colons_within(value.values(), depth + 1)
    elif kind is list:
        return _colons_within(value, depth + 1)
    return 0


def _colons_within(values: Iterable[Any], depth: int) -> int:
    if depth > MAX_DEPTH:
        raise InvalidMessage(f"nested more than {MAX_DEPTH} levels deep; flatten it")
    total = 0
    for value in values:
        if type(value) is str and value.isascii():  # nearly all are: saves a call
            if ":" in value:  # searching is several times as fast as counting
                total += value.count(":")
        else:
            total += _colons(value, depth)
    return total


def _colons_of_keys(value: Mapping[str, Any]) -> int:
    total = len(value)
    for key in value:
        if not key.isidentifier():
            _check_key(key)
            total += key.count(":")
    return total


def _check_key(key: str) -> None:
    if key.startswith("$"):
        raise InvalidMessage("a key begins with $, as MongoDB's operators do; rename the key")
    if "\0" in key:
        raise InvalidMessage("a key holds a NUL, which MongoDB refuses; take it out of the key")
    _check_text(key)
    if "\ufffd" in key:  # what pydantic makes of lone surrogates
        raise InvalidMessage(f"a key holds U+FFFD, which lone surrogates become; {DECODED}")


def is_text(text: str) -> bool:
    """Returns whether UTF-8 can encode a text: it has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_text(text: str) -> None:
    if not is_text(text):
        raise InvalidMessage(
            f"the text holds a lone surrogate, which UTF-8 cannot encode; {DECODED}"
        )


def _once(what: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidMessage(
            f"{what}: an object has the same key twice, and all values but one would be lost; send "
            f"each key once"
        )
    return found
