"""Makes the tables, brings them to this release's version, and says what is missing.

Whoever makes them holds a lock, so that processes that start together do not meet.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex

from bus.errors import ConfigurationError, StoreUnavailable
from bus.stores.sql.engine import Database, connect
from bus.stores.sql.failures import Kind, bounded, is_of_store, kind_of, translated
from bus.stores.sql.schema import (
    STEPS,
    UNIQUE,
    VERSION,
    commits,
    is_for,
    made_by,
    metadata,
    things,
    versions,
)

MAKE_WITHIN = 600.0
LOOK_WITHIN = 5.0


class Migrations:
    """The tables of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def version(self) -> int:
        """Returns the version of the tables; 0 if there are none. Raises: StoreUnavailable."""
        try:
            rows = await self._database.rows(sa.select(sa.func.max(versions.c.version)))
        except StoreUnavailable as error:
            if error.__cause__ is not None and kind_of(error.__cause__) is Kind.NO_TABLES:
                return 0
            raise
        return rows[0][0] or 0

    async def need(self, *, creates: bool, may_lack: bool) -> None:
        """Has the tables be those of this release. If there are none, it `creates` them; a process
        that only looks `may_lack` them.

        Raises: ConfigurationError, StoreUnavailable.
        """
        found = await self.version()
        if not found and creates:
            await self.create()
            found = await self.version()
        if not found and may_lack:
            return
        if problem := unfit(self._database.name, found):
            raise ConfigurationError(problem)

    async def create(self) -> None:
        """Makes what is missing of the tables. Raises: ConfigurationError, StoreUnavailable."""
        async with self._changing() as connection:
            await connection.run_sync(_make)

    async def upgrade(self) -> int:
        """Brings the tables to this release's version; returns the version that they had.

        Raises: ConfigurationError, StoreUnavailable.
        """
        async with self._changing() as connection:
            found = await connection.run_sync(_version_in)
            if found > VERSION or not found:
                raise ConfigurationError(unfit(self._database.name, found))
            for version in range(found + 1, VERSION + 1):
                await connection.run_sync(_add, STEPS[version])
                await connection.execute(versions.insert().values(_row(self._database, version)))
            return int(found)

    async def problems(self) -> list[str]:
        """Returns what is missing of the tables, in words. Raises: StoreUnavailable."""
        if problem := unfit(self._database.name, await self.version()):
            return [problem]

        async def ask(connection: AsyncConnection) -> Any:
            return await connection.run_sync(_missing)

        found: list[str] = await self._database.reading(ask)
        return found

    async def gone(self) -> set[str]:
        """Returns which of the unique indexes are gone. Raises: StoreUnavailable."""
        found: set[str] = await self._database.reading(self._database.dialect.unique)
        return {str(name) for name in UNIQUE} - found

    async def mend(self, within: float) -> str | None:
        """Makes the unique indexes again; returns why it cannot, or None.

        Raises: StoreUnavailable.
        """
        for index in sorted(commits.indexes, key=lambda index: str(index.name)):
            if index.name in await self.gone():
                try:
                    async with bounded(within), self._database.connection() as connection:
                        await connection.execute(CreateIndex(index))
                except Exception as error:
                    if not is_of_store(error):
                        raise
                    if kind_of(error) is Kind.TAKEN:
                        return _taken_twice(self._database.name, index)
                    raise translated(self._database.name, error, writing=False) from error
        return None

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[AsyncConnection]:
        """Lends a connection, while no other process changes the tables."""
        try:
            async with bounded(MAKE_WITHIN), self._database.connection() as connection:
                await self._database.dialect.lock_schema(connection)
                try:
                    yield connection
                finally:
                    await self._database.dialect.unlock_schema(connection)
        except Exception as error:
            if not is_of_store(error):
                raise
            raise translated(self._database.name, error, writing=False) from error


@asynccontextmanager
async def migrating(url: str) -> AsyncIterator[Migrations]:
    """Lends the tables of the log at a URL. Raises: ConfigurationError, StoreUnavailable."""
    database = Database(connect(url))
    try:
        await database.look()
        yield Migrations(database)
    finally:
        await database.close()


def unfit(name: str, version: int) -> str:
    """Returns why a version of the tables cannot be used, and what mends it; empty if it can."""
    if version == VERSION:
        return ""
    if not version:
        return (
            f"{name}: the database of BUS_LOG_URL has no tables for the event log; make them by "
            f"`bus stores create module:function` (`bus stores sql` prints what that does)"
        )
    if version > VERSION:
        return (
            f"{name}: the tables of the event log have version {version}, made by a newer release, "
            f"and this one knows {VERSION}; start the newer release"
        )
    return (
        f"{name}: the tables of the event log have version {version}, and this release needs "
        f"{VERSION}; bring them there by `bus stores upgrade module:function`"
    )


def gone(name: str, indexes: set[str]) -> str:
    """Returns what to say if unique indexes are missing."""
    return (
        f"{name}: the unique index {' and '.join(sorted(indexes))} of the table bus_commits is "
        f"gone; nothing is stored until it is made again, which a running process does within "
        f"seconds if it can"
    )


def _taken_twice(name: str, index: sa.Index) -> str:
    columns = ", ".join(index.columns.keys())
    return (
        f"{name}: the unique index {index.name} ({columns}) of the table bus_commits is gone and "
        f"cannot be made again, because several rows hold the same; nothing is stored until it is "
        f"there. Keep one of them (select {columns} from commits group by {columns} having "
        f"count(*) > 1), remove the others, and run `bus events recover`"
    )


def _row(database: Database, version: int) -> dict[str, Any]:
    return {"version": version, "made": database.now()}


def _make(connection: sa.Connection) -> None:
    if _version_in(connection):
        return
    _add(connection, things(connection.dialect))
    if problems := _missing(connection):
        raise ConfigurationError("; ".join(problems))
    connection.execute(versions.insert().values(version=VERSION, made=sa.func.now()))


def _add(connection: sa.Connection, wanted: Iterable[sa.Table | sa.Index | sa.Column[Any]]) -> None:
    """Makes what is not there yet: MariaDB and MySQL keep a part of it if it is interrupted."""
    for thing in wanted:
        if is_for(thing, connection.dialect) and not _is_there(connection, thing):
            connection.execute(made_by(thing))


def _is_there(connection: sa.Connection, thing: sa.Table | sa.Index | sa.Column[Any]) -> bool:
    inspector = sa.inspect(connection)
    if isinstance(thing, sa.Table):
        return inspector.has_table(thing.name)
    assert thing.table is not None
    is_index = isinstance(thing, sa.Index)
    look: Any = inspector.get_indexes if is_index else inspector.get_columns
    return thing.name in {one["name"] for one in look(thing.table.name)}


def _version_in(connection: sa.Connection) -> int:
    if not sa.inspect(connection).has_table(versions.name):
        return 0
    return connection.execute(sa.select(sa.func.max(versions.c.version))).scalar_one() or 0


def _missing(connection: sa.Connection) -> list[str]:
    """Returns which tables, columns and indexes are missing, in words."""
    inspector = sa.inspect(connection)
    tables = set(inspector.get_table_names())
    found: list[str] = []
    for table in metadata.sorted_tables:
        if table.name not in tables:
            found.append(f"the table {table.name} is missing")
            continue
        there = {column["name"] for column in inspector.get_columns(table.name)}
        lacking = ", ".join(c.name for c in table.columns if c.name not in there)
        if lacking:
            found.append(
                f"the table {table.name} is not the log's: it lacks {lacking}; the log needs a "
                f"database of its own where another table has this name"
            )
    for thing in things(connection.dialect):
        if isinstance(thing, sa.Index) and thing.table is not None and thing.table.name in tables:
            indexes = {index["name"] for index in inspector.get_indexes(thing.table.name)}
            if thing.name not in indexes:
                found.append(f"the index {thing.name} of the table {thing.table.name} is missing")
    return found
