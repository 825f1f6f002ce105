"""Compares what came with what was expected, as its classes do, and describes the differences."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from bus.codec import address, record
from bus.errors import MessageError
from bus.messages import Command, Event, Message, read_data
from bus.stores.documents.values import Unstorable, read, stored

MISSING = "nothing"


class Said(NamedTuple):
    """An event or a command as it is stored."""

    name: str
    schema: int
    data: Mapping[str, Any]

    @classmethod
    def of(cls, message: Event | Command) -> "Said":
        if isinstance(message, Event):
            return cls(*record(message)[:3])
        return cls(*address(message, "")[1:])

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.data.items())})"


def messages_apart(expected: Sequence[Event | Command], came: Sequence[Said]) -> str:
    """Describes where messages differ; returns "" if each is the one expected."""
    wanted = [Said.of(message) for message in expected]
    pairs = list(zip(expected, wanted, came, strict=False))
    if len(expected) == len(came) and all(_is_same(*pair) for pair in pairs):
        return ""
    apart = (
        f"{said.name}, number {number}: {field}"
        for number, (message, said, other) in enumerate(pairs, 1)
        if (said.name, said.schema) == (other.name, other.schema)
        and not _is_same(message, said, other)
        for field in _fields_apart(*_as_read(message, said, other))
    )
    return f"{listed(wanted)}\nthere came: {listed(came)}{_differences(apart)}"


def documents_apart(expected: Mapping[Any, Any], came: Mapping[Any, Any]) -> str:
    """Describes where documents differ, by key; returns "" if they are the same. Those expected may
    hold Python values that stores do not have, such as sets."""
    wanted = {key: _form(document) for key, document in expected.items()}
    if wanted == came:
        return ""
    apart = (
        f"{key}: {field}"
        for key, document in wanted.items()
        if key in came and came[key] != document
        for field in _fields_apart(_fields_of(document), _fields_of(came[key]))
    )
    return f"{listed(_pairs(wanted))}\nthere came: {listed(_pairs(came))}{_differences(apart)}"


def listed(items: Iterable[object]) -> str:
    """Formats items, one per line; "none" if there are none."""
    return "".join(f"\n  {item}" for item in items) or "none"


def _is_same(message: Message, wanted: Said, came: Said) -> bool:
    if (wanted.name, wanted.schema) != (came.name, came.schema):
        return False
    if wanted.data == came.data:
        return True
    try:
        found = _read(message, came)
        return found == message or found == _read(message, wanted)
    except MessageError:
        return False


def _as_read(message: Message, wanted: Said, came: Said) -> tuple[Mapping[str, Any], ...]:
    """Returns the fields of both, or their data if that cannot be read."""
    try:
        return _fields_of(_read(message, wanted)), _fields_of(_read(message, came))
    except MessageError:
        return wanted.data, came.data


def _read(message: Message, said: Said) -> Message:
    return read_data(type(message), said.data, said.schema)


def _form(document: Any) -> Any:
    if isinstance(document, BaseModel) or not isinstance(document, Mapping):
        return document
    try:
        return read(stored(dict(document)))
    except Unstorable:
        return document


def _fields_of(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, BaseModel):
        return {**vars(value), **(value.__pydantic_extra__ or {})}
    return {"it": value}


def _fields_apart(expected: Mapping[str, Any], came: Mapping[str, Any]) -> Iterator[str]:
    for name in {**expected, **came}:
        wanted, found = (
            repr(fields[name]) if name in fields else MISSING for fields in (expected, came)
        )  # fmt: skip
        if (name in expected) != (name in came) or expected[name] != came[name]:
            yield f"{name}: expected {wanted}, and {found} came"


def _differences(apart: Iterable[str]) -> str:
    found = list(apart)
    return f"\nthey differ: {listed(found)}" if found else ""


def _pairs(documents: Mapping[Any, Any]) -> list[str]:
    return sorted(f"{key}: {document!r}" for key, document in documents.items())
