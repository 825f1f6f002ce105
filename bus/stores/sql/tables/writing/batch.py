"""One batch: versions of its streams are compared and moved, and rows changed, in one transaction.

The versions come first: their rows are the locks by which writers wait for one another.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import UpdateBase

from bus.errors import ProjectionError, StoreUnavailable
from bus.stores.collections import Changes, Write
from bus.stores.sql.engine import Database
from bus.stores.sql.failures import Kind, bounded, kind_of
from bus.stores.sql.tables.refusals import PRIMARY, Phase, judged, refused
from bus.stores.sql.tables.writing.advancing import advance
from bus.stores.sql.tables.writing.folding import Folding
from bus.stores.sql.tables.writing.upserting import Upserting, unread

WRITE_WITHIN = 15.0


class _Late(Exception):
    """Another writer was first."""


class Batch:
    """What one batch changes in the table of one collection."""

    def __init__(self, database: Database, table: sa.Table, collection: str) -> None:
        self._database = database
        self._table = table
        self._collection = collection
        self._phase = Phase.VERSIONS
        self._reads = False
        self._is_unread = False

    async def write(self, changes: Changes, before: Mapping[str, int]) -> bool:
        """Does what `Place.write` says, and raises the same."""
        try:
            return await self._write(changes, before)
        except ProjectionError:
            if not self._is_unread:
                raise
        # Databases do not all name the column that has no room for a sum; a row that was read does.
        self._reads, self._is_unread, self._phase = True, False, Phase.VERSIONS
        return await self._write(changes, before)

    async def _write(self, changes: Changes, before: Mapping[str, int]) -> bool:
        try:
            async with bounded(WRITE_WITHIN), self._database.transaction() as connection:
                if not await advance(connection, self._collection, changes.versions, before):
                    raise _Late
                await self._change(connection, changes.writes)
                self._phase = Phase.COMMIT
        except _Late:
            return False
        except Exception as error:
            await self._database.make_way(error)
            is_postgresql = self._database.engine.dialect.name == "postgresql"
            key = str(self._table.primary_key.name) if is_postgresql else PRIMARY
            raised = judged(error, self._database, self._phase, key)
            if self._phase is Phase.STATEMENT and kind_of(error) is Kind.NO_TABLES:
                raised = await self._told_apart(error, raised)
            if raised is None:
                return False
            raise raised from (None if raised is error else error)
        return True

    async def _told_apart(self, error: Exception, outage: Exception | None) -> Exception | None:
        """Returns the error for a table or column that a handler's statement names and that is not
        there: it is the statement's if the table has all that it was made with."""

        async def look(connection: AsyncConnection) -> None:
            await connection.execute(sa.select(self._table).limit(0))

        try:
            await self._database.reading(look)
        except StoreUnavailable:
            return outage
        return refused(error, self._database)

    async def _change(self, connection: AsyncConnection, writes: Sequence[Write]) -> None:
        for is_statement, some in _runs(writes):
            self._phase = Phase.STATEMENT if is_statement else Phase.ROWS
            if is_statement:
                for write in some:
                    await connection.execute(write.update)
            elif not self._reads and (rows := unread(self._table, some)) is not None:
                self._is_unread = True
                await Upserting(connection, self._table).run(rows)
            else:
                await Folding(connection, self._table).run(some)


def _runs(writes: Sequence[Write]) -> Iterator[tuple[bool, list[Write]]]:
    """Yields the writes in order: what changes rows together, and statements between them."""
    for is_statement, some in groupby(writes, lambda w: isinstance(w.update, UpdateBase)):
        yield is_statement, list(some)
