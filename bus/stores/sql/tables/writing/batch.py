"""One batch: versions of its streams are compared and moved, and rows changed, in one transaction.

The versions come first: their rows are the locks by which writers wait for one another.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import UpdateBase

from bus.stores.collections import Changes, Write
from bus.stores.sql.engine import Database
from bus.stores.sql.failures import bounded
from bus.stores.sql.tables.refusals import PRIMARY, Phase, judged
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

    async def write(self, changes: Changes, before: Mapping[str, int]) -> bool:
        """Does what `Place.write` says, and raises the same."""
        try:
            async with bounded(WRITE_WITHIN), self._database.transaction() as connection:
                if not await advance(connection, self._collection, changes.versions, before):
                    raise _Late
                await self._change(connection, changes.writes)
                self._phase = Phase.COMMIT
        except _Late:
            return False
        except Exception as error:
            is_postgresql = self._database.engine.dialect.name == "postgresql"
            key = str(self._table.primary_key.name) if is_postgresql else PRIMARY
            raised = judged(error, self._database, self._phase, key)
            if raised is None:
                return False
            raise raised from (None if raised is error else error)
        return True

    async def _change(self, connection: AsyncConnection, writes: Sequence[Write]) -> None:
        for is_statement, some in _runs(writes):
            self._phase = Phase.STATEMENT if is_statement else Phase.ROWS
            if is_statement:
                for write in some:
                    await connection.execute(write.update)
            elif (rows := unread(self._table, some)) is not None:
                await Upserting(connection, self._table).run(rows)
            else:
                await Folding(connection, self._table).run(some)


def _runs(writes: Sequence[Write]) -> Iterator[tuple[bool, list[Write]]]:
    """Yields the writes in order: what changes rows together, and statements between them."""
    for is_statement, some in groupby(writes, lambda w: isinstance(w.update, UpdateBase)):
        yield is_statement, list(some)
