"""The place for documents of a service that has none, because it has no projections."""

from collections.abc import Collection, Sequence
from typing import NoReturn

from bus.data.payload import Document
from bus.errors import ConfigurationError
from bus.stores.collections import Collections, StoredDocuments, Target, Writer
from bus.stores.control import Control, change_note

SEAL = "commits/seal"
"""The key of the note that holds the seal."""


class NoCollections(Collections):
    """Has no documents, and refuses to be asked for some. Its seal is among the notes."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def open(self, *, makes: bool = True) -> None: ...

    async def close(self) -> None: ...

    async def prepare(self, target: Target) -> Sequence[str]:
        refuse(target)

    async def drop(self, target: Target) -> None: ...

    def documents(self, target: Target) -> StoredDocuments:
        refuse(target)

    def writer(self, target: Target, queue: str) -> Writer:
        refuse(target)

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        refuse(target)

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        refuse(target)

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        return {}

    async def seal(self) -> Document:
        return (await self._control.note(SEAL)).value

    async def set_seal(self, value: Document) -> None:
        def newer(found: Document) -> Document:
            return found if found.get("turn", 0) > value["turn"] else value

        await change_note(self._control, SEAL, newer)


def refuse(target: Target) -> NoReturn:
    """Raises: ConfigurationError."""
    raise ConfigurationError(
        f"projection {target.projection!r}: this service has no place for documents, because "
        f"BUS_MONGO_URL is not set; set it"
    )
