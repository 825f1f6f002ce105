"""Registries: which class each wire name is read as, in one place of a service. No I/O."""

from collections.abc import Iterable
from typing import Any

from bus.common.fingerprint import first_line
from bus.common.signatures import name_of
from bus.errors import ConfigurationError
from bus.messages import AnyMessage, Message, Stored, check_stored


def registry_of(where: str, messages: Iterable[type[AnyMessage]]) -> dict[str, type[AnyMessage]]:
    """The classes by the wire names under which they are read, former names included.

    Raises: ConfigurationError where two classes claim one name; `where` says whose they are.
    """
    registry: dict[str, type[AnyMessage]] = {}
    for message in messages:
        if issubclass(message, Stored):
            _check(where, message)
        for name in message.wire_names():
            other = registry.setdefault(name, message)
            if other is not message:
                raise ConfigurationError(f"{where}: {_clash(message, other, name)}")
    return registry


def _check(where: str, message: type[Stored]) -> None:
    """Looks at a class that may have named types which were not there yet."""
    try:
        check_stored(message)
    except NameError as error:
        raise ConfigurationError(
            f"{where}: {name_of(message)} has a field of a type that is not there: "
            f"{first_line(error)}; define or import it in the same module, outside of "
            f"`if TYPE_CHECKING`"
        ) from None


def _clash(message: type[Message], other: type[Message], name: str) -> str:
    both = f"{name_of(message)} and {name_of(other)} both travel as {name!r}"
    if generic_of(message) is generic_of(other):
        return (
            f"{both}; name one of the two everywhere, or derive a class of its own from each, as "
            f"in `class ...({message.__name__})`"
        )
    former = [one for one in (message, other) if one.wire_name != name]
    before = "".join(f" ({name_of(one)} did formerly)" for one in former)
    return (
        f"{both}{before}; give another name to the one of which nothing is stored or sent yet, as "
        f"in `class ...(Event, name=...)` (formerly=[...] goes on reading what is)"
    )


def generic_of(message: type[Message]) -> type[Message]:
    """The generic class that was given parameters to make it; itself, where there is none."""
    generic: Any = message.__pydantic_generic_metadata__["origin"]
    return generic or message
