"""Snapshots, and the states of aggregates that are stored by their state: a row for each stream."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.errors import StoreUnavailable
from bus.stores.event_log import Snapshot
from bus.stores.sql.engine import Database
from bus.stores.sql.failures import Kind, kind_of
from bus.stores.sql.rows import snapshot_of, state_of
from bus.stores.together.shared_reads import Read, SharedReads


class StoredStates:
    """The latest state of each stream in one table."""

    def __init__(self, database: Database, table: sa.Table) -> None:
        self._database = database
        self._table = table
        self._reads = SharedReads(self._find)

    async def find(self, stream: str) -> Snapshot | None:
        """Returns the state of a stream, or None. Raises: StoreUnavailable."""
        found: Snapshot | None = await self._reads.read(stream)
        return found

    async def save(self, snapshot: Snapshot, **also: Any) -> None:
        """Replaces an older state of the stream; an equal or newer one stays.

        Raises: InvalidMessage, OutcomeUnknown, StoreUnavailable.
        """
        update, insert = self._statements(snapshot, also)
        if await self._database.write(update):
            return
        try:
            await self._database.write(insert)
        except StoreUnavailable as error:
            if error.__cause__ is None or kind_of(error.__cause__) is not Kind.TAKEN:
                raise

    async def replace(self, connection: AsyncConnection, snapshot: Snapshot, **also: Any) -> bool:
        """Does so as a part of the caller's transaction; returns whether it was older.

        Raises: InvalidMessage, the driver's errors.
        """
        update, insert = self._statements(snapshot, also)
        if (await connection.execute(update)).rowcount:
            return True
        query = sa.select(self._table.c.stream).where(self._table.c.stream == snapshot.stream)
        if (await connection.execute(query)).first():
            return False
        await connection.execute(insert)
        return True

    def _statements(self, snapshot: Snapshot, also: dict[str, Any]) -> tuple[sa.Update, sa.Insert]:
        fields = {**state_of(snapshot), **also}
        own = self._table.c.stream == snapshot.stream
        older = self._table.c.version < snapshot.version
        update = self._table.update().where(own, older).values(fields)
        return update, self._table.insert().values(fields)

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
        found = {row.stream: snapshot_of(row) for row in await self._database.rows(query)}
        for read in group:
            read.answer(found.get(read.stream))
