"""Upkeep: declares the service's queues and bindings again, once in a while.

If somebody removes one, no publishing fails: events do not need a queue. So every process looks for
them, and reports what was gone, because messages have gone with it.
"""

import asyncio
import time
from collections.abc import Callable

from bus.common import clock
from bus.errors import BusError, TransportUnavailable
from bus.lifecycle.duty import Duty
from bus.observe.health import Check
from bus.observe.log import Logger
from bus.transports.base import Transport
from bus.transports.topology import Topology, dead_queue

REMEMBERED = 600.0
"""Seconds for which health reports something that was gone."""

log = Logger("bus.upkeep")


class Upkeep:
    """Looks every `every` seconds, give or take a half."""

    def __init__(
        self,
        transport: Transport,
        topology: Callable[[], Topology],
        *,
        every: float,
        part: str = "topology",
    ) -> None:
        self._transport = transport
        self._topology = topology
        self._every = every
        self._part = part
        self._problem: str | None = None
        self._gone: str | None = None
        self._gone_at = 0.0
        self._waiting: str | None = None

    @property
    def check(self) -> Check:
        return Check(self._part, self._problems)

    @property
    def duty(self) -> Duty:
        return Duty("upkeep", self.run, checks=[self.check])

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await asyncio.sleep(clock.jittered(self._every))
            await self.look()

    async def look(self) -> None:
        """Declares all once; a broker that is away is asked the next time."""
        topology = self._topology()
        try:
            gone = await self._transport.restore(topology)
            self._waiting = await self._left_over(dead_queue(topology.service))
        except TransportUnavailable:
            return
        except BusError as error:
            if self._problem != str(error):
                log.error("queues_mismatched", reason=str(error))
            self._problem = str(error)
            return
        self._problem = None
        if gone:
            self._note(", ".join(gone))

    def _note(self, names: str) -> None:
        log.error("queues_redeclared", names=names)
        self._gone, self._gone_at = names, time.monotonic()

    async def _left_over(self, dead: str) -> str | None:
        """Returns that messages wait for a worker to make dead letters of them, if so: meanwhile
        a policy may delete them."""
        waiting = await self._transport.depth(dead)
        if not waiting or await self._transport.consumers(dead):
            return None
        return (
            f"messages that wait in {dead} for a worker, to become dead letters: {waiting}; start "
            f"one, and see that no policy of RabbitMQ lets them expire there"
        )

    async def _problems(self) -> str | None:
        return "; ".join(filter(None, [self._problem, self._lost(), self._waiting])) or None

    def _lost(self) -> str | None:
        if self._gone is None or time.monotonic() - self._gone_at > REMEMBERED:
            return None
        return (
            f"gone from the broker, with what was in it, and declared again: {self._gone}; "
            f"projections catch up by themselves, for event handlers see `bus events republish`"
        )
