"""Effects in memory: a handler's writes are stored atomically, if nobody was first."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from bus.common import clock
from bus.errors import ConfigurationError, ProjectionError, StoreUnavailable
from bus.stores.collections import Changes, Target, WritableDocuments
from bus.stores.event_log import Commit
from bus.stores.memory import MemoryCollections, MemoryEventLog
from bus.stores.memory.documents import TRIES, MemoryConflict, MemoryUnit, Tables
from bus.stores.memory.engine import Table
from bus.stores.records import check_cause
from bus.stores.session import (
    Effects,
    Ending,
    Handling,
    SessionDocuments,
    Use,
    handled,
    own_target,
)

NOTHING_MORE = Changes((), {})


class MemoryEffects(Effects):
    """Runs handlers' transactions over one event log and the collections beside it."""

    def __init__(
        self,
        event_log: MemoryEventLog,
        collections: MemoryCollections,
        *,
        projected: Collection[str],
        handled_for: float,
    ) -> None:
        self._log = event_log
        self._tables = collections.tables
        self._projected = projected
        self._handled_for = timedelta(seconds=handled_for)
        self._handled = collections.handled

    async def open(self) -> None:
        """Does nothing."""

    async def close(self) -> None:
        """Does nothing."""

    async def once(self, id: str, handling: Handling) -> Sequence[Commit] | None:
        for _ in range(TRIES):
            with self._tables.lock:
                if self._is_handled(id):
                    return None
            session = MemorySession(self._tables, self._projected)
            commits = await handled(handling, session)
            try:
                with self._tables.lock:
                    return await self._commit(id, session, commits)
            except MemoryConflict:
                await asyncio.sleep(0)
        raise StoreUnavailable(f"{id}: other handlers were first {TRIES} times")

    async def commit(self, handling: Handling) -> Sequence[Commit]:
        for _ in range(TRIES):
            session = MemorySession(self._tables, self._projected)
            commits = await handled(handling, session)
            try:
                with self._tables.lock:
                    return await self._append(session, commits)
            except MemoryConflict:
                await asyncio.sleep(0)
        raise StoreUnavailable(f"other handlers were first {TRIES} times")

    async def marks(self, after: str, limit: int, since: datetime | None = None) -> list[str]:
        found = [mark for mark, time in list(self._handled.items()) if not since or time >= since]
        return sorted(mark for mark in found if mark > after)[:limit]

    async def remember(self, marks: Sequence[str]) -> None:
        with self._tables.lock:
            for mark in marks:
                if not self._is_handled(mark):
                    self._handled[mark] = clock.now()

    async def forget(self, marks: Sequence[str]) -> None:
        for mark in marks:
            self._handled.pop(mark, None)

    def _is_handled(self, id: str) -> bool:
        oldest = clock.now() - self._handled_for
        while self._handled and next(iter(self._handled.values())) < oldest:
            del self._handled[next(iter(self._handled))]
        return id in self._handled

    async def _commit(
        self, id: str, session: "MemorySession", commits: Sequence[Commit]
    ) -> Sequence[Commit] | None:
        """Stores everything, or returns None if the mark exists. Raises: MemoryConflict.

        Nothing in here, or in `_append`, lets another task run: it would see a part of the
        transaction.
        """
        if self._is_handled(id):
            return None
        stored = await self._append(session, commits)
        if stored is not commits:
            check_cause(stored[0], commits[0])
            return None
        self._handled[id] = clock.now()
        return commits

    async def _append(
        self, session: "MemorySession", commits: Sequence[Commit]
    ) -> Sequence[Commit]:
        """Stores commits and what the session wrote, or returns the commits stored before under
        their ids. Raises: MemoryConflict."""
        session.check()
        stored = await self._log.append(commits)
        if stored is commits:
            session.commit()
        return stored


class MemorySession(Ending):
    """One transaction: it sees the collections as they were when it began."""

    def __init__(self, tables: Tables, projected: Collection[str]) -> None:
        self._tables = tables
        self._projected = projected
        self._began = tables.now
        self._snapshot = tables.snapshot()
        self._units: dict[str, _SessionUnit] = {}
        self.use = Use()

    def documents(self, collection: str) -> WritableDocuments:
        self.use.check("documents")
        target = own_target(collection, self._projected)
        name = target.collection
        if name not in self._units:
            table = self._snapshot.get(name, {})
            self._units[name] = _SessionUnit(self._tables, target, self._began, table)
        return SessionDocuments(self._units[name], name, self.use)

    @property
    def refused(self) -> ProjectionError | None:
        return next((unit.refused for unit in self._units.values() if unit.refused), None)

    @property
    def collections(self) -> list[str]:
        """The names of the collections that were used."""
        return list(self._units)

    @property
    def native(self) -> Any:
        self.use.check("native")
        raise _no_driver("native")

    @property
    def database(self) -> Any:
        self.use.check("database")
        raise _no_driver("database")

    def check(self) -> None:
        """Raises: MemoryConflict if another writer was first."""
        for unit in self._units.values():
            unit.check()

    def commit(self) -> None:
        """Stores all that was written."""
        for unit in self._units.values():
            unit.commit(NOTHING_MORE)


class _SessionUnit(MemoryUnit):
    """One collection as it was when the session began, with the session's own writes."""

    def __init__(self, tables: Tables, target: Target, began: int, table: Table) -> None:
        super().__init__(tables, target, ())
        self._began = began
        self._copy = dict(table)

    def check(self) -> None:
        self._tables.check(self._began, self._target, self._touched)


def _no_driver(asked: str) -> ConfigurationError:
    return ConfigurationError(
        f"session.{asked} is the MongoDB driver's, and this bus runs in memory; use "
        f"session.documents(...), or give the bus a MongoDB"
    )
