"""The place of one sink, as projections see places for collections."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bus.common.backoff import Backoff
from bus.data.payload import Document
from bus.errors import ConfigurationError, StoreUnavailable
from bus.stores.collections import (
    Changes,
    Collections,
    Fold,
    ReadUnit,
    StoredDocuments,
    Target,
    WritableDocuments,
    Writer,
)
from bus.stores.sink import Place, Sink

TRIES = 100
"""Of one batch, if other writers are first each time."""


class PlacedCollections(Collections):
    """The collections of one sink. What else its place can do (`Comparable`, `Watchable`) it does
    here by the same names."""

    def __init__(self, sink: Sink, place: Place) -> None:
        self.sink = sink
        self.place = place

    @property
    def label(self) -> str:
        """The sink's class, for errors."""
        return type(self.sink).__name__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "place":
            raise AttributeError(name)
        return getattr(self.place, name)

    async def open(self, *, makes: bool = True) -> None:
        await self.place.open(makes=makes)

    async def close(self) -> None:
        await self.place.close()

    async def prepare(self, target: Target) -> Sequence[str]:
        return await self.place.prepare(target)

    async def drop(self, target: Target) -> None:
        await self.place.drop(target)

    def documents(self, target: Target) -> StoredDocuments:
        raise ConfigurationError(
            f"projection {target.projection!r}: Documents[...] reads MongoDB's documents, and this "
            f"projection is kept by {self.label}; let the query take what that lends, by its type"
        )

    def writer(self, target: Target, queue: str) -> Writer:
        make = getattr(self.place, "writer", None)
        return make(target, queue) if make else SinkWriter(self.place, target)

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        return await self.place.versions(target, streams)

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        reached = getattr(self.place, "reached", None)
        return await reached(target, after, limit) if reached else {}

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        identities = getattr(self.place, "identities", None)
        return await identities(names) if identities else {}

    async def seal(self) -> Document:
        """Returns none: the seal is kept where the service's own checkpoints are."""
        return {}

    async def set_seal(self, value: Document) -> None:
        """Does nothing."""


class SinkWriter(Writer):
    """Writes batches into one collection of a place: the versions decide what is new."""

    def __init__(self, place: Place, target: Target) -> None:
        self._place = place
        self._target = target
        self._read = place.versions
        self._turn = asyncio.Lock()

    async def take_over(self) -> None:
        """Does nothing: what a predecessor writes late finds that versions have moved."""

    async def transact(
        self, streams: Sequence[str], fold: Fold, *, believed: Mapping[str, int] | None = None
    ) -> Changes:
        """Folds on the believed versions first, if there are any, and from then on on those that
        the place holds."""
        async with self._turn:
            if believed and believed.keys() >= set(streams):
                changes = await fold(_Unit(self._target, believed))
                # Of a stream that does not advance, nothing has proven the version.
                is_proven = changes.versions.keys() == believed.keys()
                if is_proven and await self.write(changes, believed):
                    return changes
            for pause in _some(Backoff(0.005, 0.5)):
                before = await self._versions(streams)
                changes = await fold(_Unit(self._target, before))
                if await self.write(changes, before):
                    return changes
                await asyncio.sleep(pause)
        raise StoreUnavailable(
            f"projection {self._target.projection!r}: other writers were first {TRIES} times, so "
            f"that {self._target.collection} was not written"
        )

    async def write(self, changes: Changes, before: Mapping[str, int]) -> bool:
        """Does what `Place.write` does."""
        return await self._place.write(self._target, changes, before)

    async def _versions(self, streams: Sequence[str]) -> dict[str, int]:
        found = await self._read(self._target, streams)
        return {stream: found.get(stream, 0) for stream in streams}

    async def close(self) -> None:
        """Does nothing: the place has the connections."""


def _some(backoff: Backoff) -> list[float]:
    return [0.0, *(next(backoff) for _ in range(TRIES - 1))]


class _Unit(ReadUnit):
    """What a fold sees: versions, and no documents; its handlers, also which collection it is."""

    def __init__(self, target: Target, versions: Mapping[str, int]) -> None:
        self.target = target
        self._versions = versions

    @property
    def versions(self) -> Mapping[str, int]:
        return self._versions

    @property
    def documents(self) -> WritableDocuments:
        raise ConfigurationError("a projection with a sink has no documents to write")
