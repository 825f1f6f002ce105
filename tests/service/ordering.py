"""A small service with tables of its own: plain classes that are mapped to tables imperatively, and
a repository of the service's own."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from bus import Aggregate, Bus, Command, Event, Outbox, Repository, RetryPolicy, Router, Settings

registry = orm.registry()


@dataclass
class Order:
    """Knows nothing of tables, and nothing of a bus."""

    id: str
    customer: str
    cents: int = 0

    def add(self, cents: int) -> None:
        self.cents += cents


orders = sa.Table(
    "orders",
    registry.metadata,
    sa.Column("id", sa.String(50), primary_key=True),
    sa.Column("customer", sa.String(50), nullable=False, unique=True),
    sa.Column("cents", sa.Integer, nullable=False),
)
registry.map_imperatively(Order, orders)


class Base(orm.DeclarativeBase):
    """Classes that say of what table they are, beside those that do not."""


class Mail(Base):
    """A declarative class."""

    __tablename__ = "mails"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    text: orm.Mapped[str] = orm.mapped_column(sa.String(200))


class Orders:
    """Maps orders to tables."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, id: str) -> Order | None:
        """Returns an order, which nobody else changes before the command is done."""
        return await self._session.get(Order, id, with_for_update=True)

    def add(self, order: Order) -> None:
        self._session.add(order)


class PlaceOrder(Command):
    order_id: str
    customer: str
    cents: int


class AddItem(Command):
    order_id: str
    cents: int


class Remind(Command):
    text: str


class OrderPlaced(Event):
    order_id: str
    cents: int


class ItemAdded(Event):
    order_id: str
    cents: int


class Counted(Event):
    pass


class Customer(Aggregate):
    orders: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Counted():
                self.orders += 1


class Probe:
    """What a test does within a handler, and how often handlers ran."""

    def __init__(self) -> None:
        self.runs = 0
        self.meanwhile: Any = _nothing


async def _nothing(session: AsyncSession) -> None: ...


ONCE = RetryPolicy(tries=1, delays=())


def build(
    settings: Settings, probe: Probe | None = None, service: str = "ordering", **more: Any
) -> Bus:
    """The bus of the orders; a fresh set of routers each time."""
    probe = probe or Probe()
    ordering, mailing = Router("orders", retry=ONCE), Router("mailing", retry=ONCE)

    @ordering.command
    async def place(
        command: PlaceOrder,
        session: AsyncSession,
        customers: Repository[Customer],
        outbox: Outbox,
        probe: Probe,
    ) -> int:
        probe.runs += 1
        customer = await customers.find(command.customer)
        if customer is None:
            customer = Customer(command.customer)
            customers.add(customer)
        customer.record(Counted())
        order = Order(command.order_id, command.customer, command.cents)
        Orders(session).add(order)
        placed = OrderPlaced(order_id=order.id, cents=order.cents)
        outbox.publish(placed, stream=f"order-{order.id}")
        await probe.meanwhile(session)
        return customer.orders

    @ordering.command
    async def add_item(
        command: AddItem, session: AsyncSession, outbox: Outbox, probe: Probe
    ) -> int | None:
        probe.runs += 1
        order = await Orders(session).get(command.order_id)
        if order is None:
            return None
        order.add(command.cents)
        added = ItemAdded(order_id=order.id, cents=command.cents)
        outbox.publish(added, stream=f"order-{order.id}")
        await probe.meanwhile(session)
        return order.cents

    @mailing.event
    async def on_placed(
        event: OrderPlaced, session: AsyncSession, outbox: Outbox, probe: Probe
    ) -> None:
        session.add(Mail(text=f"placed {event.order_id}"))
        outbox.send(Remind(text=event.order_id))

    @mailing.command
    async def remind(command: Remind, session: AsyncSession) -> None:
        session.add(Mail(text=f"remind {command.text}"))

    return Bus(
        service,
        routers=[ordering, mailing],
        settings=settings,
        provide={Probe: probe},
        **more,
    )


async def make_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(registry.metadata.create_all)
        await connection.run_sync(Base.metadata.create_all)
