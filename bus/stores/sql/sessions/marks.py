"""The events that handlers with a session handled: a row for each, set in the handler's own
transaction."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.stores.sql.engine import Database
from bus.stores.sql.failures import bounded
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

    async def page(self, after: str, limit: int) -> list[str]:
        """Returns at most `limit` marks after `after`, sorted. Raises: StoreUnavailable."""
        query = sa.select(handled.c.mark).where(handled.c.mark > after)
        rows = await self._database.rows(query.order_by(handled.c.mark).limit(limit))
        return [row.mark for row in rows]

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
