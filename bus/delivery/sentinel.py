"""Compares the consumers that this process believes it has with what the broker reports.

A broker can forget a consumer without the client noticing: nothing fails, and nothing arrives. If
several processes consume a queue, only their number is known, and some brokers do not count those
that stand by for a single-consumer queue. So the only sure sign is a queue without any consumer.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from bus.common import clock
from bus.delivery.consumer import Consumer, forgotten
from bus.errors import TransportUnavailable
from bus.observe.health import Check
from bus.observe.loops import Loops
from bus.observe.signals import ConsumerReopened
from bus.transports.base import Inbox, Transport

ROUNDS = 3
"""First the channel is reopened, then the connection; after that, only a restart may help."""
ANSWER_WITHIN = 3.0


class Sentinel:
    """Looks every `every` seconds, give or take a half, and reopens what the broker forgot."""

    def __init__(
        self,
        consumers: Iterable[Consumer],
        transport: Transport,
        *,
        every: float,
        loops: Loops | None = None,
    ) -> None:
        self._consumers = consumers
        self._transport = transport
        self._every = every
        self._loops = loops or Loops()
        self._missed: dict[str, int] = {}
        self._idle: dict[str, tuple[tuple[int, int], int]] = {}
        self._stuck: set[str] = set()

    @property
    def check(self) -> Check:
        return Check("sentinel", self._forgotten_for_good, "alive")

    @property
    def arrivals(self) -> Check:
        return Check("arrivals", self._stuck_queues)

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await asyncio.sleep(clock.jittered(self._every))
            await self._loops.turn("sentinel", self.look, None)

    async def look(self) -> None:
        """Looks at each queue once; passes over those for which the broker does not answer."""
        for consumer in list(self._consumers):
            with suppress(TransportUnavailable, TimeoutError):
                async with asyncio.timeout(ANSWER_WITHIN):
                    await self._look_at(consumer)

    async def _look_at(self, consumer: Consumer) -> None:
        inbox = consumer.inbox
        if inbox is None or not await forgotten(inbox, self._transport):
            self._missed.pop(consumer.queue, None)
            if inbox is not None:
                await self._look_for_arrivals(inbox)
            return
        missed = self._missed[inbox.queue] = self._missed.get(inbox.queue, 0) + 1
        self._loops.signals.emit(ConsumerReopened, inbox.queue, "forgotten", round=missed)
        await inbox.reopen(connection=missed > 1)

    async def _look_for_arrivals(self, inbox: Inbox) -> None:
        """Reopens a queue's only consumer if messages wait in the queue and none reaches it."""
        queue, last = inbox.queue, inbox.idle_since
        seen, before = self._idle.pop(queue, (None, 0))
        waiting = await self._waiting(queue) if last else 0
        if last is None or not waiting:
            self._stuck.discard(queue)
        elif last == seen and waiting >= before:  # else somebody works them off
            self._stuck.add(queue)
            self._loops.signals.emit(ConsumerReopened, queue, "stuck", waiting=waiting)
            await inbox.reopen()
        else:
            self._idle[queue] = last, waiting

    async def _waiting(self, queue: str) -> int:
        """Returns how many messages wait; 0 if there are several consumers, because then another
        one may be the one to get them."""
        alone = await self._transport.consumers(queue) == 1
        return await self._transport.depth(queue) if alone else 0

    async def _stuck_queues(self) -> str | None:
        if not self._stuck:
            return None
        return (
            f"messages wait, and none arrives here, in {', '.join(sorted(self._stuck))}; the "
            f"consumer is opened anew. Where a node of RabbitMQ 4.3 or later died, a queue waits "
            f"for its consumers there, 60 s unless consumer_disconnected_timeout says less"
        )

    async def _forgotten_for_good(self) -> str | None:
        queues = sorted(queue for queue, missed in self._missed.items() if missed >= ROUNDS)
        if not queues:
            return None
        return f"reopening does not bring back the consumer of {', '.join(queues)}"
