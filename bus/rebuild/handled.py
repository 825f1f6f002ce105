"""Handled: which events a collection is made of, told by every release of the code that fills it.

While two releases run side by side, one of them may handle an event that the other has no handler
of. To pass such an event over would be to lose it: so what is handled stands in a note beside the
collection, and a worker leaves the streams to others that have events noted there which it does not
handle.
"""

from collections.abc import Mapping
from typing import Any

from bus.data.payload import Document
from bus.read.projection import Projection
from bus.stores.control import Control, change_note

Names = Mapping[str, int]
"""Wire names of events, each with the latest schema that is known of it."""


def names_of(projection: Projection[Any]) -> dict[str, int]:
    """The events that this release of the code handles."""
    return {name: event.wire_schema for name, event in projection.registry().items()}


async def handled(control: Control, collection: str) -> Names:
    """What processes of any release have said that they handle. Raises: StoreUnavailable."""
    names: Names = (await control.note(_key(collection))).value.get("handled", {})
    return names


async def served(control: Control, collection: str) -> Names:
    """What workers of any release handle; empty where none has said so yet.

    Raises: StoreUnavailable.
    """
    names: Names = (await control.note(_key(collection))).value.get("served", {})
    return names


async def tell_handled(
    control: Control, projection: Projection[Any], collection: str, *, serves: bool
) -> None:
    """Adds what this release handles; `serves` says that a worker of it runs.

    Raises: StoreUnavailable, OutcomeUnknown.
    """
    fields = ("handled", "served") if serves else ("handled",)
    own = names_of(projection)

    def added(document: Document) -> Document:
        return {**document, **{one: _latest(document.get(one, {}), own) for one in fields}}

    await change_note(control, _key(collection), added)


def beyond(own: Names, others: Names) -> list[str]:
    """The names that are not among the others', or in a later schema there."""
    return sorted(name for name, schema in own.items() if schema > others.get(name, 0))


def _latest(one: Names, other: Names) -> dict[str, int]:
    names = sorted({*one, *other})
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in names}


def _key(collection: str) -> str:
    return f"{collection}/handled"
