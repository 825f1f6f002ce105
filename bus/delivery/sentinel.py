"""Sentinel: compares the consumers that this process believes in with what the broker reports.

A broker can forget a consumer without the client hearing of it; then nothing fails, and nothing
arrives. Of a queue that several processes consume only the sum is known, and of a single-consumer
queue some brokers do not count who stands by: so the one sure sign is a queue with no consumer.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from bus import ambient
from bus.delivery.consumer import Consumer
from bus.errors import TransportUnavailable
from bus.health import Check
from bus.log import Logger
from bus.loops import Loops
from bus.transports.base import Inbox, Transport

ROUNDS = 3
"""Reopening the channel, then the connection; if that does not help either, only a restart may."""
ANSWER_WITHIN = 3.0

log = Logger("bus.sentinel")


class Sentinel:
    """Looks every `every` seconds (give or take a half), and reopens what the broker forgot."""

    def __init__(
        self,
        consumers: Sequence[Consumer],
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

    @property
    def check(self) -> Check:
        return Check("sentinel", self._given_up, "alive")

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await asyncio.sleep(ambient.jittered(self._every))
            await self._loops.turn("sentinel", self.look, None)

    async def look(self) -> None:
        """One round over all queues; a broker that does not answer is nobody's mismatch."""
        for consumer in list(self._consumers):
            with suppress(TransportUnavailable, TimeoutError):
                async with asyncio.timeout(ANSWER_WITHIN):
                    await self._look_at(consumer)

    async def _look_at(self, consumer: Consumer) -> None:
        inbox = consumer.inbox
        if inbox is None or not await forgotten(inbox, self._transport):
            self._missed.pop(consumer.queue, None)
            return
        missed = self._missed[inbox.queue] = self._missed.get(inbox.queue, 0) + 1
        log.error("the broker knows no consumer; reopening", queue=inbox.queue, round=missed)
        await inbox.reopen(connection=missed > 1)

    async def _given_up(self) -> str | None:
        queues = sorted(queue for queue, missed in self._missed.items() if missed >= ROUNDS)
        if not queues:
            return None
        return f"reopening does not bring back the consumer of {', '.join(queues)}"


async def forgotten(inbox: Inbox, transport: Transport) -> bool:
    """Whether the inbox takes itself for a consumer where the broker knows of none.

    Raises: TransportUnavailable.
    """
    if not inbox.consuming:
        return False
    known = await transport.consumers(inbox.queue)
    return not known and inbox.consuming


def consumer_check(consumer: Consumer, transport: Transport) -> Check:
    """Whether a queue's messages arrive here and are worked off."""

    async def ask() -> str | None:
        inbox = consumer.inbox
        missed = inbox is not None and await forgotten(inbox, transport)
        if inbox is None or not inbox.consuming:  # it may have been lost while the broker was asked
            why = inbox.problem if inbox else None
            return f"it is not being consumed just now{': ' if why else ''}{why or ''}"
        return "the broker knows no consumer of ours" if missed else consumer.problem

    return Check(f"queue {consumer.queue}", ask, "ready")
