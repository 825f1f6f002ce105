"""A service whose log is moved while commands come in: a bank, which a shop follows."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from bus import (
    Bus,
    Command,
    Documents,
    Envelope,
    Outbox,
    OutcomeUnknown,
    Projection,
    Receipt,
    Repository,
    Router,
    Session,
    Settings,
    StoreUnavailable,
    Update,
)
from bus.assembly.backend import Backend, default_backend
from bus.observe.loops import Loops
from bus.operate.log_place import LogPlace
from bus.stores.mongo import MongoEffects, MongoEventLog, close, connect
from tests.service.following_contract import GetPurse, Paid, Pay, Purse, PurseView

PAUSE = 0.05
"""Seconds between two payments of a client: as many as can be would make the move a long one."""


class Audit(Command):
    purse_id: str
    amount: int


class MovedSettings(Settings):
    """The log, and what handlers write by a session, are in a database of their own."""

    log_db: str

    def backend(self, service: str, projected: Sequence[str], loops: Loops) -> Backend:
        usual = default_backend(self)(service, projected, loops)
        client = connect(self.mongo_url)
        log = MongoEventLog(client, self.log_db, loops=loops)
        effects = MongoEffects(
            client, self.log_db, log, projected=projected, handled_for=self.handled_for
        )

        async def disconnect() -> None:
            await close(client)
            await usual.disconnect()

        return replace(usual, event_log=log, effects=effects, disconnect=disconnect)


@asynccontextmanager
async def place(settings: Settings, service: str, name: str) -> AsyncIterator[LogPlace]:
    """The log of a service with these settings."""
    make = getattr(settings, "backend", None) or default_backend(settings)
    backend: Backend = make(service, [], Loops())
    await backend.event_log.open()
    try:
        yield LogPlace(name, backend.event_log, backend.effects)
    finally:
        await backend.event_log.close()
        await backend.effects.close()
        await backend.disconnect()


outgoing = sa.Table(
    "outgoing",
    sa.MetaData(),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(200)),
)


@asynccontextmanager
async def table_of_mails(url: str) -> AsyncIterator[AsyncEngine]:
    """Makes the bank's own table in a database."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(outgoing.metadata.create_all)
        yield engine
    finally:
        await engine.dispose()


async def mailed_in(engine: AsyncEngine) -> Counter[str]:
    """How often each event was mailed there."""
    async with engine.connect() as connection:
        return Counter((await connection.execute(sa.select(outgoing.c.id))).scalars())


class Bell(Counter[str]):
    """How often each event was rung for."""


def bank(settings: Settings, name: str, bell: Bell) -> Bus:
    """Its purses are projected, rung for, audited by a command, and mailed in a session, which is
    that of the log's database."""
    desk, mails, rings = Router("desk"), Router("mails"), Router("rings")
    purses = Projection("purses", of=[Purse], view=PurseView, partitions=2)

    @desk.command
    async def pay(command: Pay, repository: Repository[Purse], outbox: Outbox) -> int:
        purse = await repository.find(command.purse_id)
        if purse is None:
            purse = Purse(command.purse_id)
            repository.add(purse)
        purse.record(Paid(amount=command.amount))
        outbox.send(Audit(purse_id=command.purse_id, amount=command.amount))
        return purse.version

    @desk.command
    async def audit(command: Audit, bell: Bell) -> None:
        bell[f"audit {command.purse_id} {command.amount}"] += 1

    @desk.query
    async def get(query: GetPurse, documents: Documents[PurseView]) -> PurseView | None:
        return await documents.get(query.purse_id)

    @purses.on(Paid)
    def paid(event: Paid, envelope: Envelope) -> Update:
        return {"$push": {"amounts": event.amount, "told_by": envelope.id}}

    if settings.log_url:

        @mails.event
        async def mail_in_sql(event: Paid, envelope: Envelope, session: AsyncSession) -> None:
            await session.execute(outgoing.insert().values(id=envelope.id))

    else:

        @mails.event
        async def mail(event: Paid, envelope: Envelope, session: Session) -> None:
            await session.documents("outgoing").update(envelope.id, {"$inc": {"times": 1}})

    @rings.event
    async def ring(event: Paid, envelope: Envelope, bell: Bell) -> None:
        bell[envelope.id] += 1

    return Bus(
        name,
        routers=[desk, mails, rings],
        projections=[purses],
        settings=settings,
        provide={Bell: bell},
    )


class Clients:
    """Pay into purses, one payment after the other; what is refused is tried again with its id, at
    the bus that takes payments by then."""

    def __init__(self, bus: Bus, count: int = 6) -> None:
        self.buses = [bus]
        """The oldest first, which is tried first, as by processes that were not stopped yet."""
        self.receipts: dict[str, tuple[Pay, Receipt]] = {}
        self.refused = 0
        self.refusals = set[str]()
        self._stop = asyncio.Event()
        self._count = count
        self._paid = Counter[str]()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._count):
                tasks.create_task(self._client(f"p{number}"))

    def stop(self) -> None:
        self._stop.set()

    async def _client(self, purse: str) -> None:
        while not self._stop.is_set():
            self._paid[purse] += 1
            amount = self._paid[purse]
            id = f"{purse}-payment-{amount}"
            payment = Pay(purse_id=purse, amount=amount)
            while id not in self.receipts:
                await self._tried(payment, id)
            await asyncio.sleep(PAUSE)

    async def _tried(self, payment: Pay, id: str) -> None:
        for bus in list(self.buses):
            try:
                self.receipts[id] = payment, await bus.execute(payment, id=id)
            except (StoreUnavailable, OutcomeUnknown) as error:
                self.refusals.add(str(error))
                self.refused += 1
            else:
                return
        await asyncio.sleep(0.02)

    @property
    def paid(self) -> dict[str, list[int]]:
        """What each purse was paid, in order."""
        return {purse: [*range(1, last + 1)] for purse, last in self._paid.items()}


async def mailed(*databases: Any) -> Counter[str]:
    """How often each event was mailed, by what sessions wrote in several databases."""
    found = Counter[str]()
    for database in databases:
        async for row in database["outgoing"].find():
            found[row["_id"]] += row["times"]
    return found
