"""Our own transaction loop, because motor's never repeats a failed commit.

A commit that did not clearly abort may be durable, or become so. It is asked for again until the
server says what became of it; if it does not say in time, the outcome is unknown. So an error that
says that nothing was stored can be relied on.
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
    """Another writer was first, in a way that the server does not call transient."""


async def in_transaction(lend: Lend, body: Body[Result], within: float) -> Result:
    """Runs `body` in a transaction and commits it, all over again where it lost against others.

    Each try borrows a session; what `lend` gives is given back between the tries. It begins no
    further try after `within` seconds. Exceptions of `body` pass through, and then nothing is
    written. Raises: StoreUnavailable (nothing is written), OutcomeUnknown.
    """
    deadline = time.monotonic() + within
    pause = FIRST_PAUSE
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
            late = time.monotonic() + pause > deadline
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
        raise  # the driver may still be at it; the lender of the session has the server end it
    except BaseException:
        await _abort(session)
        raise
    await _commit(session, deadline, doubts)
    return result


async def _commit(session: MongoSession, deadline: float, doubts: list[Exception]) -> None:
    """Commits, and commits again as long as the server does not say what became of it.

    Raises: PyMongoError where it aborted, OutcomeUnknown.
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
            is_useless = isinstance(error, Unanswered | InvalidOperation)
            if is_useless or time.monotonic() + pause > deadline:
                raise _unknown(error) from error
        await asyncio.sleep(clock.jittered(pause))
        pause = doubled(pause, LONGEST_PAUSE)


def _is_abort(error: PyMongoError) -> bool:
    """Whether a commit that met this error definitely aborted: a write concern that failed means
    that it is committed, if perhaps not durable."""
    if isinstance(error, WriteConcernError | WTimeoutError):
        return False
    return error.has_error_label("TransientTransactionError")


def _unknown(error: Exception) -> OutcomeUnknown:
    return OutcomeUnknown(f"MongoDB did not confirm a commit: {said(error)}")


async def _abort(session: MongoSession) -> None:
    """Frees the locks; where even that fails, the successor kills the session."""
    with suppress(PyMongoError):
        async with bounded():
            if session.in_transaction:
                await session.abort_transaction()


def may_repeat(error: Exception) -> bool:
    """Whether a transaction that met this error may fare better the next time."""
    if isinstance(error, Unanswered):
        return False
    if isinstance(error, PyMongoError) and error.has_error_label("TransientTransactionError"):
        return True
    return isinstance(error, MongoConflict | ConnectionFailure)


def may_run_on(error: BaseException) -> bool:
    """Whether a command may still be under way in a session whose borrower met this error.

    The server answered where it raised an OperationFailure, and nothing was asked of it where the
    borrower raised an error of its own.
    """
    if isinstance(error, PyMongoError):
        return not isinstance(error, OperationFailure)
    return not isinstance(error, Exception) or isinstance(error, StoreUnavailable | OutcomeUnknown)
