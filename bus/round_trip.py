"""Round trips: whether what was read back of a value is the value that was written. Pure."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, time
from typing import Any, NamedTuple

from pydantic import BaseModel


class Difference(NamedTuple):
    """Where what is read back is not what was written, and why."""

    path: str
    why: str
    remedy: str = "give its field a type that says what it is"

    def __str__(self) -> str:
        return f"{self.path or 'it'} {self.why}; {self.remedy}"


def difference(written: Any, read: Any, path: str = "") -> Difference | None:
    """The first place where what was read back is not what was written; None where all is."""
    if written is read:
        return None
    if isinstance(written, BaseModel):
        return _of_models(written, read, path)
    if type(written) is not type(read) and not _is_as_good(written, read):
        return _of_types(written, read, path)
    if dataclasses.is_dataclass(written):
        names = [field.name for field in dataclasses.fields(written)]
        return _of_each(
            (getattr(written, n, None), getattr(read, n, None), _at(path, n)) for n in names
        )
    if isinstance(written, Mapping):
        return _of_mappings(written, read, path)
    if isinstance(written, AbstractSet):
        return _of_sets(written, read, path)
    if isinstance(written, Sequence) and not isinstance(written, str | bytes | bytearray):
        return _of_sequences(written, read, path)
    if isinstance(written, datetime | time):
        return _of_times(written, read, path)
    return None if _equal(written, read) else Difference(path, "would be read as another value")


def _is_as_good(written: Any, read: Any) -> bool:
    """Whether pydantic would have made the one of the other: where it is a default, nobody has."""
    if type(read) is float:
        return type(written) is int and written == read
    return type(read) in (datetime, time) and isinstance(written, type(read))


def _of_times(written: datetime | time, read: Any, path: str) -> Difference | None:
    """Compares their texts: of an hour that comes twice, `==` says that it equals nothing."""
    if written.isoformat() == read.isoformat():
        return None
    return Difference(
        path, "has a zone whose offset has seconds, which are not written", "give it in UTC"
    )


def _of_types(written: Any, read: Any, path: str) -> Difference:
    own, other = _named(written), _named(read)
    why = f"is of type {own}, and would be read as {other}"
    if isinstance(written, BaseModel) and isinstance(written, type(read)):
        return Difference(path, f"{why}, without what {own} adds", _TELL_APART)
    return Difference(path, why, f"declare it as {own}, not as what may be any, or give {other}")


def _of_models(written: BaseModel, read: Any, path: str) -> Difference | None:
    if type(written) is not type(read):
        return _of_types(written, read, path)
    own, other = fields_of(written), fields_of(read)
    return _of_each((value, other.get(name), _at(path, name)) for name, value in own.items())


def fields_of(model: BaseModel) -> dict[str, Any]:
    """The fields of a model, without what a `cached_property` has kept beside them."""
    kept = model.__dict__
    own = {name: kept[name] for name in type(model).model_fields if name in kept}
    return {**own, **(model.__pydantic_extra__ or {})}


def _of_mappings(written: Mapping[Any, Any], read: Any, path: str) -> Difference | None:
    keys = {key: key for key in read}
    for key in written:
        if key not in keys or difference(key, keys[key]):
            why = f"has a key of type {_named(key)}, which would be read as another"
            return Difference(path, why)
    if len(keys) != len(written):
        return Difference(path, "would be read with more keys")
    return _of_each((value, read[key], _at(path, str(key))) for key, value in written.items())


def _of_sets(written: AbstractSet[Any], read: Any, path: str) -> Difference | None:
    found = {one: one for one in read}
    if len(written) != len(found) or not all(one in found for one in written):
        return Difference(path, "would be read with other members")
    return _of_each((one, found[one], path) for one in written)


def _of_sequences(written: Sequence[Any], read: Any, path: str) -> Difference | None:
    if len(written) != len(read):
        return Difference(path, "would be read with more or fewer entries")
    pairs = enumerate(zip(written, read, strict=True))
    return _of_each((one, other, _at(path, str(place))) for place, (one, other) in pairs)


def _of_each(found: Iterator[tuple[Any, Any, str]]) -> Difference | None:
    for written, read, path in found:
        if different := difference(written, read, path):
            return different
    return None


def _equal(written: Any, read: Any) -> bool:
    if type(written).__eq__ is object.__eq__:  # type: ignore[comparison-overlap]
        return difference(_state(written), _state(read)) is None
    return bool(written == read)


def _state(value: Any) -> Any:
    """What makes up an object whose class says nothing of being equal."""
    return value.__reduce_ex__(2)[2]


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


_TELL_APART = "declare a union of the two, each with a Literal field by which they are told apart"


def _named(value: Any) -> str:
    return type(value).__qualname__
