"""Read collections in memory, durable as long as the process; or saved elsewhere, by batches."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import datetime
from typing import NamedTuple

from bus.common import clock
from bus.data.payload import Document
from bus.errors import StoreUnavailable
from bus.stores.collections import (
    Browsable,
    ChangeFeed,
    Comparable,
    LoadsInBulk,
    StoredDocuments,
    Target,
    Watchable,
    Writer,
)
from bus.stores.memory.changes import MemoryChangeFeed
from bus.stores.memory.documents import MemoryDocuments, MemoryWriter, Tables
from bus.stores.memory.engine import Table

SEALED = "checkpoints"
"""The name under which the seal is saved, which no read collection can have."""


class MemoryCollections(LoadsInBulk, Comparable, Watchable, Browsable):
    """Read collections; transactions with snapshot isolation, first committer wins."""

    def __init__(self, tables: Tables | None = None) -> None:
        self.tables = tables or Tables()
        """Shared with the effects in memory."""
        self.handled: dict[str, datetime] = {}
        """Their marks, the oldest first."""
        self._seal: Document = {}

    async def open(self, *, makes: bool = True) -> None:
        """Does nothing: there is nothing to connect to."""

    async def close(self) -> None:
        """Does nothing: nothing is in flight."""

    async def prepare(self, target: Target) -> Sequence[str]:
        """Makes the collection; here nothing can have been made with other options before."""
        self.tables.prepare(target)
        return ()

    def documents(self, target: Target) -> StoredDocuments:
        return MemoryDocuments(self.tables, target)

    def changes(self, target: Target) -> ChangeFeed:
        return MemoryChangeFeed(self.tables.listeners, target.collection)

    def writer(self, target: Target, queue: str) -> Writer:
        """Returns a writer. Writers of one store share nothing that one could leave locked."""
        return MemoryWriter(self.tables, target)

    async def insert(self, target: Target, documents: Sequence[Document]) -> None:
        self.tables.insert(target, documents)

    async def page(self, target: Target, after: str, limit: int) -> list[Document]:
        table = self.tables.of(target)
        keys = sorted(key for key in table if isinstance(key, str) and key > after)
        return deepcopy([table[key] for key in keys[:limit]])

    async def whole(self, target: Target, keys: Sequence[str]) -> dict[str, Document]:
        table = self.tables.of(target)
        return deepcopy({key: table[key] for key in keys if key in table})

    async def sample(self, target: Target, count: int) -> list[str]:
        return sorted(self.tables.of(target), key=lambda _: clock.source.fraction())[:count]

    async def replace(
        self, target: Target, key: str, found: Document | None, wanted: Document | None
    ) -> bool:
        with self.tables.lock:
            if self.tables.of(target).get(key) != found:
                return False
            self.tables.put(target, key, wanted)
        return True

    async def show(self, name: str, target: Target | None) -> str | None:
        """Does nothing: nobody reads here except by the bus."""
        return None

    async def drop(self, target: Target) -> None:
        self.tables.drop(target)

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        return self.tables.versions(target, streams)

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        keys = sorted(key for key in self.tables.keys(target) if key > after)[:limit]
        return self.tables.versions_of(target, keys)

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        all = dict(self.tables.identities)
        return {name: all[name] for name in all if names is None or name in names}

    async def seal(self) -> Document:
        return deepcopy(self._seal)

    async def set_seal(self, value: Document) -> None:
        """Replaces the seal; checkpoints here cannot be lost without it."""
        with self.tables.lock:
            if value["turn"] >= self._seal.get("turn", 0):
                self._seal = deepcopy(value)


class Saved(NamedTuple):
    """A collection as it is saved: its documents by key, hidden ones too; the versions of streams
    if they are kept apart from them; and its identity."""

    documents: Table
    versions: dict[str, int]
    identity: str


class SavedCollections(MemoryCollections, ABC):
    """Read collections that one process holds in memory, and saves as a whole with each batch.

    Places that hold little (a folder of files, a bucket) share it. Another process, which only
    reads, sees what was saved when it opened. Subclasses write `load`, `save` and `remove`, whose
    OSError is raised as StoreUnavailable.
    """

    def __init__(self) -> None:
        super().__init__(_SavedTables(self))

    @abstractmethod
    def load(self) -> Mapping[str, Saved]:
        """Returns all that is saved, by the names of collections."""

    @abstractmethod
    def save(self, name: str, saved: Saved) -> None:
        """Saves a collection in place of what it was: whole or not at all, durable on return."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Removes a collection, if it is there."""

    async def open(self, *, makes: bool = True) -> None:
        with self.tables.lock, unavailable():
            for name, saved in self.load().items():
                if name == SEALED:
                    self._seal = saved.documents["seal"]
                else:
                    self.tables.restore(name, saved.documents, saved.versions, saved.identity)

    async def set_seal(self, value: Document) -> None:
        await super().set_seal(value)
        with unavailable():
            self.save(SEALED, Saved({"seal": self._seal}, {}, SEALED))


class _SavedTables(Tables):
    """Saves a change before making it: what could not be saved has not happened."""

    def __init__(self, place: SavedCollections) -> None:
        super().__init__()
        self._place = place

    def prepare(self, target: Target) -> None:
        is_new = target.collection not in self.identities
        super().prepare(target)
        if is_new:
            self._save(target.collection, {}, {})

    def drop(self, target: Target) -> None:
        with unavailable():
            self._place.remove(target.collection)
        super().drop(target)

    def _put(self, collection: str, table: Table, versions: Mapping[str, int]) -> None:
        self._save(collection, table, {**self.apart(collection), **versions})
        super()._put(collection, table, versions)

    def _save(self, collection: str, table: Table, versions: dict[str, int]) -> None:
        identity = self.identities.get(collection, "")
        with unavailable():
            self._place.save(collection, Saved(table, versions, identity))


@contextmanager
def unavailable() -> Iterator[None]:
    """Raises StoreUnavailable for an OSError within."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"collections cannot be saved or loaded: {error}") from error
