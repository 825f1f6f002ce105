"""What a class may be, besides its fields' types: its options, names, `upcast`, its base. Pure."""

import inspect
from collections.abc import Mapping

from pydantic import BaseModel, RootModel

from bus.common.signatures import inspected, name_of
from bus.errors import ConfigurationError


def check_names(kind: type[BaseModel], base: type[BaseModel]) -> None:
    """Checks the names of a message's fields.

    Raises: ConfigurationError for a field that hides an attribute which the bus needs on its
    messages, and for a RootModel, which has no fields.
    """
    if issubclass(kind, RootModel):
        raise ConfigurationError(
            f"{name_of(kind)}: a message is an object with fields, and a RootModel is none; give "
            f"it one field that holds what its root does"
        )
    own = {name for name in vars(base) if not name.startswith("_")}
    for name in own & kind.__pydantic_fields__.keys():
        raise ConfigurationError(
            f"{name_of(kind)}: {name} is what every message has of its own; rename the field, and "
            f"where data by that name is to be read, give it Field(alias={name!r})"
        )


def check_upcast(kind: type) -> None:
    """Raises: ConfigurationError for an `upcast` that could not be called, or is async."""
    upcast = inspect.getattr_static(kind, "upcast")
    if not isinstance(upcast, classmethod | staticmethod):
        raise ConfigurationError(
            f"{name_of(kind)}: upcast() is called with data, before there is an object; put "
            f"@classmethod above it: def upcast(cls, data, schema)"
        )
    if inspect.iscoroutinefunction(upcast.__func__):
        raise ConfigurationError(
            f"{name_of(kind)}: upcast() is async, and nobody would await it; write `def upcast`"
        )
    try:
        inspected(upcast.__get__(None, kind)).bind({}, 1)
    except ValueError:  # written in C
        return
    except TypeError as error:
        raise ConfigurationError(
            f"{name_of(kind)}: upcast() is called with two by position, the data and the schema "
            f"that it was written with, and does not take them ({error}); write @classmethod, "
            f"def upcast(cls, data, schema)"
        ) from error


def unknown_options(kind: type, options: Mapping[str, object], known: str) -> ConfigurationError:
    """Returns the error for class options that no base class takes."""
    named = ", ".join(f"{name}=" for name in options)
    return ConfigurationError(f"{name_of(kind)}: its class takes no {named}; it takes {known}")
