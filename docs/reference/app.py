"""The composition root: the one place where the service is put together."""

from bus import Bus, Settings, timeout
from reference import handlers, projections
from reference.handlers import Mailer, MostLines, Shop

ROUTERS = [
    handlers.orders,
    handlers.mails,
    handlers.followed,
    handlers.journeys,
    handlers.stock,
    handlers.pricing,
    handlers.reminders,
    projections.queries,
]
PROJECTIONS = [
    projections.orders,
    projections.customers,
    projections.articles,
    projections.price_lists,
    projections.open_orders,
    projections.spent,
]


class Printer:
    """A Mailer, without saying so."""

    async def mail(self, to: str, text: str) -> None:
        print(f"to {to}: {text}")


def build(settings: Settings, mailer: Mailer | None = None) -> Bus:
    """The bus of the shop, not opened yet."""
    return Bus(
        "shop",
        routers=ROUTERS,
        projections=PROJECTIONS,
        provide={Mailer: mailer or Printer(), Shop: Shop("The shop"), MostLines: 10},
        middleware=[timeout(10)],
        settings=settings,
    )
