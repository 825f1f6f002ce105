"""A service of payments whose handlers leave a mark, send, or do what nobody can undo."""

from datetime import datetime

from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Envelope,
    Event,
    Events,
    Outbox,
    Projection,
    Repository,
    Router,
    Session,
    Settings,
    Update,
)
from tests.waiting import until


class Pay(Command):
    payment_id: str


class Book(Command):
    payment_id: str


class Paid(Event):
    payment_id: str


class Refunded(Event):
    payment_id: str


class Booked(Event):
    payment_id: str


class Payment(Aggregate, events=[Paid, Refunded]):
    pass


class Booking(Aggregate, events=[Booked]):
    pass


class PaymentView(BaseModel):
    paid: int = 0
    refunded: int = 0


class Service:
    """`mails` writes in a session, `books` sends a command, `rings` does what nobody can undo."""

    def __init__(self, settings: Settings, name: str) -> None:
        desk = Router("desk")
        mails, books, rings = Router("mails"), Router("books"), Router("rings")
        views = Projection("payments", of=[Payment], view=PaymentView, partitions=2)
        self.rung: list[str] = []

        @desk.command
        async def pay(command: Pay, repository: Repository[Payment]) -> None:
            payment = Payment(command.payment_id)
            payment.record(Paid(payment_id=command.payment_id))
            payment.record(Refunded(payment_id=command.payment_id))
            repository.add(payment)

        @desk.command
        async def book(command: Book, repository: Repository[Booking]) -> None:
            booking = Booking(command.payment_id)
            booking.record(Booked(payment_id=command.payment_id))
            repository.add(booking)

        @mails.event
        async def mail(event: Paid, envelope: Envelope, session: Session) -> None:
            await session.documents("outgoing").update(envelope.id, {"$inc": {"times": 1}})

        @books.event
        async def have_it_booked(event: Paid, outbox: Outbox) -> None:
            outbox.send(Book(payment_id=event.payment_id))

        @rings.event
        async def ring(event: Paid) -> None:
            self.rung.append(event.payment_id)

        @views.on(Paid)
        def paid(event: Paid) -> Update:
            return {"$inc": {"paid": 1}}

        @views.on(Refunded)
        def refunded(event: Refunded) -> Update:
            return {"$inc": {"refunded": 1}}

        self.bus = Bus(
            name, routers=[desk, mails, books, rings], projections=[views], settings=settings
        )
        self.queue = f"{name}.rings"

    async def pay(self, *ids: str) -> None:
        for id in ids:
            await self.bus.execute(Pay(payment_id=id))

    async def republish(self, to: str, since: datetime, **options: object) -> int:
        return (await Events(self.bus).republish(to, since=since, **options)).events  # type: ignore[arg-type]

    async def lose(self, *queues: str) -> None:
        """Everything in queues is gone with them, and they are declared anew."""
        await self.bus.runtime.transport.delete(queues)
        await self.bus.runtime.transport.declare(self.bus.runtime.topology)


async def drained(service: Service) -> None:
    async def empty() -> bool:
        transport = service.bus.runtime.transport
        queues = [q.name for one in service.bus.runtime.subscriptions for q in one.queues]
        depths = [await transport.depth(queue) for queue in queues]
        return not any(depths)

    await until(empty, "all queues are empty")
