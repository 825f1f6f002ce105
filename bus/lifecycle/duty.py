"""Duties: what a worker does for as long as it runs.

Each room of the bus brings its own. They come and go: a projection that is rebuilt has other
consumers than before.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from bus.common.exceptions import failed
from bus.common.signatures import is_async, name_of
from bus.common.tasks import end, together
from bus.errors import ConfigurationError
from bus.observe.health import Check, Checkup
from bus.observe.log import Logger
from bus.observe.loops import Loops, Run

LAST_SHARE = 0.2
"""The share of the time for stopping that is reserved for those that stop last."""
SHORTEST = 0.5
"""Seconds that stopping may take even if no time is left."""

log = Logger("bus.worker")


@dataclass(frozen=True, eq=False)
class Duty:
    """Something that a worker does for as long as it runs, besides its queues.

        Worker(bus, duties=[Duty("prices", partial(keep_prices, bus))])

    `run` goes on until it is cancelled, or returns once there is nothing left to do. What else it
    raises is logged and reported by health, and it is run again, after pauses that grow to ten
    seconds; but `SystemExit` and `KeyboardInterrupt` end the process. Health asks its `checks`
    until `run` has returned.

    When the worker stops, `run` is cancelled. If there is a `stop`, it is called instead, with the
    seconds within which `run` must finish what it has at hand and return; `run` is cancelled all
    the same if `stop` fails, or if `run` only waits to be run again, which it then is not.
    `is_last` lets the others finish first. `begin` is awaited before any duty runs; its error is
    raised by entering the worker.
    """

    name: str
    run: Run
    _: KW_ONLY
    checks: Sequence[Check] = ()
    begin: Callable[[], Coroutine[Any, Any, None]] | None = None
    stop: Callable[[float], Awaitable[None]] | None = None
    is_last: bool = False


class Supervisor:
    """Starts duties, has health ask their checks, and ends them."""

    def __init__(self, checkup: Checkup, loops: Loops) -> None:
        self._checkup = checkup
        self._loops = loops
        self._kept: dict[Duty, _Kept] = {}
        self.unfinished = 0
        """How many did not finish in time."""

    def __contains__(self, duty: Duty) -> bool:
        return duty in self._kept

    async def begin(self, duties: Collection[Duty], of_service: Collection[Duty] = ()) -> None:
        """Begins the bus's duties and those of the service, then starts them all.

        Raises: what beginning one raises.
        """
        await together(*(duty.begin() for duty in (*duties, *of_service) if duty.begin))
        for duty in duties:
            self.start(duty)
        for duty in of_service:
            self.start(duty, of_service=True)
        await asyncio.sleep(0)  # lets each run up to its first wait, so that its consumers exist

    def start(self, duty: Duty, *, of_service: bool = False) -> None:
        """Starts to run a duty, of the bus or of the service."""
        kept = self._kept[duty] = _Kept(duty, self._loops, of_service=of_service)
        self._checkup.add(duty.checks)
        kept.task.add_done_callback(lambda _: self._strike(duty))

    async def finish(self, duties: Collection[Duty], deadline: float) -> None:
        """Stops these, and waits until the deadline (`time.monotonic`) for them to finish what
        they have at hand."""
        kept = [self._kept[duty] for duty in duties if duty in self._kept]
        await asyncio.gather(*(one.stop(deadline - time.monotonic()) for one in kept))
        if kept:
            left = max(0, deadline - time.monotonic())
            await asyncio.wait([one.task for one in kept], timeout=left)

    async def stop(self, within: float) -> None:
        """Stops all of them, within so many seconds; `leave` ends those that have not finished."""
        deadline = time.monotonic() + within
        for one in self._ending():
            one.task.cancel()
        finishing = [duty for duty in self._kept if duty.stop]
        first = [duty for duty in finishing if not duty.is_last]
        await self.finish(first, deadline - within * LAST_SHARE)
        await self.finish([duty for duty in finishing if duty.is_last], deadline)

    async def leave(self) -> None:
        """Cancels what still runs."""
        try:
            await self._end(self._ending())  # first: until then they may start others
        finally:
            left = [one for one in self._kept.values() if not one.task.done()]
            self.unfinished = len(left)
            await self._end(left)

    def _ending(self) -> "list[_Kept]":
        """Returns the duties that end by being cancelled."""
        return [one for one in self._kept.values() if not one.duty.stop]

    async def _end(self, kept: "Collection[_Kept]") -> None:
        for one in kept:
            self._strike(one.duty)
        await end(one.task for one in kept)

    def _strike(self, duty: Duty) -> None:
        if self._kept.pop(duty, None):
            self._checkup.remove(duty.checks)


class _Kept:
    """A duty that is run, and run again after failures, until it is stopped."""

    def __init__(self, duty: Duty, loops: Loops, *, of_service: bool) -> None:
        self.duty = duty
        self._runs = self._stopping = False
        self.task = loops.start(self._run, duty.name, of_service=of_service)

    async def _run(self) -> None:
        self._runs = True
        try:
            await self.duty.run()
        finally:
            self._runs = False
            if self._stopping:
                self.task.cancel()  # it would be run again if it failed

    async def stop(self, within: float) -> None:
        """Asks it to stop, or cancels it if it does not run or has no `stop`. If `stop` hangs,
        `leave` cancels it, as it does what has not finished."""
        self._stopping = True
        if not self._runs or self.duty.stop is None:
            self.task.cancel()
            return
        limit = asyncio.timeout(max(within, SHORTEST))
        try:
            async with limit:
                await self.duty.stop(within)
        except BaseException as error:
            if not failed(error):
                raise
            log.error("stop_failed", duty=self.duty.name, exc_info=error)
            if not limit.expired():
                self.task.cancel()


def checked(duties: Iterable[Duty]) -> list[Duty]:
    """Returns a service's duties, none named as a loop of the bus. Raises: ConfigurationError."""
    found = list(duties)
    for duty in found:
        if not isinstance(duty, Duty):
            raise ConfigurationError(
                f"Worker(duties=[...]): {duty!r} is not a Duty; write Duty(NAME, FUNCTION), with a "
                f"name for the log and health, and an async function without parameters"
            )
        for place in ("run", "begin", "stop"):
            function = getattr(duty, place)
            if not is_async(function) and (function is not None or place == "run"):
                raise ConfigurationError(
                    f"Worker(duties=[...]): {place}= of {duty.name!r} is {name_of(function)}, "
                    f"which is no async function; give one, or a partial(...) of one"
                )
    for name, count in Counter(duty.name for duty in found).items():
        if count > 1:
            raise ConfigurationError(
                f"Worker(duties=[...]): {count} of them are named {name!r}, by which the log and "
                f"health tell of them; give each a name of its own"
            )
    return [replace(one, name=f"duty {one.name}") for one in found]
