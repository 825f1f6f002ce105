"""Rooms booked in SQL: a row of the service's own table for each room and hour.

python -m handlers.rooms_in_sql    # makes the table in the database of BUS_LOG_URL
"""

import asyncio

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from bus import Repository, Router, Settings
from handlers.interviews import call_off, plan
from write_models.applications import Application
from write_models.interviews import (
    Booking,
    Bookings,
    CallOffInterviews,
    Interview,
    PlanInterview,
    RoomIsTaken,
)

# MariaDB and MySQL would take rooms "a" and "A" for one.
NAME = sa.String(100).with_variant(mysql.VARCHAR(100, collation="utf8mb4_bin"), "mysql", "mariadb")

registry = orm.registry()
table = sa.Table(
    "bookings",
    registry.metadata,
    sa.Column("room", NAME, primary_key=True),
    sa.Column("hour", sa.String(16), primary_key=True),
    sa.Column("interview_id", sa.String(100), nullable=False),
)
registry.map_imperatively(Booking, table)

interviews = Router("interviews")


class BookedRows(Bookings):
    """Maps bookings to rows; that a room is booked once for an hour, the table's key sees to."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, booking: Booking) -> None:
        try:
            async with self._session.begin_nested():  # else the error would end the transaction
                self._session.add(booking)
        except IntegrityError:
            raise RoomIsTaken(booking.room, booking.hour) from None

    async def remove(self, room: str, hour: str) -> None:
        found = sa.and_(table.c.room == room, table.c.hour == hour)
        await self._session.execute(sa.delete(Booking).where(found))


@interviews.command
async def plan_interview(
    command: PlanInterview,
    applications: Repository[Application],
    repository: Repository[Interview],
    session: AsyncSession,
) -> str:
    return await plan(command, applications, repository, BookedRows(session))


@interviews.command
async def call_off_interviews(
    command: CallOffInterviews, repository: Repository[Interview], session: AsyncSession
) -> int:
    return await call_off(command, repository, BookedRows(session))


async def make_table(log_url: str) -> None:
    """Makes the table, if it is not there. A service's migrations would do it."""
    engine = create_async_engine(log_url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(registry.metadata.create_all)
    finally:
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(make_table(Settings().log_url))
