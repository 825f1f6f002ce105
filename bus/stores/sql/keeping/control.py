"""Control in SQL: parked streams, marks of sweeps, leases, notes, dead letters."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from bus.errors import StoreUnavailable
from bus.observe.health import Examined, Finding, of_problem
from bus.stores.collections import Target
from bus.stores.control import Control, Note, Parked
from bus.stores.sql.engine import Database
from bus.stores.sql.failures import Kind, kind_of
from bus.stores.sql.keeping.documents import document_in, kept
from bus.stores.sql.keeping.letters import SqlLetters
from bus.stores.sql.migrations import Migrations
from bus.stores.sql.reaching.server import rights_in, server_of
from bus.stores.sql.schema import STREAM, Json, Moment, Word, innodb, metadata

notes = sa.Table(
    "bus_notes",
    metadata,
    sa.Column("key", Word(STREAM), primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("value", Json, nullable=False),
    **innodb(),
)

parked = sa.Table(
    "bus_parked",
    metadata,
    sa.Column("projection", Word(), primary_key=True),
    sa.Column("stream", Word(STREAM), primary_key=True),
    sa.Column("parked", Json, nullable=False),
    **innodb(),
)

swept = sa.Table(
    "bus_swept",
    metadata,
    sa.Column("projection", Word(), primary_key=True),
    sa.Column("until", Moment, nullable=False),
    **innodb(),
)

leases = sa.Table(
    "bus_leases",
    metadata,
    sa.Column("name", Word(), primary_key=True),
    sa.Column("owner", Word(), nullable=False),
    sa.Column("until", Moment, nullable=False),
    **innodb(),
)


class SqlControl(SqlLetters, Control, Examined):
    """A service's own records, beside its log: for one that has no MongoDB."""

    def __init__(self, engine: AsyncEngine, *, creates: bool = True) -> None:
        """Without `creates`, tables that are missing are not made but reported."""
        super().__init__(Database(engine))
        self._creates = creates
        self._migrations = Migrations(self._database)

    async def open(self, *, makes: bool = True) -> None:
        await self._database.look()
        await self._migrations.need(creates=makes and self._creates, may_lack=False)

    async def examined(self) -> list[Finding]:
        found = await server_of(self._database)
        if problems := await self._migrations.problems():
            return [found, *(of_problem(problem, promise="G1") for problem in problems)]
        return [found, *await rights_in(self._database, [notes, parked, swept, leases])]

    async def close(self) -> None: ...

    def now(self) -> datetime:
        return self._database.now()

    async def drop(self, target: Target) -> None:
        name = target.collection
        own = sa.and_(notes.c.key > f"{name}/", notes.c.key < f"{name}0")
        await self._database.write(parked.delete().where(parked.c.projection == name))
        await self._database.write(swept.delete().where(swept.c.projection == name))
        await self._database.write(notes.delete().where(own))

    async def park(self, target: Target, stream: Parked) -> None:
        row = {"projection": target.collection, "stream": stream.stream}
        await self._put(parked, row, {"parked": kept({**stream._asdict()})})

    async def unpark(self, target: Target, stream: str) -> None:
        own = (parked.c.projection == target.collection, parked.c.stream == stream)
        await self._database.write(parked.delete().where(*own))

    async def parked(self, target: Target, streams: Collection[str] | None = None) -> list[Parked]:
        query = sa.select(parked.c.parked).where(parked.c.projection == target.collection)
        if streams is not None:
            query = query.where(parked.c.stream.in_(list(streams)))
        return [_parked(row.parked) for row in await self._database.rows(query)]

    async def swept(self, target: Target) -> datetime | None:
        query = sa.select(swept.c.until).where(swept.c.projection == target.collection)
        rows = await self._database.rows(query)
        return rows[0].until if rows else None

    async def mark_swept(self, target: Target, until: datetime) -> None:
        await self._put(swept, {"projection": target.collection}, {"until": until})

    async def note(self, key: str) -> Note:
        query = sa.select(notes.c.revision, notes.c.value).where(notes.c.key == key)
        rows = await self._database.rows(query)
        return Note(key, document_in(rows[0].value), rows[0].revision) if rows else Note(key, {})

    async def write_note(self, note: Note) -> bool:
        row = {"revision": note.revision + 1, "value": kept({**note.value})}
        if note.revision == 0:
            return await self._added(notes.insert().values(key=note.key, **row))
        unchanged = (notes.c.key == note.key, notes.c.revision == note.revision)
        return bool(await self._database.write(notes.update().where(*unchanged).values(row)))

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Returns none: tables have no identity that all databases tell to all users. Whether the
        log is the same is seen by its newest commit."""
        return {}

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        now = self._database.now()
        mine = {"owner": owner, "until": now + timedelta(seconds=seconds)}
        free = sa.or_(leases.c.until <= now, leases.c.owner == owner)
        if await self._database.write(
            leases.update().where(leases.c.name == name, free).values(mine)
        ):
            return True
        return await self._added(leases.insert().values(name=name, **mine))

    async def _put(self, table: sa.Table, key: dict[str, Any], values: dict[str, Any]) -> None:
        """Replaces a row, or adds it. Raises: InvalidMessage, StoreUnavailable, OutcomeUnknown."""
        own = [table.c[name] == value for name, value in key.items()]
        update = table.update().where(*own).values(values)
        if await self._database.write(update):
            return
        if not await self._added(table.insert().values({**key, **values})):
            await self._database.write(update)

    async def _added(self, insert: sa.Insert) -> bool:
        """Returns whether a row was added, and not there before.

        Raises: InvalidMessage, StoreUnavailable, OutcomeUnknown.
        """
        try:
            await self._database.write(insert)
        except StoreUnavailable as error:
            if error.__cause__ is None or kind_of(error.__cause__) is not Kind.TAKEN:
                raise
            return False
        return True


class LogNotes(SqlControl):
    """The notes in the log's database, for a service that keeps all else in MongoDB."""

    async def note(self, key: str) -> Note:
        """Returns an empty one where the tables are not made yet, too."""
        return await super().note(key) if await self._migrations.version() else Note(key, {})


def _parked(data: Any) -> Parked:
    """Returns a parked stream, without fields that other releases add."""
    row = document_in(data)
    known = {name: row[name] for name in Parked._fields if name in row}
    return Parked(**{**known, "frames": tuple(row.get("frames", ()))})
