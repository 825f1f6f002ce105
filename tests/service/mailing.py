"""A small service whose event handler has effects in collections of its own, by a session."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Envelope,
    Event,
    Outbox,
    Projection,
    Repository,
    Router,
    Session,
    Settings,
    Update,
)
from bus.data.ids import key_of
from bus.dispatch.middleware import Next
from bus.stores.collections import Target
from tests.service.wallet import Paid, Thank, Wallet, payments


class Booked(Event):
    amount: int


class Ledger(Aggregate):
    total: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Booked():
                self.total += event.amount


class WalletView(BaseModel):
    id: str


class Post:
    """What a test may do to the handler, and how often it ran and was done."""

    def __init__(self) -> None:
        self.runs = 0
        self.done = 0
        self.meanwhile: Callable[[Session], Awaitable[Any]] = _nothing


async def _nothing(session: Session) -> None:
    await asyncio.sleep(0)


def build(
    settings: Settings, post: Post | None = None, service: str = "mailing", **more: Any
) -> Bus:
    """The bus of the mails; a fresh set of routers each time."""
    post = post or Post()
    mailing = Router("mailing", concurrency=16)
    wallets = Projection("wallets", of=[Wallet], view=WalletView)

    @mailing.event
    async def on_paid(
        event: Paid,
        envelope: Envelope,
        session: Session,
        repository: Repository[Ledger],
        outbox: Outbox,
        post: Post,
    ) -> None:
        post.runs += 1
        await session.documents("mail_queue").update(envelope.id, {"$inc": {"copies": 1}})
        await session.documents("totals").update("all", {"$inc": {"paid": event.amount}})
        if event.mood != "records nothing":
            await _book(event, key_of(envelope.stream), repository, outbox)
        await post.meanwhile(session)

    @wallets.on(Paid)
    def paid(event: Paid) -> Update:
        return {"$set": {"paid": True}}

    async def counting(envelope: Envelope, following: Next) -> Any:
        try:
            return await following(envelope)
        finally:
            post.done += isinstance(envelope.message, Paid)

    return Bus(
        service,
        routers=[payments(), mailing],
        projections=[wallets],
        settings=settings,
        provide={Post: post},
        middleware=[counting],
        **more,
    )


async def _book(event: Paid, wallet: str, repository: Repository[Ledger], outbox: Outbox) -> None:
    ledger = await repository.find(wallet)
    if ledger is None:
        ledger = Ledger(wallet)
        repository.add(ledger)
    ledger.record(Booked(amount=event.amount))
    outbox.send(Thank(wallet_id=wallet))


async def all_of(bus: Bus, collection: str) -> list[dict[str, Any]]:
    """What stands in a collection of the service's own."""
    return await bus.runtime.collections.documents(Target("", collection, False)).find({})


async def paid_in_total(bus: Bus) -> int:
    """What the handlers added up in their one shared document."""
    return sum(document["paid"] for document in await all_of(bus, "totals"))
