"""Where deliveries wait until they are taken. Knows no broker."""

import asyncio
from collections import deque

from bus.transports.base import Delivery


class Buffer:
    """Deliveries in the order of their arrival, for one taker at a time."""

    def __init__(self) -> None:
        self._deliveries: deque[Delivery] = deque()
        self._changed = asyncio.Event()
        self._stopped = False

    def add(self, delivery: Delivery) -> None:
        self._deliveries.append(delivery)
        self._changed.set()

    def clear(self) -> None:
        self._deliveries.clear()

    def stop(self) -> None:
        """Says that nothing more will come; `take` then returns what is left, or an empty list."""
        self._stopped = True
        self._changed.set()

    async def take(self, limit: int) -> list[Delivery]:
        """Waits for the first delivery, then returns all that are there, at most `limit`."""
        while not self._deliveries and not self._stopped:
            self._changed.clear()
            await self._changed.wait()
        deliveries = self._deliveries
        return [deliveries.popleft() for _ in range(min(limit, len(deliveries)))]
