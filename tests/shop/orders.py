"""Orders: people place and cancel them, and see on a board how far each is."""

from typing import Literal

from pydantic import BaseModel

from bus import Bus, Command, Documents, Projection, Query, Repository, Router, Settings, Update
from tests.shop import names
from tests.shop.events import (
    Order,
    OrderCancelled,
    OrderPlaced,
    Parcel,
    ParcelSent,
    Payment,
    PaymentRefunded,
    PaymentTaken,
)

State = Literal["placed", "cancelled"]


class PlaceOrder(Command):
    order_id: str
    article: str
    amount: int
    card: str


class CancelOrder(Command):
    order_id: str


class OrderView(BaseModel):
    id: str
    article: str = ""
    state: State = "placed"
    paid: int = 0
    courier: str = ""


class GetOrder(Query[OrderView | None]):
    order_id: str


orders = Router("orders")
board = Projection("orders_board", of=[Order, Payment, Parcel], view=OrderView)


@orders.command
async def place_order(command: PlaceOrder, repository: Repository[Order]) -> None:
    order = Order(command.order_id)
    order.record(OrderPlaced(**command.model_dump()))
    repository.add(order)


@orders.command
async def cancel_order(command: CancelOrder, repository: Repository[Order]) -> None:
    order = await repository.get(command.order_id)
    if not order.cancelled:
        order.record(OrderCancelled(order_id=command.order_id))


@orders.query
async def get_order(query: GetOrder, documents: Documents[OrderView]) -> OrderView | None:
    return await documents.get(query.order_id)


@board.on(OrderPlaced)
def placed(event: OrderPlaced) -> Update:
    return {"$set": {"article": event.article}}


@board.on(OrderCancelled)
def cancelled(event: OrderCancelled) -> Update:
    return {"$set": {"state": "cancelled"}}


@board.on(PaymentTaken)
def paid(event: PaymentTaken) -> Update:
    return {"$set": {"paid": event.amount}}


@board.on(PaymentRefunded)
def refunded(event: PaymentRefunded) -> Update:
    return {"$set": {"paid": 0}}


@board.on(ParcelSent)
def sent(event: ParcelSent) -> Update:
    return {"$set": {"courier": event.courier}}


def build(settings: Settings) -> Bus:
    return Bus(
        names.orders(),
        routers=[orders],
        projections=[board],
        foreign={Payment.category: names.payments(), Parcel.category: names.shipping()},
        settings=settings,
    )
