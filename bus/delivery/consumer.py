"""Consumers: what a worker expects of each queue's, and how they begin."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from bus.errors import TransportUnavailable
from bus.failures.retry import Holding, Stopped, insist
from bus.observe.log import Logger
from bus.observe.loops import pauses
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


class QueueConsumer:
    """What consumers have in common: a queue, its inbox once they consume, and how they stop."""

    def __init__(self, queue: str, transport: Transport, *, prefetch: int = PREFETCH) -> None:
        self.queue = queue
        self._transport = transport
        self._prefetch = prefetch
        self._stopping = asyncio.Event()
        self._inbox: Inbox | None = None
        self._holding = Holding(queue)

    @property
    def problem(self) -> str | None:
        return self._holding.reason

    @property
    def inbox(self) -> Inbox | None:
        return self._inbox

    async def open(self) -> Inbox:
        """The queue's inbox, as soon as the broker is there."""
        for pause in pauses():
            try:
                self._inbox = await self._transport.inbox(self.queue, prefetch=self._prefetch)
                return self._inbox
            except TransportUnavailable as error:
                log.warning("broker away; waiting to consume", queue=self.queue, reason=str(error))
            await asyncio.sleep(pause)
        raise AssertionError("pauses are endless")

    async def stop(self, timeout: float) -> None:
        """Takes nothing more; what is at hand is finished by `run`."""
        self._stopping.set()
        if self._inbox:
            await self._inbox.stop()


class BatchConsumer(QueueConsumer):
    """Takes what has arrived in a queue, has it processed, and settles it then.

    Subclasses say what processing is: it is repeated for as long as a service is away.
    """

    async def process(self, deliveries: Sequence[Delivery]) -> None:
        """Does with a batch what is to be done; doing it again changes nothing."""
        raise NotImplementedError

    async def run(self) -> None:
        """Consumes until stopped; outages of broker and database only delay it."""
        inbox = await self.open()
        try:
            while not self._stopping.is_set():
                if deliveries := await inbox.take(self._prefetch):
                    await insist(partial(self.process, deliveries), self._holding, self._stopping)
                    with suppress(TransportUnavailable):
                        await inbox.acknowledge(deliveries)
        except Stopped:
            pass
        finally:
            await inbox.close()
