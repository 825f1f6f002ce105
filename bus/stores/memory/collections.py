"""Read collections in memory, durable as long as the process; or saved elsewhere, by batches."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import datetime
from functools import partial
from typing import NamedTuple, TypeVar

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
from bus.stores.memory.documents import (
    TRIES,
    MemoryConflict,
    MemoryDocuments,
    MemoryWriter,
    Tables,
)
from bus.stores.memory.engine import Table

Result = TypeVar("Result")

SEALED = "checkpoints"
"""The name under which the seal is saved, which no read collection can have."""


class MemoryCollections(LoadsInBulk, Comparable, Watchable, Browsable):
    """Read collections; transactions with snapshot isolation, first committer wins."""

    def __init__(self, tables: Tables | None = None) -> None:
        self.tables = tables or Tables()
        """Shared with the effects in memory."""
        self.handled: dict[str, datetime] = {}
        """Their marks, the oldest first."""

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
        return deepcopy(self.tables.seal)

    async def set_seal(self, value: Document) -> None:
        """Replaces the seal; checkpoints here cannot be lost without it."""
        with self.tables.lock:
            if value["turn"] >= self.tables.seal.get("turn", 0):
                self.tables.put_seal(deepcopy(value))


class Saved(NamedTuple):
    """A collection as it is saved: its documents by key, hidden ones too; the versions of streams
    if they are kept apart from them; its identity; and which copy of it this is."""

    documents: Table
    versions: dict[str, int]
    identity: str
    revision: str = ""


class SavedCollections(MemoryCollections, ABC):
    """Read collections that one process holds in memory, and saves as a whole with each batch.

    Places that hold little (a folder of files, a bucket) share it. Another process, which only
    reads, sees what was saved when it opened. One that writes loads all anew when it takes over a
    queue, and whenever another process saved first. Subclasses write `load`, `save` and `remove`,
    whose OSError is raised as StoreUnavailable.
    """

    def __init__(self) -> None:
        self._saved = _SavedTables(self)
        super().__init__(self._saved)

    @abstractmethod
    def load(self) -> Mapping[str, Saved]:
        """Returns all that is saved, by the names of collections."""

    @abstractmethod
    def save(self, name: str, saved: Saved, before: str) -> bool:
        """Saves a collection in place of the copy whose revision is `before` ("": of none): whole
        or not at all, durable on return.

        Returns False, and saves nothing, where another copy stands there, or none any more. No
        other process may come between the look and the save: hold a lock, or let the place compare.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Removes a collection, if it is there."""

    async def open(self, *, makes: bool = True) -> None:
        self._saved.load()

    def writer(self, target: Target, queue: str) -> Writer:
        return _SavedWriter(self._saved, target)

    async def prepare(self, target: Target) -> Sequence[str]:
        return await self._insist(partial(super().prepare, target))

    async def insert(self, target: Target, documents: Sequence[Document]) -> None:
        await self._insist(partial(super().insert, target, documents))

    async def replace(
        self, target: Target, key: str, found: Document | None, wanted: Document | None
    ) -> bool:
        return await self._insist(partial(super().replace, target, key, found, wanted))

    async def set_seal(self, value: Document) -> None:
        await self._insist(partial(super().set_seal, value))

    async def _insist(self, write: Callable[[], Awaitable[Result]]) -> Result:
        """Writes, and does so again on what was loaded anew where another process was first."""
        for _ in range(TRIES):
            try:
                return await write()
            except MemoryConflict:
                await asyncio.sleep(0)
        raise StoreUnavailable(
            f"collections cannot be saved: other processes were first {TRIES} times"
        )


class _SavedTables(Tables):
    """Saves a change before making it: what could not be saved has not happened."""

    def __init__(self, place: SavedCollections) -> None:
        super().__init__()
        self._place = place
        self._revisions: dict[str, str] = {}
        """Of the copies that were loaded or saved last, by collection."""
        self._loaded: dict[str, int] = {}
        """When a collection was loaded in place of another copy."""

    def load(self) -> None:
        """Puts in place all that is saved. Raises: StoreUnavailable."""
        with self.lock:
            with unavailable():
                found = dict(self._place.load())
            before = self._revisions
            self._revisions = {name: saved.revision for name, saved in found.items()}
            names = {*before, *found}
            changed = {name for name in names if before.get(name) != self._revisions.get(name)}
            self.now += 1
            self._loaded.update(dict.fromkeys(changed, self.now))
            seal = found.pop(SEALED, None)
            self.seal = seal.documents["seal"] if seal else {}
            self._tables = {name: saved.documents for name, saved in found.items()}
            self.identities = {name: saved.identity for name, saved in found.items()}
            self._checkpoints = {
                (name, stream): version
                for name, saved in found.items()
                for stream, version in saved.versions.items()
            }
            for name in changed:
                self.listeners.notify(name)

    def prepare(self, target: Target) -> None:
        name = target.collection
        with self.lock:
            if name not in self.identities:
                identity = clock.new_id()
                self._save(name, self.of(target), self.apart(name), identity)
                self.identities[name] = identity
            super().prepare(target)

    def drop(self, target: Target) -> None:
        with self.lock:
            with unavailable():
                self._place.remove(target.collection)
            self._revisions.pop(target.collection, None)
            super().drop(target)

    def put_seal(self, seal: Document) -> None:
        self._save(SEALED, {"seal": seal}, {}, SEALED)
        super().put_seal(seal)

    def check(
        self, began: int, target: Target, keys: Iterable[str], streams: Iterable[str] = ()
    ) -> list[tuple[str, str]]:
        if self._loaded.get(target.collection, 0) > began:
            raise MemoryConflict
        return super().check(began, target, keys, streams)

    def _put(self, collection: str, table: Table, versions: Mapping[str, int]) -> None:
        identity = self.identities.get(collection, "")
        self._save(collection, table, {**self.apart(collection), **versions}, identity)
        super()._put(collection, table, versions)

    def _save(self, name: str, table: Table, versions: dict[str, int], identity: str) -> None:
        """Raises: StoreUnavailable; MemoryConflict, with all loaded anew, if another was first."""
        saved = Saved(table, versions, identity, clock.new_id())
        with unavailable():
            is_first = self._place.save(name, saved, self._revisions.get(name, ""))
        if not is_first:
            self.load()
            raise MemoryConflict
        self._revisions[name] = saved.revision


class _SavedWriter(MemoryWriter):
    """A predecessor in another process saved what is not known here."""

    def __init__(self, tables: _SavedTables, target: Target) -> None:
        super().__init__(tables, target)
        self._saved = tables

    async def take_over(self) -> None:
        self._saved.load()


@contextmanager
def unavailable() -> Iterator[None]:
    """Raises StoreUnavailable for an OSError within."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"collections cannot be saved or loaded: {error}") from error
