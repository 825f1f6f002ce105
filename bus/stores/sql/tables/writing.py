"""One batch: versions of its streams are compared and moved, and rows changed, in one transaction.

The versions come first: their rows are the locks by which writers wait for one another.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import UpdateBase

from bus.common.batches import batched
from bus.stores.collections import Changes, Write
from bus.stores.sql.engine import Database
from bus.stores.sql.failures import bounded
from bus.stores.sql.tables.folding import Folding
from bus.stores.sql.tables.keys import AT_ONCE, rows_of
from bus.stores.sql.tables.making import checkpoints
from bus.stores.sql.tables.refusals import PRIMARY, Phase, judged

WRITE_WITHIN = 15.0

_GIVEN = (
    sa.bindparam("collection", type_=sa.Text),
    sa.bindparam("streams", type_=postgresql.ARRAY(sa.Text)),
    sa.bindparam("versions", type_=postgresql.ARRAY(sa.BigInteger)),
)
_BEGIN = sa.text(
    "INSERT INTO bus_checkpoints (collection, stream, version) "
    "SELECT :collection, * FROM unnest(:streams, :versions)"
).bindparams(*_GIVEN)
_MOVE = sa.text(
    f"{_BEGIN.text} ON CONFLICT (collection, stream) DO UPDATE SET version = excluded.version"
).bindparams(*_GIVEN)


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
                await self._advance(connection, changes.versions, before)
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

    async def _advance(
        self, connection: AsyncConnection, versions: Mapping[str, int], before: Mapping[str, int]
    ) -> None:
        """Locks and moves versions. Raises: _Late, the driver's errors."""
        known: dict[str, int] = {}
        for chunk in batched(sorted(versions), AT_ONCE):
            known |= await self._locked(connection, chunk)
        if any(known.get(stream, 0) != before[stream] for stream in versions):
            raise _Late
        await self._move(connection, {name: versions[name] for name in sorted(known)})
        new = {name: versions[name] for name in sorted(versions) if name not in known}
        await self._begin(connection, new)

    async def _move(self, connection: AsyncConnection, versions: Mapping[str, int]) -> None:
        if not versions:
            return
        if connection.dialect.name == "postgresql":
            await connection.execute(_MOVE, self._arrays(versions))
        else:  # all are there: MariaDB's driver sends this as one statement
            insert = mysql.insert(checkpoints)
            update = insert.on_duplicate_key_update(version=insert.inserted.version)
            await connection.execute(update, self._rows(versions))

    async def _begin(self, connection: AsyncConnection, versions: Mapping[str, int]) -> None:
        if not versions:
            return
        if connection.dialect.name == "postgresql":
            await connection.execute(_BEGIN, self._arrays(versions))
        else:
            await connection.execute(sa.insert(checkpoints), self._rows(versions))

    def _rows(self, versions: Mapping[str, int]) -> list[dict[str, Any]]:
        return [
            {"collection": self._collection, "stream": stream, "version": version}
            for stream, version in versions.items()
        ]

    def _arrays(self, versions: Mapping[str, int]) -> dict[str, Any]:
        return {
            "collection": self._collection,
            "streams": list(versions),
            "versions": list(versions.values()),
        }

    async def _locked(self, connection: AsyncConnection, streams: Sequence[str]) -> dict[str, int]:
        found = await connection.execute(
            rows_of(
                [checkpoints.c.stream, checkpoints.c.version],
                [checkpoints.c.stream],
                [(stream,) for stream in streams],
                connection.dialect,
                where=checkpoints.c.collection == self._collection,
                locks=True,
            )
        )
        return {row.stream: row.version for row in found}

    async def _change(self, connection: AsyncConnection, writes: Sequence[Write]) -> None:
        for is_statement, some in _runs(writes):
            self._phase = Phase.STATEMENT if is_statement else Phase.ROWS
            if is_statement:
                for write in some:
                    await connection.execute(write.update)
            else:
                await Folding(connection, self._table).run(some)


def _runs(writes: Sequence[Write]) -> Iterator[tuple[bool, list[Write]]]:
    """Yields the writes in order: what changes rows together, and statements between them."""
    for is_statement, some in groupby(writes, lambda w: isinstance(w.update, UpdateBase)):
        yield is_statement, list(some)
