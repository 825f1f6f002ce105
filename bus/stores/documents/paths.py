"""Where an update's path leads in a document, as in MongoDB: through objects and arrays."""

from typing import Any

from bson.decimal128 import Decimal128
from bson.int64 import Int64

from bus.data.payload import Document

MOST_PADDED = 1_500_000
"""How many entries MongoDB adds to an array at most, to reach a place in it."""


class Refused(Exception):
    """MongoDB would refuse the update. The document must not be used any more."""

    def __init__(self, why: str, where: str = "") -> None:
        super().__init__(f"{where}: {why}" if where else why)
        self.why = why


class NotViable(Refused):
    """A path leads through a value that is neither an object nor an array."""


def holder_of(document: Any, parents: list[str], *, making: bool) -> Document | list[Any] | None:
    """Returns what holds the field; None if nothing does, unless it is `making` that.

    Raises: NotViable.
    """
    outer: list[str] = []
    for name in parents:
        outer.append(name)
        if not is_there(document, name):
            if not making:
                return None
            _make(document, name)
        document = document[int(name) if type(document) is list else name]
        if type(document) not in (dict, list):
            raise NotViable(
                f"{'.'.join(outer)!r:.300} holds {shown(document)}, and a path leads only through "
                f"objects; set the whole object first"
            )
    return document  # type: ignore[no-any-return]


def is_there(holder: Document | list[Any], name: str) -> bool:
    if isinstance(holder, dict):
        return name in holder
    if not is_place(name):
        raise NotViable(f"an array is there, which has no field {name!r:.100}; give a place in it")
    return int(name) < len(holder)


def is_place(name: str) -> bool:
    """Returns whether a name may be a place in an array."""
    return name.isascii() and name.isdigit() and (name == "0" or name[0] != "0")


def _make(holder: Document | list[Any], name: str) -> None:
    if isinstance(holder, dict):
        holder[name] = {}
    else:
        pad(holder, name)
        holder.append({})


def pad(entries: list[Any], name: str) -> None:
    if int(name) - len(entries) > MOST_PADDED:
        raise Refused(f"place {name} lies far beyond the array's end; append to it")
    entries += [None] * (int(name) - len(entries))


def shown(value: Any) -> str:
    """Returns the kind of a value, in words that do not quote it."""
    if value is None:
        return "None"
    return NAMES.get(type(value)) or f"a {type(value).__name__}"


NAMES = {
    str: "text",
    bool: "a bool",
    int: "an int",
    dict: "an object",
    list: "an array",
    Int64: "an int",
    Decimal128: "a Decimal",
}
