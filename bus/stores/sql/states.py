"""Snapshots, and the states of aggregates that are stored by their state: a row for each stream."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.data.ids import category_of
from bus.data.payload import Document
from bus.errors import StoreUnavailable
from bus.stores.documents.matching import matcher
from bus.stores.event_log import Commit, Snapshot
from bus.stores.records import state_document, state_from, states_filter
from bus.stores.sql.engine import Database
from bus.stores.sql.failures import Kind, kind_of
from bus.stores.sql.rows import checked
from bus.stores.sql.schema import snapshots, states
from bus.stores.together.shared_reads import Read, SharedReads

PAGE = 500


class NotOlder(Exception):
    """The state of a stream is not older than the one to store."""


def _snapshot(row: Any) -> Snapshot:
    return Snapshot(row.stream, row.version, row.shape, row.state)


class StoredStates:
    """The latest state of each stream in a table."""

    def __init__(self, database: Database, table: sa.Table = snapshots) -> None:
        self._database = database
        self._table = table
        self._reads = SharedReads(self._find)

    async def find(self, stream: str) -> Snapshot | None:
        """Returns the state of a stream, or None. Raises: StoreUnavailable."""
        found: Snapshot | None = await self._reads.read(stream)
        return found

    async def save(self, snapshot: Snapshot) -> None:
        """Replaces an older state of the stream; an equal or newer one stays.

        Raises: InvalidMessage, OutcomeUnknown, StoreUnavailable.
        """
        await self._save(snapshot, self._table.c.version < snapshot.version)

    async def _save(self, snapshot: Snapshot, before: sa.ColumnElement[bool]) -> None:
        fields = self._fields(snapshot)
        if await self._database.write(self._update(fields, before)):
            return
        try:
            await self._database.write(self._table.insert().values(fields))
        except StoreUnavailable as error:
            if error.__cause__ is None or kind_of(error.__cause__) is not Kind.TAKEN:
                raise
            await self._database.write(self._update(fields, before))

    def _update(self, fields: Document, before: sa.ColumnElement[bool]) -> sa.Update:
        own = self._table.c.stream == fields["stream"]
        return self._table.update().where(own, before).values(fields)

    def _fields(self, snapshot: Snapshot) -> Document:
        """Returns the row. Raises: InvalidMessage if it cannot be stored."""
        fields = snapshot._asdict()
        checked({**fields, "_id": snapshot.stream}, snapshot.state)
        return fields

    async def forget(self) -> None:
        """Removes all. Raises: OutcomeUnknown, StoreUnavailable."""
        await self._database.write(self._table.delete())

    async def close(self) -> None:
        """Waits until reads that were begun are done."""
        await self._reads.close()

    async def _find(self, group: Sequence[Read]) -> None:
        columns = [self._table.c[name] for name in Snapshot._fields]
        streams = [read.stream for read in group]
        query = sa.select(*columns).where(self._table.c.stream.in_(streams))
        rows = await self._database.rows(query)
        found = {row.stream: _snapshot(row) for row in rows}
        for read in group:
            read.answer(found.get(read.stream))


class SqlStates(StoredStates):
    """The states of aggregates that are stored by their state."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, states)

    async def save(self, snapshot: Snapshot) -> None:
        """Stores a state in place of one that is not newer."""
        await self._save(snapshot, states.c.version <= snapshot.version)

    def _fields(self, snapshot: Snapshot) -> Document:
        checked(state_document(snapshot), snapshot.state)
        return {**snapshot._asdict(), "category": category_of(snapshot.stream)}

    def of(self, commits: Sequence[Commit]) -> list[Document]:
        """Returns the rows of commits' states. Raises: InvalidMessage."""
        return [self._fields(commit.state) for commit in commits if commit.state]

    async def write(self, connection: AsyncConnection, rows: Sequence[Document]) -> None:
        """Stores states as a part of a transaction. Raises: NotOlder, the driver's errors."""
        for fields in rows:
            older = states.c.version < fields["version"]
            if (await connection.execute(self._update(fields, older))).rowcount:
                continue
            query = sa.select(states.c.version).where(states.c.stream == fields["stream"])
            if (await connection.execute(query)).first() is not None:
                raise NotOlder
            await connection.execute(states.insert().values(fields))

    async def select(
        self, category: str, fields: Mapping[str, Any], limit: int, shape: str, after: str
    ) -> list[Snapshot]:
        """Returns states for `EventLog.states`. Values are compared here, as all stores do it."""
        is_wanted = matcher(states_filter(category, fields, shape=shape, after=after))
        found: list[Snapshot] = []
        while len(found) < limit:
            size = PAGE if fields else min(PAGE, limit - len(found))
            rows = await self._page(category, after, size)
            documents = [state_document(_snapshot(row)) for row in rows]
            found += map(state_from, filter(is_wanted, documents))
            if len(rows) < size:
                break
            after = rows[-1].stream
        return found[:limit]

    async def _page(self, category: str, after: str, size: int) -> Sequence[sa.Row[Any]]:
        columns = [states.c[name] for name in Snapshot._fields]
        query = sa.select(*columns).where(states.c.category == category, states.c.stream > after)
        return await self._database.rows(query.order_by(states.c.stream).limit(size))

    async def forget_of(self, category: str) -> None:
        """Removes the states of a category, or all."""
        every = states.delete()
        await self._database.write(
            every.where(states.c.category == category) if category else every
        )
