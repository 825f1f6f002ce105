"""Consumers: what a worker expects of each queue's, and how they begin."""

import asyncio
from typing import Protocol

from bus.delivery.retry import pauses
from bus.errors import TransportUnavailable
from bus.log import Logger
from bus.transports.base import Inbox, Transport

PREFETCH = 100

log = Logger("bus.consumer")


class Consumer(Protocol):
    """Consumes one queue until it is stopped."""

    queue: str

    @property
    def problem(self) -> str | None:
        """What keeps it from getting on just now."""
        ...

    @property
    def inbox(self) -> Inbox | None:
        """Where its messages come from, once it consumes."""
        ...

    async def run(self) -> None: ...

    async def stop(self, timeout: float) -> None: ...


async def open_inbox(transport: Transport, queue: str, prefetch: int) -> Inbox:
    """The queue's inbox, as soon as the broker is there."""
    for pause in pauses():
        try:
            return await transport.inbox(queue, prefetch=prefetch)
        except TransportUnavailable as error:
            log.warning("broker away; waiting to consume", queue=queue, reason=str(error))
        await asyncio.sleep(pause)
    raise AssertionError("pauses are endless")
