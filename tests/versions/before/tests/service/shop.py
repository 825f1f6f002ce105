"""A small service in two versions: what it stored and sent before is read after it has changed.

The old one takes euros, in `Placed`. The new one takes cents: `Placed` is `OrderPlaced`, of another
shape. The old one notes things, in `Noted`, which no class of the new one knows.
"""

from typing import Any

from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Envelope,
    Event,
    Projection,
    Query,
    Reject,
    Repository,
    Router,
    Settings,
    Update,
)


class Place(Command):
    order_id: str
    euros: int


class Note(Command):
    order_id: str
    text: str


class GetTotal(Command):
    """Answers with the aggregate's total, as it is loaded."""

    order_id: str


class OrderView(BaseModel):
    id: str
    total: int = 0


class SumView(BaseModel):
    id: str
    total: int = 0


class GetOrder(Query[OrderView | None]):
    order_id: str


class GetSum(Query[SumView | None]):
    pass


class Mails:
    """What was sent for which stream; with `is_down`, handlers reject."""

    def __init__(self) -> None:
        self.is_down = False
        self.sent: list[tuple[str, int]] = []

    def send(self, envelope: Envelope, total: int) -> None:
        if self.is_down:
            raise Reject("the mail server is down")
        self.sent.append((envelope.stream, total))


class Placed(Event):
    euros: int


class Noted(Event):
    text: str


class OrderPlaced(Event, schema=2, formerly=["Placed"]):
    cents: int

    @classmethod
    def upcast(cls, data: dict[str, Any], schema: int) -> dict[str, Any]:
        return {"cents": 100 * data["euros"]} if schema == 1 else data


class OldOrder(Aggregate, category="order", snapshot_every=2):
    total: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Placed():
                self.total += event.euros
            case Noted():
                pass


class Order(Aggregate, category="order", snapshot_every=2):
    total: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case OrderPlaced():
                self.total += event.cents


def old(settings: Settings, service: str, mails: Mails) -> Bus:
    """The version that stores and sends `Placed` and `Noted`."""
    orders, mailing = Router("orders"), Router("mailing")
    views, sums = _projections(OldOrder, version=1)

    @orders.command
    async def place(command: Place, repository: Repository[OldOrder]) -> None:
        order = await repository.find(command.order_id) or OldOrder(command.order_id)
        if not order.version:
            repository.add(order)
        order.record(Placed(euros=command.euros))

    @orders.command
    async def note(command: Note, repository: Repository[OldOrder]) -> None:
        (await repository.get(command.order_id)).record(Noted(text=command.text))

    @mailing.event
    async def send(event: Placed | Noted, envelope: Envelope) -> None:
        mails.send(envelope, event.euros if isinstance(event, Placed) else 0)

    @views.on(Placed)
    @sums.on(Placed, key=lambda event: "all")
    def placed(event: Placed) -> Update:
        return {"$inc": {"total": event.euros}}

    return _bus(service, settings, [orders, mailing], [views, sums])


def new(settings: Settings, service: str, mails: Mails, *, version: int = 1) -> Bus:
    """The version that stores and sends `OrderPlaced`; with another version of its projections,
    they are built anew."""
    orders, mailing = Router("orders"), Router("mailing")
    views, sums = _projections(Order, version=version)

    @orders.command
    async def place(command: Place, repository: Repository[Order]) -> None:
        order = await repository.find(command.order_id) or Order(command.order_id)
        if not order.version:
            repository.add(order)
        order.record(OrderPlaced(cents=100 * command.euros))

    @orders.command
    async def get_total(command: GetTotal, repository: Repository[Order]) -> int:
        return (await repository.get(command.order_id)).total

    @mailing.event
    async def send(event: OrderPlaced, envelope: Envelope) -> None:
        mails.send(envelope, event.cents)

    @views.on(OrderPlaced)
    @sums.on(OrderPlaced, key=lambda event: "all")
    def placed(event: OrderPlaced) -> Update:
        return {"$inc": {"total": event.cents}}

    return _bus(service, settings, [orders, mailing], [views, sums])


def _projections(
    order: type[Aggregate], version: int
) -> tuple[Projection[OrderView], Projection[SumView]]:
    """One that is folded stream by stream, and one that is folded in time."""
    return (
        Projection("views", of=[order], view=OrderView, version=version),
        Projection("sums", of=[order], view=SumView, version=version),
    )


def _bus(
    service: str, settings: Settings, routers: list[Router], projections: list[Projection[Any]]
) -> Bus:
    queries = Router("queries")

    @queries.query
    async def get_order(query: GetOrder, documents: Documents[OrderView]) -> OrderView | None:
        return await documents.get(query.order_id)

    @queries.query
    async def get_sum(query: GetSum, documents: Documents[SumView]) -> SumView | None:
        return await documents.get("all")

    return Bus(service, routers=[*routers, queries], projections=projections, settings=settings)
