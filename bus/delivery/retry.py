"""Retry: what to do about a handler's failure, and how to hold on while a service is away."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from bus import ambient
from bus.errors import MessageError, NoHandler, NotCaughtUp, OutcomeUnknown, Retry, Unavailable
from bus.log import Logger
from bus.policies import RetryPolicy

LONGEST_PAUSE = 1.0

log = Logger("bus.retry")


class Stopped(Exception):
    """The worker is to stop, and a service is still away: what is at hand stays unsettled."""


class Step(NamedTuple):
    """What follows a failed try: another one after a `pause` in place, or after a `delay` on the
    ladder (both in seconds). With neither, the message is given up."""

    pause: float | None = None
    delay: float | None = None


def next_step(error: Exception, attempt: int, policy: RetryPolicy) -> Step:
    """What follows when the try number `attempt` ended in this error."""
    if isinstance(error, Retry):
        return Step(delay=error.delay)
    if isinstance(error, MessageError | NoHandler):
        return Step()
    if attempt < policy.tries:
        return Step(pause=ambient.jittered(policy.pause * 2 ** min(attempt - 1, 10)))
    delays = policy.delays[attempt - policy.tries :]
    return Step(delay=delays[0]) if delays else Step()


def outage(error: Exception) -> bool:
    """Whether a service is away: not the message's fault, so it does not count as a try.

    A request of the handler's own that nobody answered (it has an id) counts: else who asks in vain
    would ask for ever.
    """
    if isinstance(error, OutcomeUnknown):
        return not error.id
    return isinstance(error, Unavailable) and not isinstance(error, NotCaughtUp)


def pauses(first: float = 0.1, longest: float = LONGEST_PAUSE) -> Iterator[float]:
    """Endless pauses with jitter, doubling up to the longest."""
    pause = first
    while True:
        yield min(ambient.jittered(pause), longest)
        pause = min(pause * 2, longest)


async def insist(
    step: Callable[[], Awaitable[object]], queue: str, stopping: asyncio.Event
) -> None:
    """Repeats a step, one that may be repeated safely, for as long as a service is away.

    Raises: Stopped, where the worker is to stop meanwhile.
    """
    for pause in pauses():
        try:
            await step()
            return
        except Exception as error:
            if not outage(error):
                raise
            log.warning("holding on", queue=queue, reason=str(error))
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stopping.wait()
        if stopping.is_set():
            raise Stopped
