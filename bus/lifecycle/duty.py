"""Duty: something that goes on in a worker for as long as it runs.

Whatever is to go on there brings one. They come and go: a projection that is rebuilt has other
consumers than before.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from bus.common.exceptions import failed
from bus.common.tasks import end, together
from bus.errors import ConfigurationError
from bus.observe.health import Check, Checkup
from bus.observe.log import Logger
from bus.observe.loops import Loops, Run

LAST_SHARE = 0.2
"""The share of the time for stopping that is left to those that stop last."""
SHORTEST = 0.5
"""Seconds that stopping may take, also where no time is left."""

log = Logger("bus.worker")


@dataclass(frozen=True, eq=False)
class Duty:
    """Something that a worker does for as long as it runs, beside its queues.

        Worker(bus, duties=[Duty("prices", partial(keep_prices, bus))])

    `run` goes on until it is cancelled, or returns once there is nothing left to do. Whatever else
    ends it is logged and told by health, and it is run again, after pauses that grow to ten
    seconds. Health asks its `checks` meanwhile.

    As the worker stops, `run` is cancelled. Where there is a `stop`, that is called instead, with
    the seconds within which `run` is to finish what it has at hand and return; `is_last` lets the
    others finish first. `begin` is awaited before any duty runs; an error of it is one of entering
    the worker.
    """

    name: str
    run: Run
    _: KW_ONLY
    checks: Sequence[Check] = ()
    begin: Callable[[], Coroutine[Any, Any, None]] | None = None
    stop: Callable[[float], Awaitable[None]] | None = None
    is_last: bool = False


class Supervisor:
    """Starts duties, has health ask for them, and ends them."""

    def __init__(self, checkup: Checkup, loops: Loops) -> None:
        self._checkup = checkup
        self._loops = loops
        self._tasks: dict[Duty, asyncio.Task[None]] = {}

    async def begin(self, duties: Collection[Duty]) -> None:
        """Starts them, once all have begun. Raises: whatever beginning one raises."""
        await together(*(duty.begin() for duty in duties if duty.begin))
        for duty in duties:
            self.start(duty)
        await asyncio.sleep(0)  # so that each runs up to where it waits, and has its consumers

    def start(self, duty: Duty) -> None:
        """Runs it from now on."""
        self._tasks[duty] = self._loops.start(duty.run, duty.name)
        self._checkup.add(duty.checks)

    async def finish(self, duties: Collection[Duty], deadline: float) -> None:
        """Stops these, waits until the deadline (`time.monotonic`) for what they have at hand, and
        strikes off those that are done with it."""
        tasks = {duty: self._tasks[duty] for duty in duties if duty in self._tasks}
        await asyncio.gather(*(_stop(duty, deadline - time.monotonic()) for duty in tasks))
        if tasks:
            await asyncio.wait(tasks.values(), timeout=max(0, deadline - time.monotonic()))
        for duty, task in tasks.items():
            if task.done():
                self._strike(duty)

    async def stop(self, within: float) -> None:
        """Stops all of them, within so many seconds; `leave` ends those that did not finish."""
        deadline = time.monotonic() + within
        for task in self._ending().values():
            task.cancel()
        finishing = [duty for duty in self._tasks if duty.stop]
        first = [duty for duty in finishing if not duty.is_last]
        await self.finish(first, deadline - within * LAST_SHARE)
        await self.finish([duty for duty in finishing if duty.is_last], deadline)

    async def leave(self) -> int:
        """Ends what still runs, by cancelling it; returns how many did not finish in time."""
        try:
            await self._end(self._ending())  # first: they may start others until then
        finally:
            unfinished = dict(self._tasks)
            await self._end(unfinished)
        return len(unfinished)

    def _ending(self) -> dict[Duty, asyncio.Task[None]]:
        """Those that end by being cancelled."""
        return {duty: task for duty, task in self._tasks.items() if not duty.stop}

    async def _end(self, tasks: dict[Duty, asyncio.Task[None]]) -> None:
        for duty in tasks:
            self._strike(duty)
        await end(tasks.values())

    def _strike(self, duty: Duty) -> None:
        if self._tasks.pop(duty, None):
            self._checkup.remove(duty.checks)


async def _stop(duty: Duty, within: float) -> None:
    """Asks it to stop. Where that fails or hangs, it is cancelled in the end, as one that did not
    finish."""
    if duty.stop is None:
        return
    try:
        async with asyncio.timeout(max(within, SHORTEST)):
            await duty.stop(within)
    except BaseException as error:
        if not failed(error):
            raise
        log.error("stop_failed", duty=duty.name, exc_info=error)


def checked(duties: Iterable[Duty]) -> list[Duty]:
    """Those that a service brings. Raises: ConfigurationError."""
    found = list(duties)
    for one in found:
        if not isinstance(one, Duty):
            raise ConfigurationError(
                f"Worker(duties=[...]): {one!r} is not a Duty; write Duty(NAME, FUNCTION), with a "
                f"name for the log and health, and an async function without parameters"
            )
    for name, count in Counter(duty.name for duty in found).items():
        if count > 1:
            raise ConfigurationError(
                f"Worker(duties=[...]): {count} of them are named {name!r}, by which the log and "
                f"health tell of them; give each a name of its own"
            )
    return found
