"""Which fields a message may declare: those that can be read back as they are written.

Reads pydantic's core schemas; pure. What a schema does not show, `round_trip` compares.
"""

import dataclasses
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, Never, NoReturn

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter

from bus.common.fingerprint import first_line
from bus.common.signatures import plain, shown
from bus.errors import ConfigurationError

Schema = Mapping[str, Any]
"""What pydantic compiles a type into: a core schema."""

HIDING = "_serialize_secret"
"""How the names of pydantic's serializers of SecretStr, SecretBytes and Secret begin."""

NOT_GONE_INTO = frozenset({"metadata", "config", "serialization", "default", "expected", "members"})
ONLY_CHECKED = frozenset({"is-instance", "is-subclass", "callable"})
READ_OTHERWISE = frozenset(
    {"function-before", "function-wrap", "function-plain", "lax-or-strict", "json-or-python"}
)
PLAIN = frozenset(
    {"str", "int", "float", "bool", "none", "decimal", "uuid", "date", "datetime", "time",
     "timedelta", "enum", "literal", "nullable", "default", "list", "set", "frozenset", "tuple",
     "dict", "model", "model-fields", "model-field"}
)  # fmt: skip
"""The types for which `==` shows whether a value came back as it was."""


def check_declared(schema: Schema, where: str, *, lasting: bool) -> None:
    """Checks a schema.

    Raises: ConfigurationError for a field that could never be read back as it is written, or (with
    `lasting`) not at a later time.
    """
    for field, problem in _problems(schema, {}, "", _definitions(schema)):
        if lasting or problem != _FLEETING:
            raise ConfigurationError(f"{where}: {field or 'it'} {problem}")


def adapter_of(kind: Any, where: str) -> TypeAdapter[Any]:
    """Returns what writes and reads values of a type.

    It writes NaN as NaN, which is then refused; by default pydantic would write null.
    Raises: ConfigurationError for a type that cannot be written or read.
    """
    kind = None if kind in (NoReturn, Never) else kind
    try:
        adapter = _adapter(kind)
    except PydanticUserError:
        raise ConfigurationError(f"{where}: {undescribed([('', kind)])}") from None
    if adapter.pydantic_complete:  # else it names types that are not defined yet
        check_declared(adapter.core_schema, where, lasting=False)
    return adapter


def _adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(kind, config=ConfigDict(ser_json_inf_nan="constants"))
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        return TypeAdapter(kind)  # a model has its own configuration


def undescribed(fields: Iterable[tuple[str, Any]]) -> str:
    """Returns which part of these types pydantic has no schema for, and what to do."""
    for path, kind in fields:
        if _problem(kind) and (found := _undescribed(kind, path, [])):
            where, part = found
            return f"{where or 'it'} {_words(part)}"
    return "pydantic makes no schema of it; declare its fields of types that pydantic knows"


def _undescribed(kind: Any, path: str, seen: list[Any]) -> tuple[str, Any] | None:
    bare = plain(kind)
    if not _problem(bare):  # the fault is in what is written around the type
        return path, kind
    parts = [(name, part) for name, part in _parts(bare) if _problem(part)]
    if not parts:
        return path, bare
    for name, part in parts:
        below = f"{path}.{name}".strip(".")
        if part not in seen and (found := _undescribed(part, below, [*seen, bare])):
            return found
    return None


def _parts(kind: Any) -> Iterable[tuple[str, Any]]:
    """Returns the types that a type consists of, with the names of fields."""
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind) or hasattr(kind, "_fields"):
        with suppress(NameError):
            return typing.get_type_hints(kind, include_extras=True).items()
    return [("", part) for part in typing.get_args(kind)]


def _problem(kind: Any) -> PydanticUserError | None:
    try:
        TypeAdapter(kind)
    except PydanticUserError as error:
        return error
    return None


def _words(part: Any) -> str:
    error = _problem(part)
    if error is None or error.code == "schema-for-unknown-type":
        words = _UNDESCRIBED
    elif error.code == "typed-dict-version":
        words = _OLD_DICT
    else:
        return f"cannot be taken as it is declared; pydantic says: {first_line(error)}"
    return words.format(part.__qualname__ if isinstance(part, type) else shown(part))


def is_plain(schema: Any) -> bool:
    """Returns whether all types are read in one way only, into new objects each time, and equal no
    value of another type."""
    if isinstance(schema, list | tuple):
        return all(map(is_plain, schema))
    if not isinstance(schema, dict):
        return True
    if "type" in schema and not _is_plain_type(schema):
        return False
    return all(is_plain(value) for key, value in schema.items() if key not in NOT_GONE_INTO)


def mixes_numbers(schema: Any) -> bool:
    """Returns whether a union leaves open if a number is an integer, as in
    `tuple[float, ...] | tuple[int, ...]`: as JSON it is a list, which either member takes."""
    if isinstance(schema, list | tuple):
        return any(map(mixes_numbers, schema))
    if not isinstance(schema, dict):
        return False
    if schema.get("type") == "union":
        kinds = set(_types_within(schema["choices"]))
        if "float" in kinds and kinds & {"int", "any"}:
            return True
    return any(mixes_numbers(value) for key, value in schema.items() if key not in NOT_GONE_INTO)


def _types_within(schema: Any) -> Iterator[str]:
    """Yields the types in a part, except those of fields, whose names distinguish them."""
    if isinstance(schema, list | tuple):
        for part in schema:
            yield from _types_within(part)
    elif isinstance(schema, dict) and "fields" not in schema:
        if isinstance(schema.get("type"), str):
            yield schema["type"]
        for key, value in schema.items():
            if key not in NOT_GONE_INTO and key != "schema_ref":
                yield from _types_within(value)


def _is_plain_type(part: Schema) -> bool:
    match part["type"]:
        case _ if "serialization" in part or _takes_extras(part) or _writes_times_otherwise(part):
            return False
        case "model":
            return bool(part["cls"].__eq__ is BaseModel.__eq__)
        case "literal":
            return all(isinstance(value, str | None) for value in part["expected"])
        case "dict":
            return bool(
                part.get("keys_schema", {}).get("type") == "str" and "values_schema" in part
            )
        case "list" | "set" | "frozenset":
            return "items_schema" in part
        case kind:
            return kind in PLAIN


def _takes_extras(part: Schema) -> bool:
    config = part.get("config") or {}
    return "allow" in (part.get("extras_behavior"), config.get("extra_fields_behavior"))


def _writes_times_otherwise(part: Schema) -> bool:
    """Returns whether times are written as numbers: without zones, whose loss `==` does not see."""
    config = part.get("config") or {}
    return "ser_json_temporal" in config and config["ser_json_temporal"] != "iso8601"


def _definitions(schema: Schema) -> dict[str, Schema]:
    """Returns the parts to which others refer, by their names."""
    return {part["ref"]: part for part in schema.get("definitions", ())}


def _problems(
    part: Any, config: Schema, path: str, pending: dict[str, Schema]
) -> Iterator[tuple[str, str]]:
    """Yields the fields that could never be read back, each with what is wrong."""
    if isinstance(part, list | tuple):
        for item in part:
            yield from _problems(item, config, path, pending)
        return
    if not isinstance(part, dict):
        return
    while part.get("type") in ("definitions", "definition-ref"):
        # Looked into once, where it is first referred to: recursive types would never end.
        part = part["schema"] if "schema" in part else pending.pop(part["schema_ref"], {})
    if part.get("type") == "generator":
        yield path, _ONCE
    if part.get("now_op") == "future":
        yield path, _FLEETING
    if part.get("type") in ONLY_CHECKED:
        yield path, _NAMED
    if part.get("type") == "literal":
        yield from ((path, _LITERAL.format(value)) for value in part["expected"] if _is_lost(value))
    serializer = part.get("serialization", {}).get("function")
    if getattr(serializer, "__name__", "").startswith(HIDING):
        yield path, _SECRET
        return
    if serializer is not None and not _is_of_pydantic(serializer):
        return  # an author's serializer may write anything, so each value is compared
    config = part.get("config") or config
    for key, value in part.items():
        if key == "fields" and part["type"] != "dataclass":  # which only names them there
            found = _problems_of_fields(value, config, path, pending)
        elif key not in NOT_GONE_INTO:
            found = _problems(value, config, path, pending)
        else:
            continue
        if part.get("type") in READ_OTHERWISE:
            found = ((at, why) for at, why in found if not why.startswith(UNLESS_OTHERWISE))
        yield from found


def _is_lost(value: Any) -> bool:
    """Returns whether a Literal's value is written as one that the Literal does not hold."""
    return isinstance(value, bytes) or (isinstance(value, Enum) and value != value.value)


def _problems_of_fields(
    fields: Any, config: Schema, path: str, pending: dict[str, Schema]
) -> Iterator[tuple[str, str]]:
    named = fields if isinstance(fields, dict) else {field["name"]: field for field in fields}
    for name, field in named.items():
        place = f"{path}.{name}" if path else name
        if field.get("serialization_exclude"):
            yield place, _EXCLUDED
        written, read = field.get("serialization_alias", name), _keys_read(name, field, config)
        if written not in read:
            yield place, _ONE_WAY.format(written, " or ".join(map(repr, sorted(read))) or "a path")
        yield from _problems(field, config, place, pending)


def _keys_read(name: str, field: Schema, config: Schema) -> set[str]:
    """Returns the keys under which a field is looked up."""
    alias = field.get("validation_alias")
    if alias is None:
        return {name}
    found = set()
    if config.get("validate_by_alias", True):
        paths = [[alias]] if isinstance(alias, str) else alias
        paths = paths if isinstance(paths[0], list) else [paths]
        found = {path[0] for path in paths if len(path) == 1}
    if config.get("validate_by_name") or config.get("populate_by_name"):
        found.add(name)
    return found


def _is_of_pydantic(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).startswith("pydantic")


_SECRET = (
    "is a secret of pydantic's, which would be stored as asterisks; declare it as str, with "
    "Field(repr=False) to keep it out of logs, or give it a serializer that writes what is in it"
)
_EXCLUDED = (
    "has exclude=True, so it would not be stored, and be lost; take it out of the class, or make "
    "it a PrivateAttr"
)
_ONE_WAY = (
    "is written as {!r} and read as {}, so what is stored could not be read back; give it one name "
    "for both, as in Field(alias=...)"
)
_FLEETING = (
    "has to be in the future, so that the event could not be read any more once that time has "
    "come; check it in the command or in the aggregate, and let the event hold any time"
)
_UNDESCRIBED = (
    "is {}, which pydantic can neither write nor read; make it a dataclass or a pydantic model, or "
    "give it a PlainSerializer and a PlainValidator, by Annotated"
)
_OLD_DICT = (
    "is {}, a TypedDict of typing, which tells pydantic too little before Python 3.12; take that "
    "of typing_extensions"
)
_NAMED = (
    "is of a type that pydantic only knows by name; make it a dataclass or a "
    "pydantic model, or give it a PlainSerializer and a PlainValidator, by Annotated"
)
_LITERAL = (
    "is a Literal of {}, which is written as its value, and not read from that; name the value "
    "itself, as in Literal['red'], or let the enum be a StrEnum or an IntEnum"
)
UNLESS_OTHERWISE = (_NAMED, _LITERAL.partition("{")[0])
"""What is no problem if a validator runs first, which may read what is written."""
_ONCE = "can be gone through only once; declare it as list[...] or tuple[..., ...]"
