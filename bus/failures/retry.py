"""Decides what follows a handler's failure, and holds on while a service is away."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple, TypeVar

from bus.common import clock
from bus.common.backoff import doubled, pauses
from bus.common.exceptions import judged, outage
from bus.common.fingerprint import reason_of
from bus.declare.policies import RetryPolicy
from bus.errors import MessageError, NoHandler, Retry
from bus.observe.log import Logger

Result = TypeVar("Result")

log = Logger("bus.retry")


class Stopped(Exception):
    """The worker must stop while a service is still away: what is at hand stays unsettled."""


class Step(NamedTuple):
    """What follows a failed try: another one after a `pause` in place, or after a `delay` on the
    ladder (both in seconds). With neither, the message is given up."""

    pause: float | None = None
    delay: float | None = None


def next_step(error: BaseException, attempt: int, policy: RetryPolicy) -> Step:
    """Returns what follows if try number `attempt` ended in this error."""
    if isinstance(error, Retry):
        return Step(delay=error.delay)
    if isinstance(error, MessageError | NoHandler):
        return Step()
    if attempt < policy.tries:
        return Step(pause=clock.jittered(doubled(policy.pause, math.inf, min(attempt - 1, 10))))
    delays = policy.delays[attempt - policy.tries :]
    return Step(delay=delays[0]) if delays else Step()


def is_last(error: BaseException, attempt: int, policy: RetryPolicy) -> bool:
    """Returns whether the try that follows number `attempt` is the last, if it ends likewise."""
    return next_step(error, attempt + 1, policy) == Step()


class Holding:
    """Whether a queue's messages are held because a service is away; logs when that begins and
    ends."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._since = 0.0
        self._held: set[object] = set()
        self._reason = ""

    @property
    def reason(self) -> str | None:
        """Why messages are held, as health reports it; None if none are."""
        return f"it holds on to its messages: {self._reason}" if self._held else None

    def on(self, what: object, error: BaseException) -> None:
        """Notes that `what` is held from now on, because a step of it failed."""
        self._reason = reason_of(judged(error))[:500]
        if not self._held:
            self._since = time.monotonic()
            log.warning("queue_held_up", queue=self._queue, reason=self._reason)
        self._held.add(what)

    def over(self, what: object) -> None:
        """Notes that `what` is no longer held, if it was."""
        if what in self._held:
            self._held.remove(what)
            if not self._held:
                seconds = round(time.monotonic() - self._since, 1)
                log.info("queue_goes_on", queue=self._queue, held_for=seconds)


async def insist(
    step: Callable[[], Awaitable[Result]], holding: Holding, stopping: asyncio.Event
) -> Result:
    """Repeats a step, which must be idempotent, for as long as a service is away; returns what it
    returns.

    Raises: Stopped if the worker must stop meanwhile; whatever else the step raises.
    """
    try:
        for pause in pauses():
            try:
                return await step()
            except Exception as error:
                if not outage(error):
                    raise
                holding.on(step, error)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stopping.wait()
            if stopping.is_set():
                raise Stopped
        raise AssertionError("pauses are endless")
    finally:
        holding.over(step)
