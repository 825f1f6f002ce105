"""A service whose commands change aggregates that are stored by their state, and write rows of its
own beside them."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from bus import Aggregate, Bus, Command, Event, Repository, Router, Settings

metadata = sa.MetaData()
bookings = sa.Table(
    "bookings",
    metadata,
    sa.Column("desk", sa.String(50), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("who", sa.String(50), primary_key=True),
)


class Book(Command):
    desk_id: str
    who: str
    fails: bool = False


class Clear(Command):
    """Clears all desks at which somebody sits."""

    who: str


class Booked(Event):
    who: str


class Cleared(Event):
    pass


class Desk(Aggregate, stored="state", indexes=["who"]):
    who: str = ""
    bookings: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Booked():
                self.who = event.who
                self.bookings += 1
            case Cleared():
                self.who = ""


class Failed(Exception):
    pass


async def _nothing(session: AsyncSession) -> None: ...


class Probe:
    """What a test does within a handler, and how often handlers ran."""

    def __init__(self) -> None:
        self.runs = 0
        self.meanwhile: Any = _nothing


def build(settings: Settings, probe: Probe | None = None) -> Bus:
    probe = probe or Probe()
    router = Router("desks")

    @router.command
    async def book(command: Book, desks: Repository[Desk], session: AsyncSession) -> int:
        probe.runs += 1
        desk = await desks.find(command.desk_id)
        if desk is None:
            desk = Desk(command.desk_id)
            desks.add(desk)
        desk.record(Booked(who=command.who))
        row = {"desk": desk.id, "number": desk.bookings, "who": command.who}
        await session.execute(bookings.insert().values(row))
        await probe.meanwhile(session)
        if command.fails:
            raise Failed
        return desk.bookings

    @router.command
    async def clear(command: Clear, desks: Repository[Desk], session: AsyncSession) -> list[str]:
        found = await desks.find(who=command.who)
        for desk in found:
            desk.record(Cleared())
            own = sa.and_(bookings.c.desk == desk.id, bookings.c.number == desk.bookings)
            await session.execute(bookings.update().where(own).values(who="nobody"))
        return [desk.id for desk in found]

    return Bus("desks", routers=[router], settings=settings)


async def make_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
