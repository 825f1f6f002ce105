"""Reads what event handlers wrote through their `Session`, for a test to compare."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

from bus.assembly.runtime import HasRuntime
from bus.common import clock
from bus.data.payload import Document
from bus.errors import ConfigurationError
from bus.stores.collections import Collections, Target
from bus.stores.event_log import Commit
from bus.stores.session import Session, owner_of


class _Read(Exception):
    """Ends a transaction that only reads."""


async def written(bus: HasRuntime, collection: str) -> dict[Any, Document]:
    """Returns the documents, by key, of a collection that event handlers write through their
    `Session`; in memory as in MongoDB.

        assert await written(bus, "mail_queue") == {"m1": {"to": "ada"}}

    Raises: ConfigurationError if the bus is not open here, or the collection belongs to the bus or
    to a projection; StoreUnavailable.
    """
    runtime = bus.runtime.usable()
    _check(collection, [projection.name for projection in runtime.projections])
    found: list[Document] = []

    async def read(session: Session) -> Sequence[Commit]:
        found[:] = await session.documents(collection).find({})
        raise _Read

    with suppress(_Read):
        await runtime.effects.once(clock.new_id(), read)
    return _by_key(found)


async def documents_in(
    collections: Collections, collection: str, projected: Collection[str]
) -> dict[Any, Document]:
    """Returns all documents of a collection, by key. Raises: what `written` raises."""
    _check(collection, projected)
    target = Target(collection, collection, versions_in_documents=False)
    return _by_key(await collections.documents(target).find({}))


def _check(collection: str, projected: Collection[str]) -> None:
    if owner := owner_of(collection, projected):
        raise ConfigurationError(
            f"written({collection!r}): this collection belongs to {owner}, and no session writes "
            f"it; name one that a handler gives to session.documents(...), and read what a "
            f"projection made by a query"
        )


def _by_key(found: Sequence[Document]) -> dict[Any, Document]:
    return {document.pop("_id"): document for document in found}
