"""Reads what event handlers wrote through their `Session`, for a test to compare."""

from collections.abc import Collection
from typing import Any

from bus.assembly.runtime import HasRuntime
from bus.data.payload import Document
from bus.errors import ConfigurationError
from bus.stores.collections import Collections, Target
from bus.stores.session import owner_of


async def written(bus: HasRuntime, collection: str) -> dict[Any, Document]:
    """Returns the documents, by key, of a collection that event handlers write through their
    `Session`; in memory as in MongoDB.

        assert await written(bus, "mail_queue") == {"m1": {"to": "ada"}}

    Raises: ConfigurationError if the bus is not open here, or the collection belongs to the bus or
    to a projection; StoreUnavailable.
    """
    runtime = bus.runtime.usable()
    projected = [projection.name for projection in runtime.projections]
    return await documents_in(runtime.collections, collection, projected)


async def documents_in(
    collections: Collections, collection: str, projected: Collection[str]
) -> dict[Any, Document]:
    """Returns all documents of a collection, by key. Raises: what `written` raises."""
    if owner := owner_of(collection, projected):
        raise ConfigurationError(
            f"written({collection!r}): this collection belongs to {owner}, and no session writes "
            f"it; name one that a handler gives to session.documents(...), and read what a "
            f"projection made by a query"
        )
    target = Target(collection, collection, versions_in_documents=False)
    found = await collections.documents(target).find({})
    return {document.pop("_id"): document for document in found}
