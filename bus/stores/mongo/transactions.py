"""Our own transaction loop, because motor's never repeats a failed commit.

A commit that did not clearly abort may be durable, or become so. It is repeated until the server
says what became of it; if it does not say in time, the outcome is unknown. So an error that says
that nothing was stored can be relied on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import TypeVar

from pymongo.errors import (
    ConnectionFailure,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WTimeoutError,
)

from bus.common import clock
from bus.common.backoff import doubled
from bus.errors import OutcomeUnknown, StoreUnavailable
from bus.stores.mongo.client import MongoSession, Unanswered, bounded, start_transaction
from bus.stores.mongo.failures import said, translated

Result = TypeVar("Result")
Lend = Callable[[], AbstractAsyncContextManager[MongoSession]]
Body = Callable[[MongoSession], Awaitable[Result]]

FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.5


class MongoConflict(Exception):
    """Another writer was first, which the server does not report as a transient error."""


class Taken(Exception):
    """An id, or a place in a stream, is taken already."""


async def in_transaction(
    lend: Lend, body: Body[Result], within: float, *, once: bool = False
) -> Result:
    """Runs `body` in a transaction and commits it, and starts again after a conflict with others,
    unless it is to run `once`.

    Each try borrows a session by `lend`, which is given back between the tries. No further try
    begins after `within` seconds. Exceptions of `body` pass through, and then nothing is written.
    Raises: StoreUnavailable (nothing is written), OutcomeUnknown.
    """
    deadline = time.monotonic() + within
    pause = FIRST_PAUSE
    # Commits that were not confirmed. After one, no error may claim that nothing was written: the
    # next try could fail just because the earlier one was stored.
    doubts: list[Exception] = []
    while True:
        try:
            async with lend() as session:
                return await _try(session, body, deadline, doubts)
        except StoreUnavailable as error:
            if doubts:
                raise _unknown(doubts[-1]) from error
            raise
        except (PyMongoError, MongoConflict) as error:
            late = once or time.monotonic() + pause > deadline
            if doubts and (late or not may_repeat(error)):
                raise _unknown(doubts[-1]) from error
            if not may_repeat(error):
                raise translated(error, writing=False) from error
            if late:
                raise StoreUnavailable(f"MongoDB took no transaction: {said(error)}") from error
        await asyncio.sleep(clock.jittered(pause))
        pause = doubled(pause, LONGEST_PAUSE)


async def _try(
    session: MongoSession, body: Body[Result], deadline: float, doubts: list[Exception]
) -> Result:
    await start_transaction(session)
    try:
        result = await body(session)
    except (Unanswered, asyncio.CancelledError):
        # The driver may still be using the session: an abort would come in between. The lender of
        # the session has the server end it.
        raise
    except BaseException:
        await _abort(session)
        raise
    await _commit(session, deadline, doubts)
    return result


async def _commit(session: MongoSession, deadline: float, doubts: list[Exception]) -> None:
    """Commits, and repeats that until the server says what became of it.

    Raises: PyMongoError (it aborted), OutcomeUnknown.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            async with bounded():
                await session.commit_transaction()
            return
        except PyMongoError as error:
            if _is_abort(error):
                raise
            doubts.append(error)
            # Repeating would not help: the driver may still be using the session, or refuses to
            # (its client is closed, say).
            is_useless = isinstance(error, Unanswered | InvalidOperation)
            if is_useless or time.monotonic() + pause > deadline:
                raise _unknown(error) from error
        await asyncio.sleep(clock.jittered(pause))
        pause = doubled(pause, LONGEST_PAUSE)


def _is_abort(error: PyMongoError) -> bool:
    """Returns whether a commit that raised this error definitely aborted. After a write concern
    error it is committed, though perhaps not durable."""
    if isinstance(error, WriteConcernError | WTimeoutError):
        return False
    return error.has_error_label("TransientTransactionError")


def _unknown(error: Exception) -> OutcomeUnknown:
    return OutcomeUnknown(f"MongoDB did not confirm a commit: {said(error)}")


async def _abort(session: MongoSession) -> None:
    """Frees the locks; if even that fails, the successor ends the session."""
    with suppress(PyMongoError):
        async with bounded():
            if session.in_transaction:
                await session.abort_transaction()


def may_repeat(error: Exception) -> bool:
    """Returns whether a transaction that raised this error may succeed the next time."""
    if isinstance(error, Unanswered):
        return False
    if isinstance(error, PyMongoError) and error.has_error_label("TransientTransactionError"):
        return True
    return isinstance(error, MongoConflict | ConnectionFailure)


def may_run_on(error: BaseException) -> bool:
    """Returns whether a command may still be under way in a session whose borrower raised this.

    After an OperationFailure it is not, because the server has answered; nor after an error of the
    borrower's own, because then the server was not asked.
    """
    if isinstance(error, PyMongoError):
        return not isinstance(error, OperationFailure)
    return not isinstance(error, Exception) or isinstance(error, StoreUnavailable | OutcomeUnknown)
