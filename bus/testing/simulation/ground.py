"""Ground: a broker in memory and, for each service, stores of its own, where several buses meet."""

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
from bus.stores.memory import MemoryEventLog, MemoryReadStore
from bus.stores.memory.effects import MemoryEffects
from bus.stores.memory.log import MemoryFollowedLog
from bus.transports.memory.transport import MemoryBroker, MemoryTransport

PAUSE = 0.01


class Stores:
    """All that one service stores."""

    def __init__(self) -> None:
        self.event_log = MemoryEventLog()
        self.read_store = MemoryReadStore()
        self.followed = MemoryFollowedLog()

    def effects(self, projected: Collection[str], handled_for: float) -> MemoryEffects:
        """Transactions over these; all of them know the same marks."""
        return MemoryEffects(
            self.event_log, self.read_store, projected=projected, handled_for=handled_for
        )


class Ground:
    """One broker, and the stores of each service."""

    def __init__(self, broker: MemoryBroker | None = None) -> None:
        self.broker = broker or MemoryBroker()
        self._stores: defaultdict[str, Stores] = defaultdict(Stores)

    def stores(self, service: str) -> Stores:
        """Those of a service, the same each time."""
        return self._stores[service]


class SharedMemory(Settings):
    """Settings in memory by which buses meet."""

    _ground: Ground = PrivateAttr(default_factory=Ground)

    def backend(self, service: str, projected: Sequence[str], loops: Loops) -> Backend:
        """A transport of its own over the broker that all share, and the service's stores."""
        stores = self._ground.stores(service)
        return Backend(
            transport=MemoryTransport(self._ground.broker, service),
            event_log=stores.event_log,
            read_store=stores.read_store,
            effects=stores.effects(projected, self.handled_for),
            followed=stores.followed,
        )


def shared_memory(**values: Any) -> Settings:
    """Settings in memory for several buses: those that are made with them share one broker, and
    those of one service its stores too, as processes do.

        settings = shared_memory()
        async with orders(settings) as shop, Worker(shop), payments(settings) as bank, Worker(bank):
            await built(bank)
            receipt = await shop.execute(PlaceOrder(order_id="o1", euros=5))
            assert await bank.query(GetPayment(order_id="o1"), after=receipt)

    Where `bank` follows `shop`, its projections ask for the history first: `built` awaits that.
    `values` are fields of `Settings`.
    """
    return SharedMemory.in_memory(**values)


async def built(*buses: HasRuntime, within: float = 30.0) -> None:
    """Waits until every projection of these buses can be read; in memory as in MongoDB.

    Workers build them, the history of other services included. Raises: NotBuilt, after `within`
    seconds, for the first that cannot; ConfigurationError where a bus is not open.
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
