"""Makes and drops the tables of projections, and knows which are there: each has a row, with an
identity, in `bus_tables`. The versions of all are in `bus_checkpoints`.

Both are in the sink's database. Who makes something holds a lock, so that processes that start
together do not meet. A row is written before its table is made and completed afterwards: what a
crash leaves is made anew.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable

from bus.common import clock
from bus.errors import StoreUnavailable
from bus.stores.sql.engine import Database
from bus.stores.sql.failures import Kind, bounded, is_of_store, kind_of
from bus.stores.sql.schema import STREAM, Word, innodb
from bus.stores.sql.tables.copies import (
    Copies,
    differences,
    missing,
    shape_of,
    short,
    written,
)
from bus.stores.sql.tables.refusals import is_refused, words

MAKE_WITHIN = 60.0

metadata = sa.MetaData()

tables = sa.Table(
    "bus_tables",
    metadata,
    sa.Column("collection", Word(), primary_key=True),
    sa.Column("service", Word(), nullable=False),
    sa.Column("name", Word(64), nullable=False),
    sa.Column("identity", Word(64), nullable=False),
    sa.Column("shape", sa.Text, nullable=False),
    sa.Column("made", sa.Boolean(create_constraint=False), nullable=False),
    **innodb(),
)
"""A row for each table of a projection. `shape` is what it was made as; `made` is false until it is
there."""

checkpoints = sa.Table(
    "bus_checkpoints",
    metadata,
    sa.Column("collection", Word(), primary_key=True),
    sa.Column("stream", Word(STREAM), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    **innodb(),
)
"""The version that each stream has reached in a table; and for each table a row without a stream,
by which it is noticed that somebody has taken its versions away."""
WITNESS = ""


def has_versions(collection: Any) -> sa.Exists:
    """Returns a condition: nobody has taken away the versions of a collection."""
    own = checkpoints.c
    return sa.exists().where(own.collection == collection, own.stream == WITNESS)


class Making:
    """The tables of one sink."""

    def __init__(self, database: Database, copies: Copies, service: str) -> None:
        self._database = database
        self._copies = copies
        self._service = service
        self._is_ready = False

    async def make_shared(self) -> None:
        """Makes the tables that all projections share. Raises: StoreUnavailable."""
        if not await self._lacks_shared():
            self._is_ready = True
            return
        async with self._changing() as connection:
            there = await self._there(connection, [tables.name, checkpoints.name])
            if tables.name in there and checkpoints.name not in there:
                # Rows without versions: events would be applied to them again.
                await connection.execute(sa.update(tables).values(made=False))
            for table in (checkpoints, tables):
                await connection.execute(CreateTable(table, if_not_exists=True))
        self._is_ready = True

    async def _lacks_shared(self) -> bool:
        names = [tables.name, checkpoints.name]

        async def look(connection: AsyncConnection) -> set[str]:
            return await self._there(connection, names)

        return len(await self._database.reading(look)) < len(names)

    async def prepare(self, collection: str) -> Sequence[str]:
        """Makes the table of a collection, if it is not there; returns what is not as declared,
        each with a remedy. Raises: StoreUnavailable."""
        await self.make_shared()
        if (known := await self._known(collection)) is not None:
            return known
        try:
            async with self._changing() as connection:
                return await self._make(connection, collection)
        except StoreUnavailable as error:
            cause = error.__cause__
            if cause is None or not is_refused(cause):
                raise
            return [
                f"{collection}: {self._database.name} refuses to make the table: {words(cause)}; "
                f"correct its declaration"
            ]

    async def differing(self, collection: str) -> Sequence[str]:
        """Returns what is not as declared, each with a remedy, and makes nothing. Raises:
        StoreUnavailable."""
        known = None if await self._lacks_shared() else await self._known(collection)
        if known is None:
            return [f"{collection}: there is no table of it yet; start a worker, which makes it"]
        return known

    async def _known(self, collection: str) -> Sequence[str] | None:
        """Returns what differs, or None if the table is to be made."""

        async def look(connection: AsyncConnection) -> Sequence[str] | None:
            row = await self._row(connection, collection)
            is_there = row is not None and row.made and await self._exists(connection, collection)
            is_there = is_there and await self._has_versions(connection, collection)
            return await self._differing(connection, collection, row) if is_there else None

        found: Sequence[str] | None = await self._database.reading(look)
        return found

    async def _differing(
        self, connection: AsyncConnection, collection: str, row: Any
    ) -> Sequence[str]:
        if row.service != self._service:
            return [_of_another(collection, row.service)]
        table = self._copies.to_make(collection, connection.dialect)
        declared = shape_of(table, connection.dialect)
        gone = await connection.run_sync(missing, table)
        return [
            *differences(collection, row.shape, declared),
            *(
                f"{collection}: {name} was taken away from the table {table.name}; make it again, "
                f"or have the projection built anew (`bus projections rebuild`)"
                for name in gone
                if not any(differences(collection, row.shape, declared))
            ),
        ]

    async def _make(self, connection: AsyncConnection, collection: str) -> Sequence[str]:
        row = await self._row(connection, collection)
        exists = await self._exists(connection, collection)
        if row is not None and row.service != self._service:
            return [_of_another(collection, row.service)]
        if row is not None and row.made and exists:
            if await self._has_versions(connection, collection):
                return await self._differing(connection, collection, row)
            return [
                f"{collection}: {checkpoints.name} lacks what it had reached; its rows stay until "
                f"`bus events recover` builds it anew"
            ]
        if row is None and exists:
            return [
                f"{collection}: there is a table {short(collection)} that the bus did not make; "
                f"rename it, or drop it"
            ]
        table = self._copies.to_make(collection, connection.dialect)
        await self._forget(connection, collection)
        await connection.execute(sa.insert(tables), [self._new(collection, table, connection)])
        await connection.execute(DropTable(table, if_exists=True))
        await connection.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            await connection.execute(CreateIndex(index))
        witness = {"collection": collection, "stream": WITNESS, "version": 0}
        await connection.execute(sa.insert(checkpoints), [witness])
        is_one = tables.c.collection == collection
        await connection.execute(sa.update(tables).where(is_one).values(made=True))
        return ()

    async def _has_versions(self, connection: AsyncConnection, collection: str) -> bool:
        found = sa.select(has_versions(collection))
        return bool((await connection.execute(found)).scalar_one())

    def _new(self, collection: str, table: sa.Table, connection: AsyncConnection) -> dict[str, Any]:
        return {
            "collection": collection,
            "service": self._service,
            "name": table.name,
            "identity": clock.new_id(),
            "shape": written(shape_of(table, connection.dialect)),
            "made": False,
        }

    async def has_made(self, collection: str) -> bool:
        """Returns whether the table was made, and not dropped by the bus. Raises:
        StoreUnavailable."""
        own = tables.c.collection == collection
        return bool(await self._database.rows(sa.select(tables.c.name).where(own, tables.c.made)))

    async def drop(self, collection: str) -> None:
        """Removes a collection's table, unless it is another service's.

        Raises: StoreUnavailable.
        """
        await self.make_shared()
        async with self._changing() as connection:
            row = await self._row(connection, collection)
            if row is None or row.service != self._service:
                return
            table = self._copies.to_make(collection, connection.dialect)
            is_one = tables.c.collection == collection
            await connection.execute(sa.update(tables).where(is_one).values(made=False))
            await connection.execute(DropTable(table, if_exists=True))
            await self._forget(connection, collection)
        self._copies.forget(collection)

    async def _forget(self, connection: AsyncConnection, collection: str) -> None:
        for table in (checkpoints, tables):
            await connection.execute(sa.delete(table).where(table.c.collection == collection))

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Returns the identities of this service's tables, by collection. Raises:
        StoreUnavailable."""
        found = sa.select(tables.c.collection, tables.c.identity, tables.c.name).where(
            tables.c.service == self._service,
            tables.c.made == sa.true(),
            has_versions(tables.c.collection),
        )
        if names is not None:
            found = found.where(tables.c.collection.in_(list(names)))

        async def look(connection: AsyncConnection) -> dict[str, str]:
            rows = (await connection.execute(found)).all()
            own = [checkpoints.name, *(row.name for row in rows)]
            there = await self._there(connection, own)
            if checkpoints.name not in there:
                return {}
            return {row.collection: row.identity for row in rows if row.name in there}

        try:
            identities: dict[str, str] = await self._database.reading(look)
        except StoreUnavailable as error:
            if error.__cause__ is not None and kind_of(error.__cause__) is Kind.NO_TABLES:
                return {}
            raise
        return identities

    async def _row(self, connection: AsyncConnection, collection: str) -> Any:
        found = sa.select(tables).where(tables.c.collection == collection)
        return (await connection.execute(found)).one_or_none()

    async def _exists(self, connection: AsyncConnection, collection: str) -> bool:
        return bool(await self._there(connection, [short(collection)]))

    async def _there(self, connection: AsyncConnection, names: Sequence[str]) -> set[str]:
        """Returns which of these names are tables of the database, or views."""
        is_postgresql = connection.dialect.name == "postgresql"
        schema = sa.func.current_schema() if is_postgresql else sa.func.database()
        found = sa.text(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = {schema} "
            f"AND table_name IN :names"
        ).bindparams(sa.bindparam("names", names, expanding=True))
        return set((await connection.execute(found)).scalars())

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[AsyncConnection]:
        """Lends a connection, while no other process makes tables there."""
        dialect = self._database.dialect
        try:
            async with bounded(MAKE_WITHIN), self._database.connection() as connection:
                await dialect.lock_schema(connection)
                try:
                    yield connection
                except BaseException:
                    await connection.invalidate()  # the lock goes with it
                    raise
                await dialect.unlock_schema(connection)
        except Exception as error:
            if not is_of_store(error):
                raise
            raise self._database.translated(error, writing=False) from error


def _of_another(collection: str, service: str) -> str:
    return (
        f"{collection}: the service {service!r} keeps a table of this name in this database; name "
        f"the projection otherwise, or give one of them a database of its own"
    )
