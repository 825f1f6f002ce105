"""What runs round every handler: `async (envelope, following) -> result`, composed once.

The bus's own layers are made around the following one, which saves a call for each message.
Retries of a delivery, delays and dead letters are not here: they belong to the worker, which alone
holds the delivery.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import CoroutineType
from typing import Any

from bus.common import clock, figures
from bus.common.exceptions import conflict, leaves, told
from bus.common.fingerprint import reason_of
from bus.common.signatures import name_of
from bus.common.tasks import TurningTime
from bus.errors import ConcurrencyError, ConfigurationError, OutcomeUnknown, Unavailable
from bus.messages import Envelope, Receipt
from bus.observe.log import Logger, current_envelope, current_handler

TRIES = 10

Following = Callable[[Envelope], Awaitable[Any]]
Middleware = Callable[[Envelope, Following], Awaitable[Any]]
Stored = Callable[[Envelope], Awaitable[object]]
"""Whether the log holds what a command did."""

log = Logger("bus")


def compose(
    middleware: Sequence[Middleware], innermost: Following, stored: Stored | None = None
) -> Following:
    """The chain of `middleware`, the first one outermost, `logged`, around `innermost`.

    With `stored`, which is asked where they do not, they are to give a command's receipt.
    """
    chain = innermost
    for outer in reversed(middleware[1:]):
        chain = _around(outer, chain)
    return _logged_around(middleware, chain, stored)


def _around(outer: Middleware, following: Following) -> Following:
    def run(envelope: Envelope) -> Awaitable[Any]:
        return outer(envelope, following)

    return run


def _logged_around(
    middleware: Sequence[Middleware], following: Following, stored: Stored | None
) -> Following:
    """As `logged`, around the outermost one; it looks at what that gives, and at no other's: a
    coroutine less for each."""
    outermost = middleware[0]

    async def run(envelope: Envelope) -> Any:
        token = current_envelope.set(envelope)
        try:
            result = await outermost(envelope, following)
            if type(result) is not Receipt and (stored or type(result) is CoroutineType):
                raise await _lost(middleware, envelope, result, stored)
            return result
        except Exception as error:
            if not current_handler.get():
                _tell(error)
            raise
        finally:
            current_envelope.reset(token)

    return run


async def _lost(
    suspects: Sequence[Middleware], envelope: Envelope, result: object, stored: Stored | None
) -> ConfigurationError:
    """Says which one gave something else than what it was given, and what became of the command."""
    given, what = f"{result!r:.50}", "the result" if stored is None else "the Receipt"
    if isinstance(result, CoroutineType):
        result.close()  # else Python warns of it, in words that name nobody
        given = "a coroutine, which nobody awaits,"
    names = list(dict.fromkeys(map(name_of, suspects)))
    named = f"the middleware {names[0]}" if len(names) == 1 else f"one of {', '.join(names)}"
    became = "" if stored is None else f"; {await _what_became_of_it(stored, envelope)}"
    return ConfigurationError(
        f"{named} returned {given} for {envelope.name} {envelope.id}, and "
        f"not {what} of the following one; write `return await following(envelope)`{became}"
    )


async def _what_became_of_it(stored: Stored, envelope: Envelope) -> str:
    try:
        if await stored(envelope):
            return "the command was carried out, and what it did is stored: do not repeat it"
    except (Unavailable, OutcomeUnknown):
        return "whether it was stored cannot be asked just now: repeat it with its id"
    return "nothing is stored under its id"


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


def timeout(seconds: figures.Seconds) -> Middleware:
    """Ends what takes longer than `seconds` (or a timedelta), with TimeoutError; time in which the
    event loop was blocked does not count.

    Where the time is up while a command is being stored, it may be stored all the same: give the
    command an id, and repeat it with that.
    """

    most = figures.seconds(seconds, "timeout(): seconds", zero=False)

    async def limit(envelope: Envelope, following: Following) -> Any:
        async with TurningTime(most):
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
        await asyncio.sleep(clock.jittered(0.002 * min(failed, 10)))
        try:
            return await following(envelope)
        except (ConcurrencyError, ExceptionGroup) as error:
            failed += 1
            if not conflict(error):
                raise
            if failed == TRIES:
                raise next(leaves(error)) from None
