"""Roster: the consumers that run in a worker just now, each supervised and asked for its health.

They come and go: a projection that is rebuilt has another queue than before.
"""

import asyncio
import time
from collections.abc import Collection

from bus.common.tasks import end
from bus.delivery.consumer import Consumer
from bus.delivery.sentinel import consumer_check
from bus.observe.health import Check, Checkup
from bus.observe.loops import Loops
from bus.transports.base import Transport


class Supervisor:
    """Starts consumers, stops them, and knows who there is."""

    def __init__(self, transport: Transport, checkup: Checkup, loops: Loops) -> None:
        self.consumers: list[Consumer] = []
        """Always the same list: who looks after the consumers may keep it."""
        self._transport = transport
        self._checkup = checkup
        self._loops = loops
        self._tasks: dict[Consumer, asyncio.Task[None]] = {}
        self._checks: dict[Consumer, Check] = {}

    def start(self, consumer: Consumer) -> None:
        """From now on it consumes."""
        self.consumers.append(consumer)
        self._tasks[consumer] = self._loops.start(consumer.run, consumer.queue)
        self._checks[consumer] = consumer_check(consumer, self._transport)
        self._checkup.add([self._checks[consumer]])

    async def finish(self, consumers: Collection[Consumer], deadline: float) -> None:
        """Stops these, waits until the deadline (`time.monotonic`) for what they have at hand, and
        strikes off those that are done with it."""
        consumers = [one for one in consumers if one in self._tasks]
        left = deadline - time.monotonic()
        await asyncio.gather(*(one.stop(left) for one in consumers), return_exceptions=True)
        tasks = [self._tasks[one] for one in consumers]
        if tasks:
            await asyncio.wait(tasks, timeout=max(0, deadline - time.monotonic()))
        for one in consumers:
            if self._tasks[one].done():
                self._strike(one)

    async def leave(self) -> int:
        """Ends what still runs, by cancelling it; returns how many did not finish by themselves."""
        unfinished = dict(self._tasks)
        for one in unfinished:
            self._strike(one)
        await end(list(unfinished.values()))
        return len(unfinished)

    def _strike(self, consumer: Consumer) -> None:
        self.consumers.remove(consumer)
        del self._tasks[consumer]
        self._checkup.remove([self._checks.pop(consumer)])
