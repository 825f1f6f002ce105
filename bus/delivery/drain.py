"""Drain: what the broker itself gave up, for it was delivered too often in vain, becomes a dead
letter like all others."""

import asyncio
from functools import partial

from bus.delivery.consumer import PREFETCH, open_inbox
from bus.delivery.faults import GiveUp
from bus.delivery.retry import Stopped, insist
from bus.errors import MessageError
from bus.transports.base import DEATH_QUEUE, DEATH_REASON, Delivery, Inbox, Transport


class DeliveryLimitReached(MessageError):
    """Delivered again and again, and never settled: whoever took it ended before."""


class DeadQueueConsumer:
    """Empties the service's dead queue into the dead letters."""

    problem: str | None = None

    def __init__(self, queue: str, transport: Transport, give_up: GiveUp) -> None:
        self.queue = queue
        self._transport = transport
        self._give_up = give_up
        self._stopping = asyncio.Event()
        self._inbox: Inbox | None = None

    @property
    def inbox(self) -> Inbox | None:
        return self._inbox

    async def run(self) -> None:
        """Consumes until stopped; outages of broker and database only delay it."""
        inbox = self._inbox = await open_inbox(self._transport, self.queue, PREFETCH)
        try:
            while not self._stopping.is_set():
                for delivery in await inbox.take(PREFETCH):
                    await insist(partial(self._bury, delivery), self.queue, self._stopping)
                    await inbox.acknowledge([delivery])
        except Stopped:
            pass
        finally:
            await inbox.close()

    async def stop(self, timeout: float) -> None:
        """Takes nothing more; what is at hand is finished by `run`."""
        self._stopping.set()
        if self._inbox:
            await self._inbox.stop()

    async def _bury(self, delivery: Delivery) -> None:
        queue, reason, died = _as_it_was(delivery)
        error = DeliveryLimitReached(f"given up by the broker: {reason}")
        await self._give_up(died, error, handler=queue, attempts=0)


def _as_it_was(delivery: Delivery) -> tuple[str, str, Delivery]:
    """The queue that gave it up, why, and the delivery as that queue made it."""
    headers = dict(delivery.frame.headers)
    queue = str(headers.pop(DEATH_QUEUE, delivery.queue))
    reason = str(headers.pop(DEATH_REASON, "unknown"))
    frame = delivery.frame._replace(address="", headers=headers)
    return queue, reason, delivery._replace(queue=queue, frame=frame)
