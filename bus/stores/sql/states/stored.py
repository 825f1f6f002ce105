"""The latest state of each stream in a table: a row for each stream."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from bus.data.payload import Document
from bus.errors import StoreUnavailable
from bus.stores.event_log import Snapshot
from bus.stores.sql.engine import Database
from bus.stores.sql.failures import Kind, kind_of
from bus.stores.sql.rows import checked
from bus.stores.sql.schema import snapshots
from bus.stores.together.shared_reads import Read, SharedReads


def snapshot_of(row: Any) -> Snapshot:
    """Returns the snapshot or state in a row."""
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
        fields = self._fields(snapshot)
        if await self._database.write(self._update(fields)):
            return
        try:
            await self._database.write(self._table.insert().values(fields))
        except StoreUnavailable as error:
            if error.__cause__ is None or kind_of(error.__cause__) is not Kind.TAKEN:
                raise
            await self._database.write(self._update(fields))

    def _update(self, fields: Document) -> sa.Update:
        own, older = self._table.c.stream, self._table.c.version < fields["version"]
        return self._table.update().where(own == fields["stream"], older).values(fields)

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
        found = {row.stream: snapshot_of(row) for row in rows}
        for read in group:
            read.answer(found.get(read.stream))
