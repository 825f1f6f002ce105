"""The service's documents and the places of its sinks, as one place: each target says whose it is.

A sink's place may be away while all others work: then its projection stands still, nothing else.
"""

from collections.abc import Collection, Mapping, Sequence

from bus.common.tasks import together
from bus.data.payload import Document
from bus.errors import StoreUnavailable
from bus.observe.log import Logger
from bus.stores.collections import (
    UNKNOWN,
    Collections,
    Divided,
    StoredDocuments,
    Target,
    Writer,
)
from bus.stores.sink import kept_elsewhere
from bus.stores.sinks.placed import PlacedCollections

log = Logger("bus.stores")


class DividedCollections(Divided):
    """`own` has the projections without a sink; `placed` the others, by projection."""

    def __init__(self, own: Collections, placed: Mapping[str, PlacedCollections]) -> None:
        self.own = own
        self.placed = placed

    def place_of(self, target: Target) -> Collections:
        """Raises: NotBuilt if another release of the code keeps it elsewhere."""
        if not target.place:
            return self.own
        placed = self.placed.get(target.projection)
        if placed is None or placed.sink.kind != target.place:
            raise kept_elsewhere(target, placed.sink if placed else None)
        return placed

    async def open(self, *, makes: bool = True) -> None:
        """Raises: what the service's own place raises. A sink's place that is away is logged."""
        await self.own.open(makes=makes)
        await together(*(self._open(name, makes) for name in self.placed))

    async def _open(self, name: str, makes: bool) -> None:
        try:
            await self.placed[name].open(makes=makes)
        except StoreUnavailable as error:
            log.warning("sink_unavailable", projection=name, reason=str(error))

    async def close(self) -> None:
        await together(self.own.close(), *(placed.close() for placed in self.placed.values()))

    async def prepare(self, target: Target) -> Sequence[str]:
        return await self.place_of(target).prepare(target)

    async def drop(self, target: Target) -> None:
        await self.place_of(target).drop(target)

    def documents(self, target: Target) -> StoredDocuments:
        return self.place_of(target).documents(target)

    def writer(self, target: Target, queue: str) -> Writer:
        return self.place_of(target).writer(target, queue)

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        return await self.place_of(target).versions(target, streams)

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        return await self.place_of(target).reached(target, after, limit)

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Returns UNKNOWN for collections of a sink whose place is away, if they are asked for."""
        found = await self.own.identities(names)
        for projection, placed in self.placed.items():
            own = None if names is None else [name for name in names if _is_of(projection, name)]
            if own is None or own:
                found |= await self._identities(placed, own)
        return found

    async def _identities(
        self, placed: PlacedCollections, names: Collection[str] | None
    ) -> dict[str, str]:
        try:
            return await placed.identities(names)
        except StoreUnavailable:
            return dict.fromkeys(names or (), UNKNOWN)

    async def seal(self) -> Document:
        return await self.own.seal()

    async def set_seal(self, value: Document) -> None:
        await self.own.set_seal(value)


def _is_of(projection: str, collection: str) -> bool:
    return collection.rpartition("__v")[0] == projection
