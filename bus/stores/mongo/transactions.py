"""Our own transaction loop, for motor's never repeats a failed commit."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from pymongo.errors import ConnectionFailure, PyMongoError

from bus import ambient
from bus.errors import OutcomeUnknown, StoreUnavailable
from bus.stores.mongo.client import Session, Stuck, bounded, start_transaction
from bus.stores.mongo.failures import said, translated

Result = TypeVar("Result")

FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.5


class Conflict(Exception):
    """Another writer was first, in a way that the server does not call transient."""


async def in_transaction(
    session: Session, body: Callable[[], Awaitable[Result]], within: float
) -> Result:
    """Runs `body` in a transaction and commits it, all over again where it lost against others.

    It begins no further try after `within` seconds. Exceptions of `body` pass through, and then
    nothing is written. Raises: StoreUnavailable (nothing is written), OutcomeUnknown.
    """
    deadline = time.monotonic() + within
    pause = FIRST_PAUSE
    while True:
        try:
            await start_transaction(session)
            result = await body()
            await _commit(session, deadline)
            return result
        except (PyMongoError, Conflict) as error:
            await _abort(session)
            if not may_repeat(error):
                raise translated(error, writing=False) from error
            if time.monotonic() + pause > deadline:
                raise StoreUnavailable(f"MongoDB took no transaction: {said(error)}") from error
        except BaseException:
            await _abort(session)
            raise
        await asyncio.sleep(ambient.jittered(pause))
        pause = min(pause * 2, LONGEST_PAUSE)


async def _commit(session: Session, deadline: float) -> None:
    """Commits, and commits again as long as the server does not say what became of it."""
    pause = FIRST_PAUSE
    while True:
        try:
            async with bounded():
                await session.commit_transaction()
            return
        except PyMongoError as error:
            unknown = error.has_error_label("UnknownTransactionCommitResult")
            if not unknown and not isinstance(error, Stuck):
                raise
            if isinstance(error, Stuck) or time.monotonic() + pause > deadline:
                raise OutcomeUnknown(f"MongoDB did not confirm a commit: {said(error)}") from error
        await asyncio.sleep(ambient.jittered(pause))
        pause = min(pause * 2, LONGEST_PAUSE)


async def _abort(session: Session) -> None:
    """Frees the locks; where even that fails, the successor kills the session."""
    with suppress(PyMongoError):
        async with bounded():
            if session.in_transaction:
                await session.abort_transaction()


def may_repeat(error: Exception) -> bool:
    """Whether a transaction that met this error may fare better the next time."""
    if isinstance(error, Stuck):
        return False
    if isinstance(error, PyMongoError) and error.has_error_label("TransientTransactionError"):
        return True
    return isinstance(error, Conflict | ConnectionFailure)
