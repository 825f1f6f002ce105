"""What handlers return as JSON, which is what an index holds. No I/O."""

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from bus.errors import ProjectionError
from bus.stores.sink import Increment, Upsert

LONGEST_KEY = 512
"""Bytes of a document's id, which engines limit."""
OWN = "_bus"
"""The field that holds what the bus keeps with a document."""
OF_STREAM = "__stream__"
"""What the ids of records begin with that say how far a stream was applied."""

_AS_THEY_ARE = frozenset({str, int, bool, type(None)})
_METADATA = frozenset(
    {
        "_doc_count",
        "_field_names",
        "_id",
        "_ignored",
        "_index",
        "_meta",
        "_nested_path",
        "_primary_term",
        "_routing",
        "_seq_no",
        "_size",
        "_source",
        "_tier",
        "_type",
        "_version",
        "_hidden",
        OWN,
    }
)
"""Names of fields that engines, or the bus, have for themselves."""


def check(key: Any, change: Any) -> None:
    """Raises: ProjectionError if a change, or the key of its document, cannot be stored."""
    if not isinstance(key, str) or not key:
        raise ProjectionError(f"the key {key!r:.100} is not a text, or is empty")
    check_key(key)
    match change:
        case Upsert(values=values):
            for name, value in values.items():
                _check_field(name)
                plain(value, name)
        case Increment(amounts=amounts):
            for name, amount in amounts.items():
                _check_field(name)
                _check_amount(name, amount)


def check_key(key: str) -> None:
    """Raises: ProjectionError if a document cannot have this key."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ProjectionError("the key holds half a character (a lone surrogate)") from None
    if size > LONGEST_KEY:
        raise ProjectionError(f"the key has {size} bytes, and an index takes {LONGEST_KEY} at most")
    if key.startswith(OF_STREAM):
        raise ProjectionError(f"the key begins with {OF_STREAM}, which the bus has for itself")


def plain(value: Any, name: str = "") -> Any:
    """Returns a value as JSON has it: a time as ISO 8601, a Decimal or UUID as text. `name` is the
    field's, for errors. Raises: ProjectionError."""
    if type(value) in _AS_THEY_ARE:
        return _text(value, name) if type(value) is str else value
    match value:
        case float():
            if math.isfinite(value):
                return value
            raise ProjectionError(f"field {name!r} holds {value}, and JSON has no such number")
        case Enum():
            return plain(value.value, name)
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return _decimal(value, name)
        case UUID():
            return str(value)
        case BaseModel():
            return plain(value.model_dump(), name)
        case Mapping():
            return {_inner(key, name): plain(part, name) for key, part in value.items()}
        case list() | tuple():
            return [plain(part, name) for part in value]
        case str():
            return _text(str(value), name)
        case int():
            return int(value)
    raise ProjectionError(
        f"field {name!r} holds a {type(value).__name__}, which JSON does not have; give texts, "
        f"numbers, times, lists or mappings"
    )


def added(value: Any, name: str, amount: Any) -> Any:
    """Returns a field's value with an amount added, which `check` has seen. Raises: ProjectionError
    if the value is no number."""
    if value is None:
        return amount
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = type(value).__name__
        raise ProjectionError(f"Increment({name}=...): {name} is {kind}, and no number")
    return plain(value + amount, name)


def _check_field(name: Any) -> None:
    if not isinstance(name, str) or not name.strip() or name in _METADATA:
        raise ProjectionError(f"{name!r:.100} cannot be a field's name")
    if "." in name:
        outer, _, inner = name.partition(".")
        raise ProjectionError(
            f"the field {name!r:.100} has a dot; set what it is within: {outer}={{{inner!r}: ...}}"
        )
    _text(name, name)


def _check_amount(name: str, amount: Any) -> None:
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        what = type(amount).__name__
        raise ProjectionError(f"Increment({name}=...) adds a {what}, and no number")
    plain(amount, name)


def _inner(key: Any, name: str) -> str:
    if not isinstance(key, str) or not key.strip():
        raise ProjectionError(f"field {name!r} holds a mapping with the key {key!r:.100}")
    return str(_text(key, name))


def _text(value: str, name: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ProjectionError(
                f"field {name!r} holds half a character (a lone surrogate)"
            ) from None
    return value


def _decimal(value: Decimal, name: str) -> str:
    if not value.is_finite():
        raise ProjectionError(f"field {name!r} holds {value}, and JSON has no such number")
    return f"{value:f}"
