"""Ground: a broker in memory that several buses share, and the stores of each service."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from pydantic import PrivateAttr

from bus.assembly.backend import Backend
from bus.assembly.runtime import HasRuntime
from bus.errors import NotBuilt
from bus.observe.loops import Loops
from bus.settings import Settings
from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog
from bus.stores.memory.effects import MemoryEffects
from bus.stores.memory.log import MemoryFollowedLog
from bus.testing.simulation.feeds import Group, MemoryFeed
from bus.transports.feed import Feed
from bus.transports.memory.transport import MemoryBroker, MemoryTransport

PAUSE = 0.01


class Stores:
    """Everything that one service stores."""

    def __init__(self) -> None:
        self.event_log = MemoryEventLog()
        self.collections = MemoryCollections()
        self.control = MemoryControl()
        self.followed = MemoryFollowedLog()

    def effects(self, projected: Collection[str], handled_for: float) -> MemoryEffects:
        """Returns transactions on these stores, which share the marks of handled events."""
        return MemoryEffects(
            self.event_log, self.collections, projected=projected, handled_for=handled_for
        )


class Ground:
    """One broker, and the stores of each service."""

    def __init__(self, broker: MemoryBroker | None = None) -> None:
        self.broker = broker or MemoryBroker()
        self._stores: defaultdict[str, Stores] = defaultdict(Stores)
        self._groups: defaultdict[str, Group] = defaultdict(Group)

    def stores(self, service: str) -> Stores:
        """Returns the stores of a service, the same ones each time."""
        return self._stores[service]

    def feed(self, feed: Feed) -> MemoryFeed:
        """Returns what reads the owner's log in place of a feed."""
        return MemoryFeed(feed, lambda owner: self._stores[owner].event_log, self._groups)


class SharedMemory(Settings):
    """Settings in memory whose buses share a broker."""

    _ground: Ground = PrivateAttr(default_factory=Ground)

    def backend(self, service: str, projected: Sequence[str], loops: Loops) -> Backend:
        """Returns a new transport on the shared broker, and the service's stores."""
        stores = self._ground.stores(service)
        return Backend(
            transport=MemoryTransport(self._ground.broker, service),
            event_log=stores.event_log,
            collections=stores.collections,
            control=stores.control,
            effects=stores.effects(projected, self.handled_for),
            followed=stores.followed,
            feed=self._ground.feed,
        )


def shared_memory(**values: Any) -> Settings:
    """Returns settings in memory whose buses share one broker; those of one service also share its
    stores, as processes do.

        settings = shared_memory()
        async with orders(settings) as shop, Worker(shop), payments(settings) as bank, Worker(bank):
            await built(bank)
            receipt = await shop.execute(PlaceOrder(order_id="o1", euros=5))
            assert await bank.query(GetPayment(order_id="o1"), after=receipt)

    If `bank` follows `shop`, its projections first ask for the history: `built` waits for that.
    `values` are fields of `Settings`.
    """
    return SharedMemory.in_memory(**values)


async def built(*buses: HasRuntime, within: float = 30.0) -> None:
    """Waits until every projection of these buses can be read; in memory as in MongoDB.

    Workers build them, including other services' history.

    Raises: NotBuilt after `within` seconds, for the first that cannot be read; ConfigurationError
    if a bus is not open.
    """
    deadline = time.monotonic() + within
    for runtime in [bus.runtime.usable() for bus in buses]:
        for projection in runtime.projections:
            while True:
                try:
                    await runtime.catalogue.target(projection)
                    break
                except NotBuilt:
                    if time.monotonic() > deadline:
                        raise
                await asyncio.sleep(PAUSE)
