"""Read collections in memory, and the transactions that write them.

A stored document is never changed in place, only replaced. So a transaction works on its own copy
of the table, and stores its results atomically if nobody has written any of them meanwhile.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

from bus.common import clock
from bus.data.ids import key_of
from bus.data.payload import Document
from bus.errors import ProjectionError, StoreUnavailable
from bus.stores.asking import check_part
from bus.stores.collections import (
    Changes,
    Fold,
    Index,
    StoredDocuments,
    Target,
    WritableDocuments,
    Writer,
)
from bus.stores.documents.updates import (
    HIDDEN,
    VERSION,
    Advance,
    Bury,
    Delete,
    Step,
    Update,
    asked,
    buried,
    by_whom,
    plain_steps,
    updated,
    version_in,
    versioned_steps,
)
from bus.stores.grouping import Grouping
from bus.stores.memory.changes import Listeners
from bus.stores.memory.engine import Engine, Table, kept, kept_step
from bus.stores.memory.totals import distinct, groups
from bus.stores.records import decoded, encoded
from bus.stores.session import swallowed

TRIES = 1000


class MemoryConflict(Exception):
    """Another writer was first."""


class Tables:
    """All read collections and checkpoints, and when each key was last written."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.now = 0
        """The number of committed transactions."""
        self.lock = RLock()
        """Held by what reads and then writes: several threads may share this."""
        self.listeners = Listeners()
        self._tables: dict[str, Table] = {}
        self._unique: dict[str, list[Index]] = {}
        self._checkpoints: dict[tuple[str, str], int] = {}
        self._written: dict[tuple[str, str], int] = {}
        self.identities: dict[str, str] = {}
        """The identity of each collection, from its creation until it is dropped."""
        self.seal: Document = {}

    def of(self, target: Target) -> Table:
        """Returns the target's documents, hidden ones too."""
        return self._tables.setdefault(target.collection, {})

    def snapshot(self) -> dict[str, Table]:
        """Returns all collections as they are now: tables are replaced, never changed."""
        return dict(self._tables)

    def prepare(self, target: Target) -> None:
        """Creates a collection and its unique indexes; no other index affects what is stored."""
        self.identities.setdefault(target.collection, clock.new_id())
        self._unique[target.collection] = [index for index in target.indexes if index.unique]

    def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        """Returns the versions that the target has reached, by stream."""
        if not target.versions_in_documents:
            return self.versions_of(target, streams)
        found = self.versions_of(target, list(map(key_of, streams)))
        return {stream: found[key_of(stream)] for stream in streams if key_of(stream) in found}

    def versions_of(self, target: Target, keys: Sequence[str]) -> dict[str, int]:
        """Returns the versions by stream, or by document key if documents hold them."""
        if target.versions_in_documents:
            table = self.of(target)
            found = {key: version_in(table.get(key, {}), VERSION, 0) for key in keys}
        else:
            found = {key: self._checkpoints.get((target.collection, key), 0) for key in keys}
        return {key: version for key, version in found.items() if version}

    def keys(self, target: Target) -> list[str]:
        """Returns the keys of the target's versions: of documents that hold them, or streams."""
        if target.versions_in_documents:
            return list(self.of(target))
        return list(self.apart(target.collection))

    def apart(self, collection: str) -> dict[str, int]:
        """The versions that do not stand in its documents, by stream."""
        return {
            stream: version
            for (name, stream), version in list(self._checkpoints.items())
            if name == collection
        }

    def insert(self, target: Target, documents: Sequence[Document]) -> None:
        """Adds documents; those whose key is taken stay as they are. Raises: ProjectionError."""
        with self.lock:
            self._insert(target, documents)

    def _insert(self, target: Target, documents: Sequence[Document]) -> None:
        table = self.of(target)
        new: dict[str, Document | None] = {
            document["_id"]: decoded(encoded(document))
            for document in documents
            if document["_id"] not in table
        }
        self.commit(target, self.now, new, Changes([], {}))

    def put(self, target: Target, key: str, document: Document | None) -> None:
        """Stores a document in place of the one there, or removes it. Raises: ProjectionError."""
        kept = decoded(encoded(document)) if document else None
        self.commit(target, self.now, {key: kept}, Changes([], {}))

    def put_seal(self, seal: Document) -> None:
        """Stores the record that stands among the checkpoints."""
        self.seal = seal

    def drop(self, target: Target) -> None:
        """Removes a collection, and the versions it reached."""
        self.identities.pop(target.collection, None)
        self._tables.pop(target.collection, None)
        self._unique.pop(target.collection, None)
        for owner, stream in list(self._checkpoints):
            if owner == target.collection:
                del self._checkpoints[owner, stream]
        self.listeners.notify(target.collection)

    def commit(
        self, target: Target, began: int, results: Mapping[str, Document | None], changes: Changes
    ) -> None:
        """Stores a transaction's results, all or none. Raises: MemoryConflict, ProjectionError."""
        with self.lock:
            self._commit(target, began, results, changes)

    def _commit(
        self, target: Target, began: int, results: Mapping[str, Document | None], changes: Changes
    ) -> None:
        marks = self.check(began, target, results, changes.versions)
        table = _replaced(self.of(target), results)
        for index in self._unique.get(target.collection, ()):
            _check_unique(table, index)
        apart = {} if target.versions_in_documents else changes.versions
        self._put(target.collection, table, apart)
        self.now += 1
        self._written.update(dict.fromkeys(marks, self.now))
        if results:
            self.listeners.notify(target.collection)

    def _put(self, collection: str, table: Table, versions: Mapping[str, int]) -> None:
        """Puts a collection's documents in place, and those versions that are new."""
        self._tables[collection] = table
        for stream, version in versions.items():
            self._checkpoints[collection, stream] = version

    def check(
        self, began: int, target: Target, keys: Iterable[str], streams: Iterable[str] = ()
    ) -> list[tuple[str, str]]:
        """Returns what a transaction writes.

        Raises: MemoryConflict if another transaction has written any of it since `began`.
        """
        marks = [(f"document of {target.collection}", key) for key in keys]
        marks += [(f"version of {target.collection}", stream) for stream in streams]
        if any(self._written.get(mark, 0) > began for mark in marks):
            raise MemoryConflict
        return marks


class MemoryDocuments(StoredDocuments):
    """Reads one collection, without hidden documents and the bus's own fields."""

    def __init__(self, tables: Tables, target: Target) -> None:
        self._tables = tables
        self._target = target

    def _table(self) -> Table:
        return self._tables.of(self._target)

    async def find_one(self, filter: Mapping[str, Any]) -> Document | None:
        found = await self.find(filter, limit=1)
        return found[0] if found else None

    async def find(
        self,
        filter: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, Any]] = (),
        skip: int = 0,
        limit: int = 0,
    ) -> list[Document]:
        versioned = self._target.versions_in_documents
        wanted = asked(filter, versioned=versioned)
        check_part(sort, skip, limit)
        wanted = kept(wanted)
        with self._noting():
            found = self._tables.engine.find(self._table(), wanted, sort)
        if versioned:
            found = [_without_own_fields(document) for document in found]
        return found[skip : skip + limit] if limit else found[skip:]

    async def count(self, filter: Mapping[str, Any]) -> int:
        return len(await self.find(filter))

    async def distinct(self, field: str, filter: Mapping[str, Any]) -> list[Any]:
        return distinct(await self.find(filter), field)

    async def group(self, grouping: Grouping, filter: Mapping[str, Any]) -> list[Document]:
        return groups(await self.find(filter), grouping)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Does nothing; a transaction notes the error that ends it."""
        yield


class MemoryUnit(MemoryDocuments, WritableDocuments):
    """One transaction: it reads what was there when it began, and its own writes."""

    def __init__(self, tables: Tables, target: Target, streams: Sequence[str]) -> None:
        super().__init__(tables, target)
        self._began = tables.now
        self._copy = dict(tables.of(target))
        self._touched: set[str] = set()
        self.refused: ProjectionError | None = None
        """The error that ended the transaction, even if the handler swallows it."""
        reached = tables.versions(target, streams)
        self.versions = {stream: reached.get(stream, 0) for stream in streams}
        keys = map(key_of, streams)
        self._hidden = {key for key in keys if self._copy.get(key, {}).get(HIDDEN)}

    @property
    def documents(self) -> "MemoryUnit":
        """The unit itself."""
        return self

    def _table(self) -> Table:
        return self._copy

    async def update(self, key: str, update: Mapping[str, Any]) -> None:
        step = kept_step(updated(key, update, self._hidden, called=True))
        with self._noting():
            self._apply(step)

    async def delete(self, key: str) -> None:
        versioned = self._target.versions_in_documents
        self._apply(buried(key, 0, self._hidden) if versioned else Delete(key))

    def commit(self, changes: Changes) -> None:
        """Stores the changes, and what was written so far. Raises: MemoryConflict,
        ProjectionError."""
        versioned = self._target.versions_in_documents
        steps: Iterator[Step] = (
            versioned_steps(changes, self._hidden) if versioned else plain_steps(changes.writes)
        )
        for step in steps:
            self._apply(kept_step(step))
        results = {key: self._copy.get(key) for key in self._touched}
        self._tables.commit(self._target, self._began, results, changes)

    def _apply(self, step: Step) -> None:
        self._touched.add(step.key)
        match step:
            case Update(key, update, by):
                try:
                    self._tables.engine.update(self._copy, key, update)
                except ProjectionError as error:
                    raise by_whom(by, error) from error.__cause__
            case Delete(key):
                self._copy.pop(key, None)
            case Bury(key, version):
                self._copy[key] = {"_id": key, VERSION: version, HIDDEN: True}
            case Advance(key, version):
                stub = self._copy.get(key, {"_id": key, HIDDEN: True})
                self._copy[key] = {**stub, VERSION: version}

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except ProjectionError as error:
            self.refused = error
            raise


class MemoryWriter(Writer):
    """Runs a projection's transactions, and runs one again if another writer was first."""

    def __init__(self, tables: Tables, target: Target) -> None:
        self._tables = tables
        self._target = target

    async def take_over(self) -> None:
        """Does nothing: a predecessor leaves nothing open here."""

    async def close(self) -> None:
        """Does nothing."""

    async def transact(
        self, streams: Sequence[str], fold: Fold, *, believed: Mapping[str, int] | None = None
    ) -> Changes:
        """Runs `fold` in a transaction; ignores `believed`, because reading versions is cheap."""
        for _ in range(TRIES):
            unit = MemoryUnit(self._tables, self._target, streams)
            changes = await fold(unit)
            if unit.refused is not None:
                raise swallowed(unit.refused)
            try:
                unit.commit(changes)
            except MemoryConflict:
                await asyncio.sleep(0)
            else:
                return changes
        raise StoreUnavailable(f"{self._target.projection}: other writers were first {TRIES} times")


def _without_own_fields(document: Document) -> Document:
    return {name: value for name, value in document.items() if name not in (VERSION, HIDDEN)}


def _replaced(table: Table, results: Mapping[str, Document | None]) -> Table:
    changed = dict(table)
    for key, document in results.items():
        if document is None:
            changed.pop(key, None)
        else:
            changed[key] = document
    return changed


def _check_unique(table: Table, index: Index) -> None:
    """Checks a unique index, which is sparse: documents without any of its fields are not in it.

    Raises: ProjectionError.
    """
    seen: dict[str, str] = {}
    for key, document in table.items():
        values = [_field(document, name) for name, _ in index.keys]
        if any(value is not None for value in values):
            other = seen.setdefault(repr(values), key)
            if other != key:
                raise ProjectionError(
                    f"the documents {other!r} and {key!r} have the same {_names(index)}, and "
                    f"Index({index.keys!r}, unique=True) takes each value once; declare it without "
                    f"unique=True, or have the handlers write different values"
                )


def _names(index: Index) -> str:
    return ", ".join(name for name, _ in index.keys)


def _field(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, Mapping) else None
    return document
