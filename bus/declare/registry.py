"""Registries: which class each wire name is read as, in one part of a service. No I/O."""

from collections.abc import Iterable
from typing import Any

from bus.common.fingerprint import first_line
from bus.common.signatures import name_of
from bus.errors import ConfigurationError
from bus.messages import AnyMessage, Message, Stored, check_stored


def registry_of(where: str, messages: Iterable[type[AnyMessage]]) -> dict[str, type[AnyMessage]]:
    """Returns the classes by the wire names under which they are read, former names included.

    Raises: ConfigurationError, naming `where`, if two classes claim the same name.
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
    """Checks a class again, because types that it names may not have been defined at first."""
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
    former = [kind for kind in (message, other) if kind.wire_name != name]
    before = "".join(f" ({name_of(kind)} did formerly)" for kind in former)
    return (
        f"{both}{before}; give another name to the one that has nothing stored or sent yet, as in "
        f"`class ...(Event, name=...)` (formerly=[...] keeps the old name readable)"
    )


def generic_of(message: type[Message]) -> type[Message]:
    """Returns the generic class of a parametrised message; otherwise the message itself."""
    generic: Any = message.__pydantic_generic_metadata__["origin"]
    return generic or message
