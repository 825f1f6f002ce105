"""What runs around every handler: `async (envelope, following) -> result`, composed once.

The bus's own layers wrap the following one directly, which saves a call per message. Retries of a
delivery, delays and dead letters belong to the worker, because only it holds the delivery.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from inspect import CORO_CREATED, getcoroutinestate, isawaitable
from types import CoroutineType
from typing import Any, TypeGuard

from bus.common import clock, figures
from bus.common.exceptions import conflict, judged, leaves, own, reported
from bus.common.fingerprint import reason_of
from bus.common.signatures import name_of, with_article
from bus.common.tasks import TurningTime
from bus.dispatch.anew import anew
from bus.dispatch.measuring import Next as Next
from bus.dispatch.measuring import Route
from bus.errors import ConcurrencyError, ConfigurationError, OutcomeUnknown, Retry, Unavailable
from bus.messages import Envelope, Receipt
from bus.observe.listeners import Signals
from bus.observe.log import current_envelope, current_handler
from bus.observe.signals import Conflicted, MessageFailed, PutOff
from bus.write.repository import after_conflict

TRIES = 10

Middleware = Callable[[Envelope, Next], Awaitable[Any]]
Stored = Callable[[Envelope], Awaitable[object]]
"""Returns something true if the log holds what a command did."""
Settled = Callable[[Exception, Envelope], Awaitable[Receipt | None]]
"""Returns the receipt of a command that is stored although its run raised, if it is."""


def compose(
    middleware: Sequence[Middleware],
    innermost: Next,
    stored: Stored | None = None,
    settled: Settled | None = None,
    *,
    signals: Signals,
    route: Route,
) -> Next:
    """Returns the chain of `middleware`, the first one outermost and logged, around `innermost`.

    With `stored`, each layer must return a command's receipt; if one does not, `stored` is asked
    what became of the command; `settled` is asked what became of one whose run raised.
    """
    outermost, *others = middleware
    chain = innermost
    for outer in reversed(others):
        chain = _around(outer, chain, stored)
    return _logged_around(outermost, chain, stored, settled, signals, route)


def _around(outer: Middleware, following: Next, stored: Stored | None) -> Next:
    """Wraps `following` in `outer` and checks what that returns, before a layer further out uses
    or replaces it."""

    async def run(envelope: Envelope) -> Any:
        result = await outer(envelope, following)
        if type(result) is not Receipt and (stored or _is_awaitable(result)):
            raise await _lost(outer, envelope, result, stored)
        return result

    return run


def _logged_around(
    outer: Middleware,
    following: Next,
    stored: Stored | None,
    settled: Settled | None,
    signals: Signals,
    route: Route,
) -> Next:
    """Does what `logged` and `_around` do, in one coroutine."""

    async def run(envelope: Envelope) -> Any:
        token = current_envelope.set(envelope)
        try:
            result = await outer(envelope, following)
            if type(result) is not Receipt and (stored or _is_awaitable(result)):
                raise await _lost(outer, envelope, result, stored)
            route.left -= 1
            return result
        except Exception as error:
            receipt = await _settle(error, envelope, settled, signals, route)
            if receipt is None:
                raise
            return receipt
        except BaseException as error:
            route.note(error)
            raise
        finally:
            current_envelope.reset(token)

    return run


async def _lost(
    middleware: Middleware, envelope: Envelope, result: object, stored: Stored | None
) -> ConfigurationError:
    """Says that a middleware returned the wrong thing, and what became of the command."""
    given, what = f"{result!r:.50}", "the result" if stored is None else "the Receipt"
    if _is_awaitable(result):
        given = _unawaited(result)
        await _ended(result)
    became = "" if stored is None else f"; {await _what_became_of_it(stored, envelope)}"
    return ConfigurationError(
        f"the middleware {name_of(middleware)} returned {given} for {envelope.name} "
        f"{envelope.id}, and not {what} of the following one; write "
        f"`return await following(envelope)`{became}"
    )


def answering(following: Next, handler: str) -> Next:
    """Checks what a query's handler returns, so that no middleware is blamed for it."""

    async def run(envelope: Envelope) -> Any:
        answer = await following(envelope)
        if _is_awaitable(answer):
            await _ended(answer)
            raise ConfigurationError(
                f"{handler} returned {_unawaited(answer)} for {envelope.name} {envelope.id}; "
                f"write `return await ...` there"
            )
        return answer

    return run


def _is_awaitable(result: object) -> TypeGuard[Awaitable[object]]:
    return result is not None and isawaitable(result)  # None, the usual result, is quick


def _unawaited(result: Awaitable[object]) -> str:
    return f"{with_article(type(result).__name__)}, which nobody awaits,"


async def _ended(result: Awaitable[object]) -> None:
    """Prevents what has not begun, and waits for the rest: it is not cancelled, because what is
    cancelled while being stored may still be stored."""
    if isinstance(result, CoroutineType):
        result.close()  # otherwise Python warns that it was never awaited, without naming the cause
        return
    if isinstance(result, asyncio.Task):
        work = result.get_coro()
        if isinstance(work, CoroutineType) and getcoroutinestate(work) == CORO_CREATED:
            result.cancel()
    try:
        await result
    except BaseException as error:
        if not own(error):
            raise


async def _what_became_of_it(stored: Stored, envelope: Envelope) -> str:
    try:
        if await stored(envelope):
            return "the command was carried out, and what it did is stored: do not repeat it"
    except (Unavailable, OutcomeUnknown):
        return "whether it was stored cannot be asked at the moment: repeat it with its id"
    return "nothing is stored under its id"


def logged(
    following: Next,
    signals: Signals,
    route: Route,
    *,
    after_conflict: Next | None = None,
    settled: Settled | None = None,
    keeps: bool = False,
) -> Next:
    """Names the message in every log line written meanwhile, counts the run, and tells of a
    handler's failure.

    After a conflict `after_conflict` runs, if given; with `keeps`, it gets the message as it was.
    What `settled` returns after a failure is returned in its place.
    """

    async def run(envelope: Envelope) -> Any:
        token = current_envelope.set(envelope)
        try:
            kept = anew(envelope) if keeps else envelope
            try:
                result = await following(envelope)
                route.left -= 1
                return result
            except (ConcurrencyError, ExceptionGroup) as error:
                if after_conflict is None or not conflict(error):
                    raise
            result = await after_conflict(kept)
            route.left -= 1
            return result
        except Exception as error:
            receipt = await _settle(error, envelope, settled, signals, route)
            if receipt is None:
                raise
            return receipt
        except BaseException as error:
            route.note(error)
            raise
        finally:
            current_envelope.reset(token)

    return run


async def _settle(
    error: Exception, envelope: Envelope, settled: Settled | None, signals: Signals, route: Route
) -> Receipt | None:
    """Counts a run that raised. Returns the receipt of a command that is stored all the same; else
    tells of the failure.

    Raises: what `settled` raises.
    """
    try:
        receipt = await settled(error, envelope) if settled else None
    except BaseException as unsettled:
        route.note(unsettled)
        if isinstance(unsettled, Exception):
            _emit_failure(signals, envelope, unsettled)
        raise
    if receipt is None:
        route.note(error)
        _emit_failure(signals, envelope, error)
    else:
        route.left -= 1
    return receipt


def _emit_failure(signals: Signals, envelope: Envelope, error: Exception) -> None:
    if current_handler.get():  # in a worker, that logs the outcome once
        return
    cause = judged(error)
    if isinstance(cause, Retry):
        signals.emit(PutOff, "", envelope.name, envelope.id, attempt=1, delay=cause.delay)
        return
    one = reported(error)
    signals.emit(
        MessageFailed,
        envelope.name,
        envelope.id,
        error=type(one).__name__,
        reason=reason_of(one)[:500],
    )


def logged_and_retried(
    following: Next, signals: Signals, route: Route, *, settled: Settled | None, keeps: bool
) -> Next:
    """Does what `logged(retried_on_conflict(following))` does, with one coroutine less."""
    after_conflict = partial(_again, following, signals)
    return logged(
        following, signals, route, after_conflict=after_conflict, settled=settled, keeps=keeps
    )


def timeout(seconds: figures.Seconds) -> Middleware:
    """Returns a middleware that ends handlers after `seconds` (or a timedelta) with TimeoutError.

    Time in which the event loop was blocked does not count. A command whose time is up while it is
    being stored may still be stored: give it an id, and repeat it with that id.

        Bus("bank", routers=[accounts], settings=settings, middleware=[timeout(10)])

    Raises: ConfigurationError for a time that is not more than 0.
    """

    most = figures.seconds(seconds, "timeout(): seconds", zero=False)

    async def limit(envelope: Envelope, following: Next) -> Any:
        async with TurningTime(most):
            return await following(envelope)

    return limit


def retried_on_conflict(following: Next, signals: Signals, *, keeps: bool) -> Next:
    """Runs the handler again, on fresh state, after another writer changed its streams first.

    It runs at most `TRIES` times. With `keeps`, each run gets the message as it was at first.
    """

    async def run(envelope: Envelope) -> Any:
        kept = anew(envelope) if keeps else envelope
        try:
            return await following(envelope)
        except (ConcurrencyError, ExceptionGroup) as error:
            if not conflict(error):
                raise
        return await _again(following, signals, kept)

    return run


async def _again(following: Next, signals: Signals, kept: Envelope) -> Any:
    token = after_conflict.set(True)
    try:
        return await _until_stored(following, signals, kept)
    finally:
        after_conflict.reset(token)


async def _until_stored(following: Next, signals: Signals, kept: Envelope) -> Any:
    failed = 1
    while True:
        signals.emit(Conflicted, kept.name, kept.id, failed)
        await asyncio.sleep(clock.jittered(0.002 * min(failed, 10)))
        try:
            return await following(anew(kept))
        except (ConcurrencyError, ExceptionGroup) as error:
            failed += 1
            if not conflict(error):
                raise
            if failed == TRIES:
                raise next(leaves(error)) from None
