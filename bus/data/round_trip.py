"""Round trips: whether what was read back of a value is the value that was written. Pure."""

import dataclasses
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import date, datetime, time, timezone
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import TzInfo

Pairs = Iterable[tuple[Any, Any, str]]
"""What was written, what was read back, and the path to it."""

UNCHANGING = (str, bytes, int, float, complex, tuple, frozenset, date, time, Enum)
SIMPLE = frozenset({str, int, float, bool})
OF_A_FIXED_OFFSET = (type(None), timezone, TzInfo)


class Misread(NamedTuple):
    """Where what is read back is not what was written, and why."""

    path: str
    why: str
    remedy: str = "give its field a type that says what it is"

    def __str__(self) -> str:
        return f"{self.path or 'it'} {self.why}; {self.remedy}"


def difference(written: Any, read: Any, *, exact: bool = False) -> Misread | None:
    """Returns the first place where what was read back is not what was written, or None.

    Private attributes do not count, nor, unless `exact`, an integer that is read as the equal
    float.
    """
    return (_OF_NUMBERS if exact else _OF_DATA).of(written, read, "")


def difference_of_state(
    written: object, read: object, but: Collection[str] = (), *, exact: bool = False
) -> Misread | None:
    """Does the same for two objects that live on, except for the attributes in `but`.

    Private attributes count, so do the names of zones, and which parts are the same object.
    """
    return _WholeComparison(exact).of_attributes(written, read, "", but)


class _Comparison:
    """Compares what is written once and never changed."""

    __slots__ = ()

    def of(self, written: Any, read: Any, path: str) -> Misread | None:
        if written is read:
            return None
        if written is _MISSING or read is _MISSING:
            return Misread(path, "would not be read back as it is", _NO_FIELD)
        kind = type(written)
        if kind in SIMPLE and kind is type(read) and written == read:
            return None  # most values: saves the checks below
        if kind is not type(read) and not self.is_as_good(written, read):
            return _of_types(written, read, path)
        return self.of_content(written, read, path)

    def of_content(self, written: Any, read: Any, path: str) -> Misread | None:
        if isinstance(written, BaseModel):
            return self.of_each(_in_models(written, read, path))
        if dataclasses.is_dataclass(written):
            return self.of_each(_in_dataclasses(written, read, path))
        if isinstance(written, Mapping):
            return self._of_mappings(written, read, path)
        if isinstance(written, AbstractSet):
            return self._of_sets(written, read, path)
        if isinstance(written, Sequence) and not isinstance(written, str | bytes | bytearray):
            return self._of_sequences(written, read, path)
        if isinstance(written, datetime | time):
            return self.of_times(written, read, path)
        if self.is_equal(written, read):
            return None
        return Misread(path, _ANOTHER, _MADE) if _compares(written) else Misread(path, _ANOTHER)

    def is_as_good(self, written: Any, read: Any) -> bool:
        """Returns whether pydantic converts one to the other; a default it has not converted."""
        if type(read) is float:
            return type(written) is int and written == read
        return type(read) in (datetime, time) and isinstance(written, type(read))

    def of_each(self, pairs: Pairs) -> Misread | None:
        for written, read, path in pairs:
            if different := self.of(written, read, path):
                return different
        return None

    def of_times(self, written: datetime | time, read: Any, path: str) -> Misread | None:
        """Compares times by their texts: in an hour that occurs twice, `==` is always false."""
        if written.isoformat() == read.isoformat():
            return None
        offset = written.utcoffset()
        why = "has a zone that is not written"
        if offset is not None and offset.seconds % 60:
            why = "has a zone whose offset has seconds, which are not written"
        return Misread(path, why, "give it in UTC")

    def is_equal(self, written: Any, read: Any) -> bool:
        if _compares(written):
            return bool(written == read)
        with suppress(TypeError):  # an object that cannot be copied has no state to compare
            return self.of(_state(written), _state(read), "") is None
        return False

    def _of_mappings(
        self, written: Mapping[Any, Any], read: Mapping[Any, Any], path: str
    ) -> Misread | None:
        keys = {key: key for key in read}
        for key in written:
            if key not in keys or self.of(key, keys[key], path):
                why = f"has a key of type {_named(key)}, which would be read as another"
                return Misread(path, why)
        if len(keys) != len(written):
            return Misread(path, "would be read with more keys", _MADE)
        if _factory(written) is not _factory(read):
            return Misread(path, "would be read with another default_factory", _FACTORY)
        return self.of_each((value, read[key], _at(path, key)) for key, value in written.items())

    def _of_sets(
        self, written: AbstractSet[Any], read: AbstractSet[Any], path: str
    ) -> Misread | None:
        found = {member: member for member in read}
        if len(written) != len(found) or not all(member in found for member in written):
            return Misread(path, "would be read with other members")
        return self.of_each((member, found[member], path) for member in written)

    def _of_sequences(
        self, written: Sequence[Any], read: Sequence[Any], path: str
    ) -> Misread | None:
        if isinstance(written, deque) and isinstance(read, deque) and written.maxlen != read.maxlen:
            why = f"has maxlen={written.maxlen}, and would be read with maxlen={read.maxlen}"
            return Misread(path, why, _MAXLEN)
        if len(written) != len(read):
            return Misread(path, "would be read with more or fewer entries", _MADE)
        pairs = enumerate(zip(written, read, strict=True))
        return self.of_each((value, other, _at(path, index)) for index, (value, other) in pairs)


class _ExactComparison(_Comparison):
    """Compares what may be read as an integer or as a float."""

    __slots__ = ()

    def is_as_good(self, written: Any, read: Any) -> bool:
        return type(read) is not float and super().is_as_good(written, read)


class _WholeComparison(_Comparison):
    """Compares state, which is worked on after it was read."""

    __slots__ = ("_exact", "_read", "_written")

    def __init__(self, exact: bool) -> None:
        self._exact = exact
        # By `id()`. It holds the objects too: once one is freed, another may get its id.
        self._written: dict[int, tuple[Any, Any, str]] = {}
        self._read: dict[int, str] = {}

    def of_content(self, written: Any, read: Any, path: str) -> Misread | None:
        if _may_change(written):
            if id(written) in self._written or id(read) in self._read:
                return self._of_shared(written, read, path)
            self._written[id(written)] = (written, read, path)
            self._read[id(read)] = path
        if isinstance(written, BaseModel) or dataclasses.is_dataclass(written):
            return self.of_attributes(written, read, path)
        different = super().of_content(written, read, path)
        if different or not _is_by_attributes(written):
            return different
        return self.of_attributes(written, read, path)

    def of_attributes(
        self, written: object, read: object, path: str, but: Collection[str] = ()
    ) -> Misread | None:
        names = (attributes_of(written) | attributes_of(read)).keys()
        return self.of_each(
            (getattr(written, name, _MISSING), getattr(read, name, _MISSING), _at(path, name))
            for name in names
            if name not in but
        )

    def is_as_good(self, written: Any, read: Any) -> bool:
        return not (self._exact and type(read) is float) and super().is_as_good(written, read)

    def of_times(self, written: datetime | time, read: Any, path: str) -> Misread | None:
        zone = written.tzinfo
        if not isinstance(zone, OF_A_FIXED_OFFSET):
            why = f"has the zone {zone}, of which only the offset would be read back"
            return Misread(path, why, _IN_UTC)
        if zone is None and written.fold != read.fold:
            return Misread(path, "is the second of two equal hours, which is lost", _IN_UTC)
        return super().of_times(written, read, path)

    def is_equal(self, written: Any, read: Any) -> bool:
        return _is_by_attributes(written) or super().is_equal(written, read)

    def _of_shared(self, written: Any, read: Any, path: str) -> Misread | None:
        if id(written) not in self._written:
            return Misread(path, f"would be one object with {self._read[id(read)]}", _ONE_PLACE)
        _, other, where = self._written[id(written)]
        if other is read:
            return None
        return Misread(path, f"is one object with {where}, and would be another one", _ONE_PLACE)


def fields_of(model: BaseModel) -> dict[str, Any]:
    """Returns the fields of a model, without what a `cached_property` has stored beside them."""
    stored = model.__dict__
    own = {name: stored[name] for name in type(model).model_fields if name in stored}
    return {**own, **(model.__pydantic_extra__ or {})}


def attributes_of(value: object) -> dict[str, Any]:
    """Returns all that an object holds, also in slots, private, and beside a model's fields."""
    found = dict(getattr(value, "__dict__", ()))
    if isinstance(value, BaseModel):
        found |= {**(value.__pydantic_extra__ or {}), **(value.__pydantic_private__ or {})}
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name.startswith("__"):
                if name.endswith("__"):
                    continue  # not state: __weakref__, which fields were given
                name = f"_{kind.__name__.lstrip('_')}{name}"
            if hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def _in_models(written: BaseModel, read: BaseModel, path: str) -> Pairs:
    own, other = fields_of(written), fields_of(read)
    return ((value, other.get(name), _at(path, name)) for name, value in own.items())


def _in_dataclasses(written: Any, read: Any, path: str) -> Pairs:
    """Returns their fields, and other attributes that are neither private nor cached properties."""
    names = [field.name for field in dataclasses.fields(written)]
    for name in attributes_of(written):
        made = isinstance(getattr(type(written), name, None), cached_property)
        if not (made or name in names or name.startswith("_")):
            names.append(name)
    return (
        (getattr(written, name, _MISSING), getattr(read, name, _MISSING), _at(path, name))
        for name in names
    )


def _may_change(value: Any) -> bool:
    """Returns whether it matters that two places hold the same object.

    What is compared by value and has no attributes is assumed never to change.
    """
    kind = type(value)
    if isinstance(value, BaseModel):
        return not kind.model_config.get("frozen")
    if dataclasses.is_dataclass(value):
        return not kind.__dataclass_params__.frozen
    if isinstance(value, UNCHANGING):
        return False
    hashed: Any = kind.__hash__
    return hashed is None or hashed is object.__hash__ or hasattr(value, "__dict__")


def _is_by_attributes(value: Any) -> bool:
    return (_may_change(value) or hasattr(value, "__dict__")) and bool(attributes_of(value))


def _of_types(written: Any, read: Any, path: str) -> Misread:
    own, other = _named(written), _named(read)
    why = f"is of type {own}, and would be read as {other}"
    if isinstance(written, BaseModel) and isinstance(written, type(read)):
        return Misread(path, f"{why}, without what {own} adds", _TELL_APART)
    return Misread(path, why, f"declare it as {own}, not as what may be any, or give {other}")


def _factory(mapping: Mapping[Any, Any]) -> Any:
    return mapping.default_factory if isinstance(mapping, defaultdict) else None


def _compares(value: object) -> bool:
    """Returns whether a value's class defines `==`."""
    return type(value).__eq__ is not object.__eq__


def _state(value: Any) -> Any:
    """Returns the state of an object whose class does not define `==`."""
    return value.__reduce_ex__(2)[2]


def _at(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _named(value: Any) -> str:
    return type(value).__qualname__


_OF_DATA = _Comparison()
_OF_NUMBERS = _ExactComparison()
_MISSING = object()
_ANOTHER = "would be read as another value"
_MADE = "let the validators and serializers of its class leave as it is what they have made"
_TELL_APART = "declare a union of the two, each with a Literal field by which they are told apart"
_FACTORY = "let it make what its type says, as defaultdict(int) where it is defaultdict[str, int]"
_MAXLEN = "take it away, and drop what is too much where something is appended"
_NO_FIELD = "make it a field of its class, with a type"
_ONE_PLACE = "hold it in one place, and in the other one what finds it there"
_IN_UTC = "hold it in UTC"
