"""Converts Python values to the form that documents keep, and back.

Each type has one form: a view reads back what was written, a filter with a value finds what an
update wrote, and forms sort like their values. Knows types, no database.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, DecimalException
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from re import Pattern
from typing import Any
from uuid import UUID

from bson import DatetimeMS, Decimal128, Int64, ObjectId, Regex
from bson.binary import Binary
from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from bus.common.fingerprint import reason_of
from bus.data import round_trip
from bus.data.limits import to_text
from bus.errors import InvalidMessage
from bus.stores.records import READING, decoded, encoded

PLAIN: frozenset[type] = frozenset(
    [str, int, float, bool, type(None), bytes,
     Decimal128, Int64, ObjectId, Binary, DatetimeMS, Regex, Pattern]
)  # fmt: skip
"""Types whose values are kept as they are."""


class Unstorable(Exception):
    """A value has no form; `path` leads to it from where the conversion began."""

    def __init__(self, why: str, path: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.path = path

    def within(self, name: object) -> "Unstorable":
        """Returns the same error, seen from what holds the value under this name."""
        return Unstorable(self.why, f"{name}.{self.path}" if self.path else str(name))


Convert = Callable[[Any], Any]


def stored(value: Any) -> Any:
    """Returns the form that documents keep; the value itself if it is one. Raises: Unstorable."""
    kind = type(value)
    if kind in PLAIN:
        return value
    convert = CONVERSIONS.get(kind) or _conversion(kind)  # type: ignore[arg-type]
    return convert(value)


def read(value: Any) -> Any:
    """Returns what is read from a form: Decimals for `Decimal128`, and Python's own integers."""
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if type(value) is Int64:
        return int(value)
    if type(value) is dict:
        return {name: read(item) for name, item in value.items()}
    return [read(item) for item in value] if type(value) is list else value


@lru_cache(maxsize=1000)
def _conversion(kind: Any) -> Convert:
    """Returns the conversion of a type that is not in CONVERSIONS, determined once."""
    if issubclass(kind, Enum):
        return _of_enum(kind)
    if kind.__module__.partition(".")[0] == "bson" and not issubclass(kind, dict):
        return _itself
    if issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind):
        return _of_class(kind)
    for base in kind.__mro__:
        if base in CONVERSIONS:
            return CONVERSIONS[base]
    if issubclass(kind, Mapping):
        return _of_mapping
    return _by_pydantic(kind)


def _itself(value: Any) -> Any:
    return value


def _of_dict(value: dict[Any, Any]) -> dict[str, Any]:
    # A loop is faster than `issuperset`, because nearly all are small.
    for key, item in value.items():
        if type(item) not in PLAIN or type(key) is not str:
            break
    else:
        return value
    form: dict[str, Any] = {}
    for key, item in value.items():
        name = key if type(key) is str else _key(key)
        if name in form:
            raise Unstorable("has two keys that are the same text", name)
        try:
            form[name] = stored(item)
        except Unstorable as error:
            raise error.within(name) from None
    return form


def _of_mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    return _of_dict(dict(value))


def _key(key: Any) -> str:
    """Returns a dictionary's key as text, from which pydantic reads it back."""
    form = stored(key) if isinstance(key, str | Enum | UUID | date) else key
    if type(form) is int:
        return str(form)
    if type(form) is str:
        return form
    raise Unstorable(
        f"has a key of type {type(key).__qualname__}; keys are text, or int, UUID, date and Enum, "
        f"which become text: {'leave it out' if key is None else to_text(key)}, or give a list of "
        f"pairs"
    )


def _of_list(value: Iterable[Any]) -> list[Any]:
    form: list[Any] = []
    for item in value:
        try:
            form.append(item if type(item) in PLAIN else stored(item))
        except Unstorable as error:
            raise error.within(len(form)) from None
    return form


def _of_set(value: Iterable[Any]) -> list[Any]:
    """Returns a sorted list: a set's own order differs between processes."""
    form = _of_list(value)
    kinds = set(map(type, form))
    if kinds <= {str} or kinds <= {int, float}:
        return sorted(form)
    try:
        return sorted(form, key=lambda item: encoded({"": item}))
    except InvalidMessage:
        raise Unstorable("holds what MongoDB cannot keep") from None


def _of_datetime(value: datetime) -> datetime:
    if value.tzinfo is not UTC and value.utcoffset() is None:
        raise Unstorable(
            "is a datetime without a zone, whose instant nobody knows: give it its zone, as "
            "value.replace(tzinfo=UTC), or store value.isoformat() as text"
        )
    if type(value) is datetime:
        return value
    return datetime.combine(value.date(), value.time(), value.tzinfo)


def _of_time(value: time) -> str:
    if value.tzinfo is not None:
        raise Unstorable(
            "is a time of day with a zone, and such times have no order: store "
            "value.replace(tzinfo=None), and the zone in a field of its own"
        )
    return time.isoformat(value)


def _of_timedelta(value: timedelta) -> int | float:
    """Returns seconds, because they sort and can be added."""
    whole = value.days * 86400 + value.seconds
    if not value.microseconds:
        return whole
    seconds = value.total_seconds()
    if not _is_seconds(seconds, value):
        raise Unstorable("is a timedelta too long to be kept to the microsecond: round it")
    return seconds


SECONDS = TypeAdapter(timedelta)


def _is_seconds(seconds: float, value: timedelta) -> bool:
    try:
        return bool(SECONDS.validate_python(seconds) == value)
    except (ValueError, OverflowError):  # beyond the longest timedelta
        return False


def _of_decimal(value: Decimal) -> Decimal128:
    if not value.is_finite():
        raise Unstorable("is a Decimal that is infinite or no number (NaN)")
    try:
        return Decimal128(value)
    except DecimalException:
        raise Unstorable(
            "is a Decimal beyond 34 digits, or too large or small for MongoDB: round it, or store "
            "str(...) of it"
        ) from None


def _of_enum(kind: type[Enum]) -> Convert:
    """Converts members to their values, if each member can be read back from its value."""
    refusal = unreadable(kind)
    return _refused(refusal) if refusal else lambda member: stored(member.value)


def unreadable(kind: Any, *, required: bool = True) -> str | None:
    """Returns why nothing in a document can be read as a type; None if something can, or if a
    default may stand for it because it is not `required`."""
    if kind is Decimal128:
        return "is a Decimal128, which is read as a Decimal: declare that"
    if not isinstance(kind, type) or kind in CONVERSIONS or kind.__module__.startswith("bson"):
        return None
    if issubclass(kind, Enum):
        reading = TypeAdapter(kind)
        for member in kind:
            if not _reads_as(reading, member, member.value):
                return (
                    f"is a {kind.__qualname__}, whose member {member.name} cannot be read back by "
                    f"its value: give the members text as values"
                )
        return None
    try:
        TypeAdapter(kind) if required else None
    except PydanticSchemaGenerationError:
        return (
            f"is of type {kind.__qualname__}, which pydantic cannot read: declare a type "
            f"that it knows, or read it by a BeforeValidator"
        )
    except Exception:  # the type is not complete yet
        return None
    return None


def _reads_as(reading: TypeAdapter[Any], member: Enum, value: Any) -> bool:
    try:
        kept = decoded(encoded({"": stored(value)}), READING)[""]
        return reading.validate_python(kept, strict=False) is member
    except (ValueError, InvalidMessage, Unstorable):
        return False


def _of_class(kind: type[Any]) -> Convert:
    """Converts field by field, under the fields' names; refuses what would be read differently."""
    name = kind.__qualname__
    try:
        reading = TypeAdapter(kind)
    except Exception as error:
        return _refused(f"is a {name}, which pydantic cannot read back ({type(error).__name__})")

    def convert(value: Any) -> Any:
        form = _form_of(value)
        try:
            again = reading.validate_python(read(form), **LENIENT)
        except Exception as error:  # an author's validators may raise anything
            raise Unstorable(f"is a {name} that cannot be read back: {reason_of(error)}") from None
        fields = fields_of(again)
        for field, item in fields_of(value).items():
            if _shape(item) != _shape(fields.get(field)):
                raise Unstorable(f"would be read back otherwise by {name}: {REMEDY}", field)
        return form

    return convert


LENIENT: Any = {"strict": False, "by_alias": True, "by_name": True}
"""How documents are read: forms are not Python values, and fields stand under their own names."""
REMEDY = "store its parts, or another form of it, and have the view read that"


def fields_of(value: Any) -> dict[str, Any]:
    """Returns the fields of a pydantic model or a dataclass, by name."""
    if isinstance(value, BaseModel):
        return round_trip.fields_of(value)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _form_of(value: Any) -> Any:
    form = stored(value.root) if isinstance(value, RootModel) else _of_dict(fields_of(value))
    if isinstance(form, dict) and any(key.startswith("$") for key in form):
        raise Unstorable("has a key that starts with $, which MongoDB takes for its own; rename it")
    return form


def _shape(value: Any) -> Any:
    """Returns what is equal for two values that are the same to their author, in type too."""
    kind = type(value)
    if kind in PLAIN or isinstance(value, str | int | float | bytes):
        return value
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        return kind, {name: _shape(item) for name, item in fields_of(value).items()}
    if isinstance(value, Mapping):
        return kind, {key: _shape(item) for key, item in value.items()}
    if isinstance(value, list | tuple | deque):
        return kind, [_shape(item) for item in value]
    return kind, value


def _by_pydantic(kind: type[Any]) -> Convert:
    """Converts to one JSON value if pydantic has one and reads the same back: URLs, for example."""
    name = kind.__qualname__
    hidden = hasattr(kind, "get_secret_value")
    remedy = "if it may stand there, store value.get_secret_value()" if hidden else REMEDY
    refusal = f"is of type {name}, which has no form in a document: {remedy}"
    try:
        adapter = TypeAdapter(kind)
    except Exception:  # pydantic does not know the type
        return _refused(refusal)

    def convert(value: Any) -> Any:
        try:
            form = adapter.dump_python(value, mode="json")
            again = adapter.validate_python(form, **LENIENT)
        except ValueError:
            raise Unstorable(refusal) from None
        if type(form) not in (str, int, float) or type(again) is not kind or again != value:
            raise Unstorable(refusal)
        return form

    return convert


def _refused(why: str) -> Convert:
    def refuse(value: Any) -> Any:
        raise Unstorable(why)

    return refuse


CONVERSIONS: dict[type, Convert] = {
    **dict.fromkeys(PLAIN, _itself),
    str: str.__str__,
    int: int.__index__,
    float: float.__float__,
    bytes: bytes,
    bytearray: bytes,
    memoryview: bytes,
    datetime: _of_datetime,
    date: date.isoformat,
    time: _of_time,
    timedelta: _of_timedelta,
    Decimal: _of_decimal,
    UUID: str,
    PurePath: str,
    dict: _of_dict,
    list: _of_list,
    tuple: _of_list,
    deque: _of_list,
    set: _of_set,
    frozenset: _of_set,
}
