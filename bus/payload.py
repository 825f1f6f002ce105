"""What a message's data may be beyond what its model says: JSON that every part keeps as it is.

Each rule is about something that a store or a parser would quietly change or misread: a number that
becomes null, a key that comes back as another type, a value of which the last one counts.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import from_json

from bus.errors import InvalidMessage

MAX_DEPTH = 50
MOST, LEAST = 2**63 - 1, -(2**63)


def parsed(body: bytes) -> Any:
    """The data in a JSON text. Raises: InvalidMessage, which quotes no value."""
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidMessage(f"no JSON: {error}") from None
    # Each key costs one colon, so only a text with more of them can hold a key twice.
    if _colons(data, 0) != body.count(b":") or b"\\u003" in body:
        json.loads(body, object_pairs_hook=_once)
    return data


def check(data: Any) -> None:
    """Raises: InvalidMessage, which quotes no value."""
    _colons(data, 0)


def plain_integers(data: Any) -> Any:
    """The data with integers of Python's own type: those beyond 32 bits come from BSON as another,
    which a union of `int` and `float` reads as a float."""
    if type(data) is dict:
        return {key: plain_integers(value) for key, value in data.items()}
    if type(data) is list:
        return [plain_integers(value) for value in data]
    return int(data) if isinstance(data, int) and type(data) is not bool else data


def _colons(value: Any, depth: int) -> int:
    """Checks all that is in a value; returns how many colons its text has."""
    kind = type(value)
    if kind is str:
        if not value.isascii():
            _check_text(value)
        return int(value.count(":"))
    if kind is int:
        if not LEAST <= value <= MOST:
            raise InvalidMessage("an integer beyond 64 bits; carry it as text")
    elif kind is float:
        if not math.isfinite(value):
            raise InvalidMessage("a number that is infinite or none (NaN)")
    elif kind is dict:
        return _colons_of_keys(value) + _colons_within(value.values(), depth + 1)
    elif kind is list:
        return _colons_within(value, depth + 1)
    return 0


def _colons_within(values: Iterable[Any], depth: int) -> int:
    if depth > MAX_DEPTH:
        raise InvalidMessage(f"nested more than {MAX_DEPTH} deep")
    total = 0
    for value in values:
        if type(value) is str and value.isascii():  # nearly all are: no call for them
            if ":" in value:  # found several times as fast as counted
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
        raise InvalidMessage("a key that starts with $, which MongoDB takes for its own; rename it")
    if "\0" in key:
        raise InvalidMessage("a key that holds a NUL, which MongoDB cannot keep")
    _check_text(key)
    if "\ufffd" in key:  # what pydantic makes of them
        raise InvalidMessage("a key that UTF-8 cannot say (lone surrogates)")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidMessage("text that UTF-8 cannot say (lone surrogates)") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidMessage("a key twice in one object: which of the values counts?")
    return found
