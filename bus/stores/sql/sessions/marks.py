"""The events that handlers with a session handled: a row for each, set in the handler's own
transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.stores.sql.engine import Database
from bus.stores.sql.failures import bounded, is_of_store, translated
from bus.stores.sql.moving import passing
from bus.stores.sql.schema import STREAM, Moment, Word, innodb, metadata

AT_A_TIME = 1000

handled = sa.Table(
    "bus_handled",
    metadata,
    sa.Column("mark", Word(STREAM), primary_key=True),
    sa.Column("time", Moment, nullable=False),
    sa.Index("bus_handled_time", "time"),
    **innodb(),
)


class Marks:
    """The table of handled events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, connection: AsyncConnection, mark: str) -> None:
        """Sets a mark as a part of a transaction. Raises: the driver's errors."""
        row = {"mark": mark, "time": self._database.now()}
        async with bounded(WAIT_WITHIN):
            await connection.execute(handled.insert().values(row))

    async def has(self, mark: str) -> bool:
        """Raises: StoreUnavailable."""
        query = sa.select(handled.c.mark).where(handled.c.mark == mark)
        return bool(await self._database.rows(query))

    async def page(self, after: str, limit: int, since: datetime | None) -> list[str]:
        """Returns at most `limit` marks after `after`, sorted; only those set from `since` on.

        Raises: StoreUnavailable.
        """
        query = sa.select(handled.c.mark).where(handled.c.mark > after)
        if since is not None:
            query = query.where(handled.c.time >= since)
        rows = await self._database.rows(query.order_by(handled.c.mark).limit(limit))
        return [row.mark for row in rows]

    async def add(self, marks: Sequence[str]) -> None:
        """Sets marks that do not exist, also behind a fence. Raises: StoreUnavailable,
        OutcomeUnknown."""
        there = sa.select(handled.c.mark).where(handled.c.mark.in_(list(marks)))
        known = {row.mark for row in await self._database.rows(there)}
        now = self._database.now()
        rows = [{"mark": mark, "time": now} for mark in marks if mark not in known]
        if not rows:
            return
        try:
            async with (
                bounded(WAIT_WITHIN),
                self._database.transaction() as connection,
                passing(connection),
            ):
                await connection.execute(handled.insert(), rows)
        except Exception as error:
            if not is_of_store(error):
                raise
            raise translated(self._database.name, error, writing=True) from error

    async def forget(self, marks: Sequence[str]) -> None:
        """Removes marks. Raises: StoreUnavailable, OutcomeUnknown."""
        if marks:
            await self._database.write(handled.delete().where(handled.c.mark.in_(list(marks))))

    async def forget_old(self, seconds: float) -> None:
        """Removes the marks that are older, some at a time: a large delete would hold up others.

        Raises: StoreUnavailable, OutcomeUnknown.
        """
        old: Any = handled.c.time < self._database.now() - timedelta(seconds=seconds)
        oldest = sa.select(handled.c.mark).where(old).order_by(handled.c.time).limit(AT_A_TIME)
        while rows := await self._database.rows(oldest):
            await self.forget([row.mark for row in rows])


WAIT_WITHIN = 10.0
"""Seconds for a statement that may wait for another transaction's lock, for which the server has a
shorter limit."""
