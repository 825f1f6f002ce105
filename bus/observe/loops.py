"""Loops: keeps loops going as long as their process does, whatever happens to them.

Each has a name. A failure in one is logged once, kept for health, and tried again; only a
cancellation ends a loop.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import NamedTuple, TypeVar

from bus.common.backoff import pauses
from bus.common.exceptions import failed, outage, reported
from bus.common.fingerprint import reason_of
from bus.common.tasks import own_context
from bus.observe.listeners import Signals
from bus.observe.log import Logger

Result = TypeVar("Result")
Run = Callable[[], Awaitable[None]]

SETTLED = 10.0
"""Seconds that a restarted loop has to run before its failure is over."""

FORGOTTEN = 120.0
"""Seconds after which a failure that has not recurred is over: what failed is done no more."""

log = Logger("bus.loops")


class Failing(NamedTuple):
    """A loop's failure: since when, when last (`time.monotonic`), and since when it runs again, if
    it does. `is_outage` means that a service is away, which its own check reports, too.
    """

    loop: str
    what: str
    since: float
    last: float
    is_outage: bool
    runs_since: float | None = None

    @property
    def is_over(self) -> bool:
        now = time.monotonic()
        settled = self.runs_since is not None and now - self.runs_since > SETTLED
        return settled or now - self.last > FORGOTTEN


class Loops:
    """The loops of one process. What runs in them emits `signals`, which a backend gets this way.

    What is made without a bus (a transport by itself) has signals of its own, of the service "".
    """

    def __init__(self, signals: Signals | None = None) -> None:
        self.signals = signals or Signals()
        self._failing: dict[str, Failing] = {}

    @property
    def failing(self) -> list[Failing]:
        """The loops that are failing, or were restarted less than SETTLED seconds ago."""
        return [failing for failing in list(self._failing.values()) if not failing.is_over]

    def start(self, run: Run, name: str, *, of_service: bool = False) -> "asyncio.Task[None]":
        """Keeps `run` running in a task of its own; it may be a service's own code."""
        context = own_context(copy_context(), of_service=of_service)
        return asyncio.create_task(self.keep(run, name), name=name, context=context)

    async def keep(self, run: Run, name: str) -> None:
        """Runs `run` until it returns or is cancelled; restarts it, with growing pauses, after
        anything else that ended it."""
        pausing: Iterator[float] | None = None
        try:
            while True:
                with suppress(_Failed):
                    if pausing is not None:
                        await self._attempt(name, partial(asyncio.sleep, next(pausing)))
                        self._runs_again(name)
                    began = time.monotonic()
                    try:
                        await self._attempt(name, run)
                        return
                    finally:
                        if pausing is None or time.monotonic() - began > SETTLED:
                            pausing = pauses(1.0, longest=10.0)
        finally:
            self.forget(name)

    async def turn(
        self, name: str, step: Callable[[], Awaitable[Result]], otherwise: Result
    ) -> Result:
        """Takes one turn of a loop, and returns its result, or `otherwise` if it failed."""
        try:
            result = await self._attempt(name, step)
        except _Failed:
            return otherwise
        self._goes_on(name)
        return result

    def forget(self, name: str) -> None:
        """Forgets the failure of a loop that has ended."""
        self._failing.pop(name, None)

    async def _attempt(self, name: str, step: Callable[[], Awaitable[Result]]) -> Result:
        """Runs a step. Raises: _Failed for what it raises, but for the end of task or process."""
        try:
            return await step()
        except BaseException as error:
            if not failed(error):
                raise
            cancelled = isinstance(error, asyncio.CancelledError)
            cause = RuntimeError("something that it awaited was cancelled") if cancelled else error
            self._fails(name, cause)
        raise _Failed

    def _fails(self, name: str, error: BaseException) -> None:
        cause = reported(error)
        what = f"{type(cause).__name__}: {reason_of(cause)}"[:1000]
        moment = time.monotonic()
        now = Failing(loop=name, what=what, since=moment, last=moment, is_outage=outage(error))
        before = self._failing.get(name)
        if before is None or before.is_over:
            before = None
        else:
            now = now._replace(since=before.since)
        self._failing[name] = now
        if before is None or not _is_same(before, now):
            self._log(name, what, error)

    def _log(self, name: str, what: str, error: BaseException) -> None:
        if outage(error):
            log.warning("loop_held_up", loop=name, reason=what)
        else:
            log.error("loop_failed", loop=name, reason=what, exc_info=error)

    def _goes_on(self, name: str) -> None:
        if (before := self._failing.pop(name, None)) is not None:
            seconds = round(time.monotonic() - before.since, 1)
            log.info("loop_goes_on", loop=name, failed_for=seconds)

    def _runs_again(self, name: str) -> None:
        if (before := self._failing.get(name)) is not None:
            self._failing[name] = before._replace(runs_since=time.monotonic())


def _is_same(before: Failing, now: Failing) -> bool:
    """Returns whether it is the same failure. An outage's words may differ from try to try."""
    return before.what == now.what or (before.is_outage and now.is_outage)


class _Failed(Exception):
    """The failure is logged already."""
