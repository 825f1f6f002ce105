"""What runs round every handler: `async (envelope, following) -> result`, composed once.

The bus's own layers are made around the following one, which saves a call for each message.
Retries of a delivery, delays and dead letters are not here: they belong to the worker, which alone
holds the delivery.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from bus import ambient
from bus.errors import ConcurrencyError
from bus.fingerprint import reason_of
from bus.judging import conflict, leaves, told
from bus.log import Logger, current_envelope, current_handler
from bus.messages import Envelope
from bus.tasks import TurningTime

TRIES = 10

Following = Callable[[Envelope], Awaitable[Any]]
Middleware = Callable[[Envelope, Following], Awaitable[Any]]

log = Logger("bus")


def compose(middleware: Sequence[Middleware], innermost: Following) -> Following:
    """The chain of `middleware`, the first one outermost, around `innermost`."""
    chain = innermost
    for outer in reversed(middleware):
        chain = _around(outer, chain)
    return chain


def _around(outer: Middleware, following: Following) -> Following:
    def run(envelope: Envelope) -> Awaitable[Any]:
        return outer(envelope, following)

    return run


def logged(following: Following, *, after_conflict: Following | None = None) -> Following:
    """Names the message in every log line written meanwhile, and logs a handler's failure."""

    async def run(envelope: Envelope) -> Any:
        token = current_envelope.set(envelope)
        try:
            try:
                return await following(envelope)
            except (ConcurrencyError, ExceptionGroup) as error:
                if after_conflict is None or not conflict(error):
                    raise
            return await after_conflict(envelope)
        except Exception as error:
            if not current_handler.get():  # else the worker tells, once, what comes of it
                _tell(error)
            raise
        finally:
            current_envelope.reset(token)

    return run


def _tell(error: Exception) -> None:
    one = told(error)
    log.info("message failed", error=type(one).__name__, reason=reason_of(one)[:500])


def logged_and_retried(following: Following) -> Following:
    """`logged(retried_on_conflict(following))` in one: a coroutine less for each message."""
    return logged(following, after_conflict=partial(_again, following))


def timeout(seconds: float) -> Middleware:
    """Ends what takes longer than `seconds`, with TimeoutError; time in which the event loop was
    blocked does not count.

    Where the time is up while a command is being stored, it may be stored all the same: give the
    command an id, and repeat it with that.
    """

    async def limit(envelope: Envelope, following: Following) -> Any:
        async with TurningTime(seconds):
            return await following(envelope)

    return limit


def retried_on_conflict(following: Following) -> Following:
    """Runs the handler again, on fresh state, when somebody else wrote to its streams first."""

    async def run(envelope: Envelope) -> Any:
        try:
            return await following(envelope)
        except (ConcurrencyError, ExceptionGroup) as error:
            if not conflict(error):
                raise
        return await _again(following, envelope)

    return run


async def _again(following: Following, envelope: Envelope) -> Any:
    failed = 1
    while True:
        await asyncio.sleep(ambient.jittered(0.002 * min(failed, 10)))
        try:
            return await following(envelope)
        except (ConcurrencyError, ExceptionGroup) as error:
            failed += 1
            if not conflict(error):
                raise
            if failed == TRIES:
                raise next(leaves(error)) from None
