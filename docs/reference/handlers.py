"""Handlers of commands and events: whatever Python calls an async function.

The type of the first parameter is what it handles, the others are filled by their types.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Annotated, NewType, ParamSpec, Protocol, TypeVar

from bus import (
    GIVE_UP,
    Documents,
    Envelope,
    Fault,
    Outbox,
    Reject,
    Repository,
    RetryPolicy,
    Router,
    Session,
)
from reference.aggregates import Coupon, Journey, Order
from reference.messages import (
    CancelOrder,
    CouponExpired,
    CouponIssued,
    ExpireCoupons,
    IssueCoupon,
    OrderCancelled,
    OrderPlaced,
    OrderShipped,
    PlaceOrder,
    PriceSet,
    SendReminder,
    SetPrice,
    ShipOrder,
    StockCounted,
)
from reference.projections import OpenView

# What `Bus(provide={Type: value})` gives may be asked for by a class, a Protocol, a NewType, or an
# Annotated type.


class Mailer(Protocol):
    async def mail(self, to: str, text: str) -> None: ...


Shop = NewType("Shop", str)
MostLines = Annotated[int, "the most lines of an order"]

# Commands

orders = Router("ordering")


@orders.command
async def place_order(
    command: PlaceOrder, repository: Repository[Order], *, most: MostLines = 100
) -> int:
    """A function. What it returns is the receipt's `result`; what nobody provides keeps its
    default."""
    if len(command.lines) > most:
        raise Reject(f"an order has {most} lines at most")
    repository.add(Order.place(command.order_id, command.customer, command.lines))
    return len(command.lines)


P = ParamSpec("P")
R = TypeVar("R")


def audited(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """A decorator: functools.wraps says what the function within takes."""

    @wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return await function(*args, **kwargs)

    return wrapper


@orders.command
@audited
async def cancel_order(command: CancelOrder, repository: Repository[Order]) -> None:
    order = await repository.get(command.order_id)
    order.cancel(command.reason)


@dataclass
class Shipping:
    """An object whose class has `async def __call__`, with what it needs given at its making."""

    carrier: str

    async def __call__(self, command: ShipOrder, repository: Repository[Order]) -> str:
        order = await repository.get(command.order_id)
        order.ship()
        return self.carrier


orders.command(Shipping("by bike"))


@orders.command
async def issue_coupon(command: IssueCoupon, repository: Repository[Coupon]) -> None:
    coupon = Coupon(command.code)
    coupon.record(CouponIssued(customer=command.customer))
    repository.add(coupon)


@orders.command
async def expire_coupons(command: ExpireCoupons, repository: Repository[Coupon]) -> list[str]:
    """Aggregates that are stored by their state are found by its fields, too."""
    found = await repository.find(customer=command.customer, expired=False)
    for coupon in found:
        coupon.record(CouponExpired())
    return [coupon.id for coupon in found]


# Events: handlers with effects. The router's name is their queue.

mails = Router(
    "mails",
    concurrency=4,
    retry={Exception: RetryPolicy(tries=2, delays=(5, 60)), ValueError: GIVE_UP},
    time_limit=60,
)


class Letters:
    """Methods are registered of an object, below the class."""

    def __init__(self, sender: str) -> None:
        self._sender = sender

    async def thank(self, event: OrderPlaced, mailer: Mailer, shop: Shop) -> None:
        await mailer.mail(event.customer, f"{shop} thanks you. {self._sender}")

    @staticmethod
    async def alert(fault: Fault, mailer: Mailer) -> None:
        """`Fault` is the bus's own event: a message was given up."""
        await mailer.mail("operator", fault.reason)


letters = Letters("Ada")
mails.event(letters.thank)
mails.event(Letters.alert)


async def remind(command: SendReminder, mailer: Mailer | None = None, *, words: str) -> None:
    """A partial gives a part of what it takes; what is optional, nobody need provide."""
    if mailer is not None:
        await mailer.mail(command.order_id, words)


mails.command(partial(remind, words="Your order is still open."))


# A handler of several events names each of them; their own router is one more queue.

followed = Router("followed")


@followed.event
async def follow(
    event: OrderShipped | OrderCancelled,
    envelope: Envelope,
    outbox: Outbox,
    documents: Documents[OpenView],
) -> None:
    """What goes through the Outbox is stored with the rest, or not at all."""
    await documents.including(envelope)
    outbox.publish(StockCounted(article="open orders", left=await documents.count({})))


journeys = Router("journeys")


@journeys.event
async def journey(event: OrderPlaced | OrderShipped, repository: Repository[Journey]) -> None:
    """An event handler may change aggregates."""
    found = await repository.find(event.order_id)
    if found is None:
        found = Journey(event.order_id)
        repository.add(found)
    found.step(event.wire_name)


stock = Router("stock")


@stock.event
async def count(event: StockCounted, /, session: Session) -> None:
    """With a Session, what it writes happens exactly once."""
    await session.documents("stock").update(event.article, {"$set": {"left": event.left}})


pricing = Router("pricing")


@pricing.command
async def set_price(command: SetPrice, session: Session, outbox: Outbox) -> int:
    """Documents of the service's own, an event, and the command's id: all of it, or nothing."""
    prices = session.documents("prices")
    key = f"{command.market}/{command.article}"
    await prices.update(key, {"$set": {"price": command.price}, "$inc": {"changes": 1}})
    event = PriceSet(article=command.article, price=command.price)
    outbox.publish(event, stream=f"price_list-{command.market}")
    found = await prices.find_one({"_id": key})
    assert found is not None
    return int(found["changes"])


reminders = Router("reminders")


@reminders.event
async def soon(event: OrderPlaced, outbox: Outbox) -> None:
    outbox.send(SendReminder(order_id=event.order_id))
