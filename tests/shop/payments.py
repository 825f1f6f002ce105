"""Payments: taken for each order that is placed, with a line in a ledger, and given back."""

from bus import Bus, Command, Outbox, Reject, Repository, Router, Session, Settings
from tests.shop import names
from tests.shop.events import (
    Order,
    OrderCancelled,
    OrderPlaced,
    Payment,
    PaymentRefunded,
    PaymentTaken,
)

DECLINED = "declined"
"""A card that no bank knows."""


class Refund(Command):
    order_id: str


taking = Router("taking")
refunds = Router("refunds")


@taking.event
async def take(event: OrderPlaced, repository: Repository[Payment], session: Session) -> None:
    if event.card == DECLINED:
        raise Reject("the bank knows no such card")
    await session.documents("ledger").update(event.order_id, {"$inc": {"amount": event.amount}})
    payment = Payment(event.order_id)
    payment.record(PaymentTaken(order_id=event.order_id, amount=event.amount))
    repository.add(payment)


@taking.event
async def give_back(event: OrderCancelled, outbox: Outbox) -> None:
    outbox.send(Refund(order_id=event.order_id))


@refunds.command
async def refund(command: Refund, repository: Repository[Payment]) -> None:
    payment = await repository.find(command.order_id)
    if payment is not None and not payment.refunded:
        payment.record(PaymentRefunded(order_id=command.order_id))


def build(settings: Settings) -> Bus:
    return Bus(
        names.payments(),
        routers=[taking, refunds],
        foreign={Order.category: names.orders()},
        settings=settings,
    )
