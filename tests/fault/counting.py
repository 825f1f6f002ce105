"""A service that counts, in an aggregate and in a session of its log's database; and a process that
sends it commands. Arguments: the process's name, how many commands of its own.

The process says that it is ready, waits for a line, and prints the versions that each id got.
"""

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

import sqlalchemy as sa
from pymongo import AsyncMongoClient
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from bus import (
    Aggregate,
    Bus,
    Command,
    ConcurrencyError,
    Event,
    Outbox,
    OutcomeUnknown,
    Receipt,
    Repository,
    Router,
    Session,
    Settings,
    Unavailable,
)

OPEN = (ConcurrencyError, OutcomeUnknown, Unavailable)
"""What a client repeats, under the same id."""
TRY = "try"
"""The header that says by which try of a command a commit was stored."""
COUNTER, JOURNAL = "counter-", "journal-"
SHARED = 10
TABLE = "journals"
ROW = sa.table(TABLE, sa.column("id"), sa.column("entries"))


class Add(Command):
    """To an aggregate."""

    to: str


class Enter(Command):
    """What is counted in the session, with an event of a named stream."""

    to: str


class Added(Event):
    pass


class Entered(Event):
    pass


class Counter(Aggregate):
    added: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Added():
                self.added += 1


counters = Router("counters")


@counters.command
async def add(command: Add, repository: Repository[Counter]) -> int:
    counter = await repository.find(command.to)
    if counter is None:
        counter = Counter(command.to)
        repository.add(counter)
    counter.record(Added())
    return counter.added


def in_documents() -> Router:
    router = Router("journals")

    @router.command
    async def enter(command: Enter, session: Session, outbox: Outbox) -> None:
        await session.documents(TABLE).update(command.to, {"$inc": {"entries": 1}})
        outbox.publish(Entered(), stream=f"{JOURNAL}{command.to}")

    return router


def in_rows() -> Router:
    router = Router("journals")

    @router.command
    async def enter(command: Enter, session: AsyncSession, outbox: Outbox) -> None:
        mine = sa.update(ROW).where(ROW.c.id == command.to)
        await session.execute(mine.values(entries=ROW.c.entries + 1))
        outbox.publish(Entered(), stream=f"{JOURNAL}{command.to}")

    return router


def build(settings: Settings, service: str = "counting") -> Bus:
    journals = in_rows() if settings.log_url else in_documents()
    return Bus(service, routers=[counters, journals], settings=settings)


async def make_journals(settings: Settings, names: Iterable[str]) -> None:
    """Makes the table, with a row for each; documents come by themselves."""
    if not settings.log_url:
        return
    engine = create_async_engine(settings.log_url)
    async with engine.begin() as connection:
        await connection.execute(
            sa.text(f"CREATE TABLE {TABLE} (id VARCHAR(20) PRIMARY KEY, entries INT)")
        )
        await connection.execute(sa.insert(ROW), [{"id": name, "entries": 0} for name in names])
    await engine.dispose()


async def entries(settings: Settings) -> Mapping[str, int]:
    """What the sessions counted."""
    if settings.log_url:
        engine = create_async_engine(settings.log_url)
        async with engine.connect() as connection:
            rows = (await connection.execute(sa.select(ROW))).all()
        await engine.dispose()
        return {row.id: row.entries for row in rows}
    client: AsyncMongoClient[Any] = AsyncMongoClient(settings.mongo_url)
    async with client:
        found = await client[settings.mongo_db][TABLE].find({}).to_list(None)
    return {document["_id"]: document["entries"] for document in found}


class Client:
    """Sends commands, and knows what was said of each try."""

    def __init__(self, bus: Bus, name: str) -> None:
        self._bus = bus
        self._tries = (f"{name}/{number}" for number in count())
        self.said: dict[str, str] = {}

    async def once(self, command: Command, id: str) -> Receipt | None:
        """Returns the receipt; None if the outcome is open."""
        attempt = next(self._tries)
        try:
            receipt = await self._bus.execute(command, id=id, headers={TRY: attempt})
        except OPEN as error:
            self.said[attempt] = type(error).__name__
            return None
        self.said[attempt] = "accepted"
        return receipt

    async def until_known(self, command: Command, id: str) -> Receipt:
        """Repeats it under its id until its outcome is known."""
        while True:
            if receipt := await self.once(command, id):
                return receipt
            await asyncio.sleep(0.05)


def commands(name: str, own: int) -> dict[str, Command]:
    """What a process sends, by id: some of its own, and some that others send, too."""
    ids = [f"{name}-{number}" for number in range(own)] + [f"shared-{n}" for n in range(SHARED)]
    return {f"{kind.__name__}-{id}": kind(to="a") for id in ids for kind in (Add, Enter)}


async def main(name: str, own: int) -> None:
    async with build(Settings()) as bus:
        client = Client(bus, name)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        sending = commands(name, own)
        receipts = await asyncio.gather(*[client.until_known(c, id) for id, c in sending.items()])
        got = zip(sending, receipts, strict=True)
        versions = {id: receipt.versions for id, receipt in got}
        print(json.dumps({"versions": versions, "said": client.said}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
