"""Consumers: what a worker expects of each queue's, and how they begin."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from bus.delivery.retry import Stopped, insist, pauses
from bus.errors import TransportUnavailable
from bus.log import Logger
from bus.transports.base import Delivery, Inbox, Transport

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


class BatchConsumer:
    """Takes what has arrived in a queue, has it processed, and settles it then.

    Subclasses say what processing is: it is repeated for as long as a service is away.
    """

    problem: str | None = None

    def __init__(self, queue: str, transport: Transport, *, prefetch: int = PREFETCH) -> None:
        self.queue = queue
        self._transport = transport
        self._prefetch = prefetch
        self._stopping = asyncio.Event()
        self._inbox: Inbox | None = None

    @property
    def inbox(self) -> Inbox | None:
        return self._inbox

    async def process(self, deliveries: Sequence[Delivery]) -> None:
        """Does with a batch what is to be done; doing it again changes nothing."""
        raise NotImplementedError

    async def run(self) -> None:
        """Consumes until stopped; outages of broker and database only delay it."""
        inbox = self._inbox = await open_inbox(self._transport, self.queue, self._prefetch)
        try:
            while not self._stopping.is_set():
                if deliveries := await inbox.take(self._prefetch):
                    await insist(partial(self.process, deliveries), self.queue, self._stopping)
                    with suppress(TransportUnavailable):
                        await inbox.acknowledge(deliveries)
        except Stopped:
            pass
        finally:
            await inbox.close()

    async def stop(self, timeout: float) -> None:
        """Takes nothing more; what is at hand is finished by `run`."""
        self._stopping.set()
        if self._inbox:
            await self._inbox.stop()


async def open_inbox(transport: Transport, queue: str, prefetch: int) -> Inbox:
    """The queue's inbox, as soon as the broker is there."""
    for pause in pauses():
        try:
            return await transport.inbox(queue, prefetch=prefetch)
        except TransportUnavailable as error:
            log.warning("broker away; waiting to consume", queue=queue, reason=str(error))
        await asyncio.sleep(pause)
    raise AssertionError("pauses are endless")
