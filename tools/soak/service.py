"""The soak's service: the job board, and purses between which money moves.

A move changes two streams at once, by one transaction. What handlers do about it is written in
their sessions, one document for each event, so that nothing lost and nothing twice stays hidden.
Release 2 (`SOAK_RELEASE=2`) handles an event that release 1 knows nothing of.
"""

import os
from collections.abc import Mapping

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from bus import (
    Aggregate,
    Bus,
    Command,
    Envelope,
    Event,
    Projection,
    Repository,
    Router,
    Session,
    Settings,
    Update,
)
from handlers import applications_app, jobs_app, services

RELEASE = "SOAK_RELEASE"
SEEN = "moves_seen"
NOTE = sa.text(f"INSERT INTO {SEEN} (id) VALUES (:id)")
SUBSCRIPTION = "accounting"
FIRST_BALANCE = 1000


class OpenPurse(Command):
    """Everybody begins with the same."""

    purse_id: str


class MoveMoney(Command):
    """From one purse to another, or not at all."""

    source: str
    target: str
    amount: int


class PurseOpened(Event):
    balance: int


class MoneyLeft(Event):
    amount: int


class MoneyCame(Event):
    amount: int


class UnknownPurse(Exception):
    """Nobody has opened it (yet)."""


class PurseIsEmpty(Exception):
    """There is less in it than what is to leave it."""


class Purse(Aggregate):
    """Never holds less than nothing."""

    balance: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case PurseOpened():
                self.balance = event.balance
            case MoneyLeft():
                self.balance -= event.amount
            case MoneyCame():
                self.balance += event.amount


class PurseView(BaseModel):
    balance: int


purses = Router("moving_money")
projection = Projection("purses", of=[Purse], view=PurseView)


@purses.command
async def open_purse(command: OpenPurse, repository: Repository[Purse]) -> None:
    purse = Purse(command.purse_id)
    purse.record(PurseOpened(balance=FIRST_BALANCE))
    repository.add(purse)


@purses.command
async def move_money(command: MoveMoney, repository: Repository[Purse]) -> None:
    source = await repository.find(command.source)
    target = await repository.find(command.target)
    if source is None or target is None:
        raise UnknownPurse
    if source.balance < command.amount:
        raise PurseIsEmpty
    source.record(MoneyLeft(amount=command.amount))
    target.record(MoneyCame(amount=command.amount))


@projection.on(PurseOpened)
def opened(event: PurseOpened) -> Update:
    return {"$set": {"balance": event.balance}}


@projection.on(MoneyLeft)
def left(event: MoneyLeft) -> Update:
    return {"$inc": {"balance": -event.amount}}


@projection.on(MoneyCame)
def came(event: MoneyCame) -> Update:
    return {"$inc": {"balance": event.amount}}


def accounting(release: int, *, in_sql: bool) -> Router:
    """Notes each event that it handles, where the log is; those of money that left, from release 2
    on."""
    router = Router(SUBSCRIPTION, concurrency=32)
    (_note_in_rows if in_sql else _note_in_documents)(router, release)
    return router


def _note_in_documents(router: Router, release: int) -> None:
    @router.event
    async def note_what_came(event: MoneyCame, envelope: Envelope, session: Session) -> None:
        await session.documents(SEEN).update(envelope.id, {"$inc": {"times": 1}})

    if release > 1:

        @router.event
        async def note_what_left(event: MoneyLeft, envelope: Envelope, session: Session) -> None:
            await session.documents(SEEN).update(envelope.id, {"$inc": {"times": 1}})


def _note_in_rows(router: Router, release: int) -> None:
    """Any number of rows may have one id: a second effect shows, and is not refused."""

    @router.event
    async def note_what_came(event: MoneyCame, envelope: Envelope, session: AsyncSession) -> None:
        await session.execute(NOTE, {"id": envelope.id})

    if release > 1:

        @router.event
        async def note_what_left(
            event: MoneyLeft, envelope: Envelope, session: AsyncSession
        ) -> None:
            await session.execute(NOTE, {"id": envelope.id})


def build(settings: Settings, service: str = "", urls: Mapping[str, str] | None = None) -> Bus:
    """The job board's bus with the purses on it, not opened yet; what is kept elsewhere is at the
    URLs, or where the environment says."""
    from tools.soak.sinks import projections as sinks  # whose events are these

    elsewhere = sinks.projections(sinks.told() if urls is None else urls)
    release = int(os.environ.get(RELEASE, "1"))
    return Bus(
        service or services.job_board(),
        routers=[
            *jobs_app.routers(),
            *applications_app.routers(settings),
            purses,
            accounting(release, in_sql=bool(settings.log_url)),
        ],
        projections=[
            *jobs_app.projections(),
            *applications_app.PROJECTIONS,
            projection,
            *elsewhere,
        ],
        settings=settings,
    )
