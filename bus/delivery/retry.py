"""Retry: how often a handler is tried on one delivery, and with which pauses."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

import structlog

from bus import ambient
from bus.errors import MessageError, NoHandler, NotCaughtUp, OutcomeUnknown, Unavailable

LONGEST_PAUSE = 5.0

log = structlog.get_logger("bus.retry")


class Tries(NamedTuple):
    """A few tries in place, with pauses (in seconds) that double.

    Waiting for a projection that is behind is patient, but not endless: the stream may be parked.
    """

    most: int = 4
    most_behind: int = 12
    pause: float = 0.1

    def of(self, error: Exception) -> float:
        """How many tries an error is worth."""
        if isinstance(error, NotCaughtUp):
            return self.most_behind
        return float("inf") if outage(error) else self.most


def never(error: Exception) -> bool:
    """Whether trying again cannot help."""
    return isinstance(error, MessageError | NoHandler)


def outage(error: Exception) -> bool:
    """Whether a service is away: not the message's fault, so it does not count as a try."""
    return isinstance(error, Unavailable | OutcomeUnknown) and not isinstance(error, NotCaughtUp)


def pauses(first: float = 0.1) -> Iterator[float]:
    """Endless pauses with jitter, doubling up to the longest."""
    pause = first
    while True:
        yield min(ambient.jittered(pause), LONGEST_PAUSE)
        pause = min(pause * 2, LONGEST_PAUSE)


async def insist(step: Callable[[], Awaitable[object]], queue: str) -> None:
    """Repeats a step, one that may be repeated safely, for as long as a service is away."""
    for pause in pauses():
        try:
            await step()
            return
        except Exception as error:
            if not outage(error):
                raise
            log.warning("a service is away; holding on", queue=queue, reason=str(error))
        await asyncio.sleep(pause)
