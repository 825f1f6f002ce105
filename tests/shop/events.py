"""What the services tell each other. An order, its payment and its parcel have the same id."""

from bus import Aggregate, Event


class OrderPlaced(Event):
    order_id: str
    article: str
    amount: int
    card: str


class OrderCancelled(Event):
    order_id: str


class Order(Aggregate, events=[OrderPlaced, OrderCancelled]):
    cancelled: bool = False

    def apply(self, event: Event) -> None:
        self.cancelled = isinstance(event, OrderCancelled)


class PaymentTaken(Event):
    order_id: str
    amount: int


class PaymentRefunded(Event):
    order_id: str


class Payment(Aggregate, events=[PaymentTaken, PaymentRefunded]):
    refunded: bool = False

    def apply(self, event: Event) -> None:
        self.refunded = isinstance(event, PaymentRefunded)


class ParcelSent(Event):
    order_id: str
    courier: str


class Parcel(Aggregate, events=[ParcelSent]):
    def apply(self, event: Event) -> None:
        """It decides nothing by what happened."""
