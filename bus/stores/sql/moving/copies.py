"""Copies of another log's commits, and a log's own commits in the order of every log."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.errors import ConfigurationError
from bus.stores.event_log import Commit, StoredCommit
from bus.stores.records import differ, taken_by_another
from bus.stores.sql.engine import Database
from bus.stores.sql.failures import Kind, bounded, is_of_store, kind_of, translated
from bus.stores.sql.moving.fence import passing
from bus.stores.sql.rows import COLUMNS, FIELDS, Row, Sent, commit_of
from bus.stores.sql.schema import commits as table

WITH_PENDING = [*FIELDS, table.c.pending]

IMPORT_WITHIN = 30.0
MOST_ROWS = 500
MOST_BYTES = 4 * 1024 * 1024

_NAMES = ", ".join((*COLUMNS, "pending"))
_TYPES = {"first": "bigint", "last": "bigint", "time": "timestamptz"}
_AS_JSON = ("headers", "events", "outgoing", "result")

_INTO_POSTGRESQL = (
    f"INSERT INTO bus_commits ({_NAMES}) SELECT "
    + ", ".join(f"t.{name}::json" if name in _AS_JSON else f"t.{name}" for name in COLUMNS)
    + ", nullif(t.pending, false) FROM unnest("
    + ", ".join(f"${n}::{_TYPES.get(name, 'text')}[]" for n, name in enumerate(COLUMNS, 1))
    + f", ${len(COLUMNS) + 1}::boolean[]) AS t({_NAMES})"
)
_INTO_MYSQL = f"INSERT INTO bus_commits ({_NAMES}) VALUES "
_ROW = f"({', '.join(['%s'] * (len(COLUMNS) + 1))})"


async def in_order(rows: AsyncIterator[Any]) -> AsyncGenerator[StoredCommit, None]:
    """Yields commits of rows that are sorted by time and version, those of one time and version by
    their streams."""
    group: list[StoredCommit] = []
    async for row in rows:
        stored = StoredCommit(commit_of(row[:-1]), bool(row.pending))
        if group and _moment(stored) != _moment(group[0]):
            for one in sorted(group, key=_stream):
                yield one
            group = []
        group.append(stored)
    for one in sorted(group, key=_stream):
        yield one


def _moment(stored: StoredCommit) -> tuple[Any, int]:
    return stored.commit.time, stored.commit.first


def _stream(stored: StoredCommit) -> str:
    return stored.commit.stream


async def _insert(
    connection: AsyncConnection, rows: Sequence[Row], pending: Sequence[bool]
) -> None:
    """Stores rows in one statement. Raises: the driver's errors."""
    if connection.dialect.name == "postgresql":
        columns = (*map(list, zip(*rows, strict=True)), list(pending))
        await connection.exec_driver_sql(_INTO_POSTGRESQL, columns)
        return
    pairs = zip(rows, pending, strict=True)
    values = [value for row, is_pending in pairs for value in (*row, is_pending or None)]
    statement = _INTO_MYSQL + ", ".join([_ROW] * len(rows))
    await connection.exec_driver_sql(statement, tuple(values))


class Copies:
    """Stores copies of another log's commits."""

    def __init__(self, database: Database, send: Callable[[Commit], Sent]) -> None:
        self._database = database
        self._send = send

    async def store(self, copies: Sequence[StoredCommit], most_bytes: int) -> None:
        """Stores copies, for `EventLog.import_commits`. Statements have so many bytes at most; 0 if
        there is no limit."""
        most_bytes = min(most_bytes or MOST_BYTES, MOST_BYTES)
        part: list[StoredCommit] = []
        size = 0
        for copy in copies:
            own = len(self._send(copy.commit))
            if part and (size + own > most_bytes or len(part) == MOST_ROWS):
                await self._store(part)
                part, size = [], 0
            part.append(copy)
            size += own
        if part:
            await self._store(part)

    async def _store(self, copies: Sequence[StoredCommit]) -> None:
        if await self._inserted(copies):
            return
        here = await self._here(copies)
        for commit, _ in copies:
            if commit.id in here and differ(here[commit.id].commit, commit):
                raise taken_by_another(here[commit.id].commit, commit)
        missing = [copy for copy in copies if copy.commit.id not in here]
        if missing and not await self._inserted(missing):
            raise await self._place_taken(missing)
        for pending in (True, False):
            ids = [
                id
                for id, copy in ((copy.commit.id, copy) for copy in copies)
                if copy.pending is pending and id in here and here[id].pending is not pending
            ]
            if ids:
                mark = table.update().where(table.c.id.in_(ids)).values(pending=pending or None)
                await self._database.write(mark, IMPORT_WITHIN)

    async def _inserted(self, copies: Sequence[StoredCommit]) -> bool:
        """Inserts all of them; returns False, and inserts none, if an id or a place is taken."""
        rows = [self._send(copy.commit).row for copy in copies]
        pending = [copy.pending for copy in copies]
        try:
            async with (
                bounded(IMPORT_WITHIN),
                self._database.transaction() as connection,
                passing(connection),
            ):
                await _insert(connection, rows, pending)
        except Exception as error:
            if not is_of_store(error):
                raise
            if kind_of(error) is Kind.TAKEN:
                return False
            raise translated(self._database.name, error, writing=True) from error
        return True

    async def _here(self, copies: Sequence[StoredCommit]) -> dict[str, StoredCommit]:
        """Returns what is stored under the ids of copies."""
        ids = [copy.commit.id for copy in copies]
        query = sa.select(*WITH_PENDING).where(table.c.id.in_(ids))
        rows = await self._database.rows(query, IMPORT_WITHIN)
        return {row.id: StoredCommit(commit_of(row[:-1]), bool(row.pending)) for row in rows}

    async def _place_taken(self, copies: Sequence[StoredCommit]) -> ConfigurationError:
        for commit, _ in copies:
            place = sa.and_(table.c.stream == commit.stream, table.c.first == commit.first)
            rows = await self._database.rows(sa.select(*FIELDS).where(place))
            if rows and rows[0].id != commit.id:
                return taken_by_another(commit_of(rows[0]), commit)
        return taken_by_another(copies[0].commit, copies[0].commit)
