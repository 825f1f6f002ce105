"""Commands, events and queries: immutable pydantic models."""

from decimal import Decimal
from typing import Annotated, Any, Generic, NewType, TypeVar

from pydantic import BaseModel, Field

from bus import Command, Event, Query

OrderId = NewType("OrderId", str)
Quantity = Annotated[int, Field(gt=0, le=1000)]


class Line(BaseModel):
    """A part of messages need not be a message itself."""

    article: str
    quantity: Quantity = 1
    price: Decimal


# Commands: requests, in the imperative. Each has one handler.


class PlaceOrder(Command):
    """Fields may be of any type that pydantic reads back as it wrote it."""

    order_id: OrderId
    customer: str
    lines: tuple[Line, ...]


class CancelOrder(Command):
    order_id: OrderId
    reason: str | None = None


class ShipOrder(Command):
    order_id: OrderId


class SendReminder(Command):
    order_id: OrderId


class IssueCoupon(Command):
    code: str
    customer: str


class ExpireCoupons(Command):
    customer: str


# Events: facts, in the past tense. Any number of handlers and projections hear of them.


class OrderEvent(Event):
    """A base class for what events share. It is never recorded itself, and a handler names the
    events that it runs for, not their base."""

    order_id: OrderId


class OrderPlaced(OrderEvent, schema=2):
    """`schema=` counts the shapes that the event has had; `upcast` reads the older ones."""

    customer: str
    lines: tuple[Line, ...]

    @classmethod
    def upcast(cls, data: dict[str, Any], schema: int) -> dict[str, Any]:
        return {**data, "customer": data["buyer"]} if schema == 1 else data


class OrderCancelled(OrderEvent, formerly=["OrderAborted"]):
    """`formerly=` names it had: what was stored under them is read as this class."""

    reason: str | None = None


class OrderShipped(OrderEvent, name="order_shipped"):
    """`name=` is the name that it is stored and sent under; by default that of the class."""


class StepTaken(Event):
    """What an event handler records about other events is an event of another class: of the same
    one, it would hear again."""

    name: str


class FirstStepTaken(StepTaken):
    pass


class NextStepTaken(StepTaken):
    pass


class CouponIssued(Event):
    customer: str


class CouponExpired(Event):
    pass


class StockCounted(Event):
    """A fact that belongs to no aggregate: `bus.publish(...)`, or `outbox.publish(...)`."""

    article: str
    left: int


class SetPrice(Command):
    market: str
    article: str
    price: Decimal


class PriceSet(Event):
    """A fact of a stream that it names: `outbox.publish(..., stream="price_list-eur")`."""

    article: str
    price: Decimal


# Queries: `Query[Answer]` says what comes back.

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    total: int


class Paged(Query[Page[Item]], Generic[Item]):
    """A base class of queries with a type parameter: `class ListOrders(Paged[OrderView])`."""

    skip: int = 0
    limit: int = Field(default=20, le=100)
