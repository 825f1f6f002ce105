"""What cannot be written as JSON, or read back: why, where, and what to do. Pure."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from bus.common.exceptions import own
from bus.data.round_trip import fields_of

Write = Callable[[Any], object]
"""Writes the part of a value that its argument selects, as pydantic's `include=` does."""


def unwritten(value: Any, error: Exception, write: Write) -> str:
    """Returns where in a value that cannot be written the fault is, why, and the remedy."""
    path, part = _seek(value, write, [])
    where = ".".join(map(str, path))
    return f"{f'{where}: ' if where else ''}{error}; {_remedy(value, path, part)}"


def why_unreadable(message: BaseModel) -> str:
    """Returns, in words, whether a message's class takes its values, and what to do."""
    try:
        values = message.__pydantic_serializer__.to_python(message, round_trip=True, warnings=False)
        message.__pydantic_validator__.validate_python(values, by_alias=True, by_name=True)
    except BaseException as error:
        if not own(error):
            raise
        return (
            "does not take these values: they were changed since it was made, or it was made by "
            "model_copy(update=) or model_construct, which check nothing, or they are a default "
            "of another type, or what a validator makes and refuses; correct that"
        )
    return (
        "takes its values, and not what is written of them: let its validators take that too, or "
        "declare a type that is read as it is written"
    )


def _seek(value: Any, write: Write, path: list[Any]) -> tuple[list[Any], Any]:
    for key, part in _parts(value):
        include: Any = True
        for step in reversed([*path, key]):
            include = {step: include}
        try:
            write(include)
        except Exception:
            return _seek(part, write, [*path, key])
    return path, value


def _parts(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, BaseModel):
        return fields_of(value).items()
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return [(name, getattr(value, name, None)) for name in names]
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return enumerate(value)
    return ()


def _remedy(value: Any, path: Sequence[Any], part: Any) -> str:
    if not isinstance(part, bytes | bytearray):
        return "give its field a type that says what it is, or a serializer and a validator"
    holder = value if isinstance(value, BaseModel) else None
    for key in path:
        value = dict(_parts(value))[key]
        holder = value if isinstance(value, BaseModel) else holder
    by = f" in {type(holder).__name__}" if holder else " of a pydantic model"
    return (
        f"bytes are written as text: declare a field of bytes{by}, with model_config = "
        f'ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")'
    )
