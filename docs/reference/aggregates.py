"""Aggregates: they decide, record events, and are rebuilt from them."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from bus import Aggregate, Event
from reference.messages import (
    CouponExpired,
    CouponIssued,
    FirstStepTaken,
    Line,
    NextStepTaken,
    OrderCancelled,
    OrderId,
    OrderPlaced,
    OrderShipped,
    StepTaken,
)


class NotOpen(Exception):
    """An error of one's own: it reaches the caller, and nothing is stored."""


class Order(Aggregate):
    """Annotated attributes are its state; `apply` names every event that it records."""

    total: Decimal = Decimal(0)
    status: str = "new"

    @classmethod
    def place(cls, order_id: OrderId, customer: str, lines: tuple[Line, ...]) -> Self:
        order = cls(order_id)
        order.record(OrderPlaced(order_id=order_id, customer=customer, lines=lines))
        return order

    def ship(self) -> None:
        self._check_open()
        self.record(OrderShipped(order_id=OrderId(self.id)))

    def cancel(self, reason: str | None = None) -> None:
        self._check_open()
        self.record(OrderCancelled(order_id=OrderId(self.id), reason=reason))

    def apply(self, event: Event) -> None:
        match event:
            case OrderPlaced(lines=lines):
                self.status = "open"
                self.total = sum((line.price * line.quantity for line in lines), Decimal(0))
            case OrderShipped():
                self.status = "shipped"
            case OrderCancelled():
                self.status = "cancelled"
            case _:
                pass

    def _check_open(self) -> None:
        if self.status != "open":
            raise NotOpen(f"order {self.id} is {self.status}")


@dataclass(frozen=True)
class Step:
    name: str
    number: int


class Journey(
    Aggregate,
    category="order_journey",
    events=[FirstStepTaken, NextStepTaken],
    snapshot_every=100,
):
    """`events=` lists what it reads where `apply` does not name it; here that is by a base class.

    `category=` names its streams (by default the class, in snake case), and `snapshot_every=` keeps
    the state every so many events, so that long streams load fast.
    """

    steps: list[Step] = []  # noqa: RUF012 - each aggregate gets a list of its own

    def step(self, name: str) -> None:
        self.record(NextStepTaken(name=name) if self.steps else FirstStepTaken(name=name))

    def apply(self, event: Event) -> None:
        if isinstance(event, StepTaken):
            self.steps.append(Step(event.name, len(self.steps) + 1))


class Coupon(Aggregate, stored="state", indexes=["customer"], schema=2):
    """`stored="state"` stores the state with each commit: loading is one read, and coupons are
    found by their `indexes=`. `schema=` counts the shapes that the state has had; `upcast` reads
    the older ones."""

    customer: str = ""
    expired: bool = False

    @classmethod
    def upcast(cls, state: dict[str, Any], schema: int) -> dict[str, Any]:
        return {**state, "expired": False} if schema == 1 else state

    def apply(self, event: Event) -> None:
        match event:
            case CouponIssued():
                self.customer = event.customer
            case CouponExpired():
                self.expired = True
            case _:
                pass
