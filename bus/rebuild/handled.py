"""Handled: which events a collection is made of, noted by every release of the code that fills it.

While two releases run side by side, one may handle an event that the other has no handler for. To
pass it over would be to lose it; so a note beside the collection lists what is handled, and workers
leave to others the streams with noted events that they do not handle.
"""

from collections.abc import Mapping
from typing import Any

from bus.data.payload import Document
from bus.read.projection import Projection
from bus.stores.control import Control, change_note

Names = Mapping[str, int]
"""Wire names of events, each with its latest known schema."""


def names_of(projection: Projection[Any]) -> dict[str, int]:
    """Returns the events that this release of the code handles."""
    return {name: event.wire_schema for name, event in projection.registry().items()}


async def handled(control: Control, collection: str) -> Names:
    """Returns what processes of any release have noted. Raises: StoreUnavailable."""
    names: Names = (await control.note(_key(collection))).value.get("handled", {})
    return names


async def served(control: Control, collection: str) -> Names:
    """Returns what workers of any release have noted; empty if none has yet.

    Raises: StoreUnavailable.
    """
    names: Names = (await control.note(_key(collection))).value.get("served", {})
    return names


async def note_handled(
    control: Control, projection: Projection[Any], collection: str, *, serves: bool
) -> None:
    """Adds what this release handles to the note; `serves` says that a worker of it runs.

    Raises: StoreUnavailable, OutcomeUnknown.
    """
    fields = ("handled", "served") if serves else ("handled",)
    own = names_of(projection)

    def added(document: Document) -> Document:
        return {**document, **{field: _latest(document.get(field, {}), own) for field in fields}}

    await change_note(control, _key(collection), added)


def beyond(own: Names, others: Names) -> list[str]:
    """Returns the names that the others lack, or have in an earlier schema only."""
    return sorted(name for name, schema in own.items() if schema > others.get(name, 0))


def _latest(one: Names, other: Names) -> dict[str, int]:
    names = sorted({*one, *other})
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in names}


def _key(collection: str) -> str:
    return f"{collection}/handled"
