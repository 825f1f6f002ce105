"""Runs a transaction: again after a conflict, and until its outcome is known.

Before COMMIT is sent, an error says that nothing was stored. After that, the log is asked; and if
it does not say yet, the transaction runs again: what it stores under the same id waits for the one
in doubt.
"""

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncTransaction

from bus.common import clock
from bus.common.backoff import doubled
from bus.common.exceptions import reported
from bus.errors import OutcomeUnknown, StoreUnavailable, Unavailable
from bus.stores.event_log import Commit
from bus.stores.session import Handling
from bus.stores.sql.dialects import Late
from bus.stores.sql.engine import Database
from bus.stores.sql.event_log import SqlEventLog
from bus.stores.sql.failures import (
    ANSWER_WITHIN,
    Kind,
    bounded,
    is_lost,
    is_of_store,
    kind_of,
    said,
    translated,
)
from bus.stores.sql.sessions.lent import GUARD, Guard, finish, lent
from bus.stores.sql.sessions.marks import WAIT_WITHIN

TRANSACT_WITHIN = 15.0
"""No further try begins after so many seconds."""
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.5
AT_A_TIME = 12
"""Transactions at a time, each on a connection that nothing else uses: handlers read besides."""


class Again(Exception):
    """Nothing was stored, and another try may succeed. `error` says why."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Taken(Exception):
    """The mark, an id or a place in a stream exists already."""


class _InDoubt(Exception):
    """COMMIT was not answered. `error` says how."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Run(Protocol):
    """A handler's run, and what is special to it."""

    handling: Handling
    tries: list[Sequence[Commit]]
    """What each run that came to its end was to store."""

    async def begin(self, connection: AsyncConnection) -> None:
        """Writes what comes before the handler's own. Raises: the driver's errors."""
        ...

    @abstractmethod
    async def stored(self) -> Sequence[Commit] | None:
        """Returns what an earlier try or somebody else has stored in its place; None if nothing.

        Raises: Unavailable, and what ends the run.
        """


class Attempts:
    """Runs handlers' transactions, a few at a time."""

    def __init__(self, database: Database, log: SqlEventLog) -> None:
        self._database = database
        self._log = log
        self._turns = asyncio.Semaphore(AT_A_TIME)

    async def run(self, run: Run) -> Sequence[Commit]:
        """Returns what was stored: what the handler returned, or what was there already.

        The handler's own exceptions pass through, and then nothing is stored. Raises: Taken (and
        nothing is found in its place), StoreUnavailable, OutcomeUnknown, ProjectionError.
        """
        deadline = time.monotonic() + TRANSACT_WITHIN
        pause = FIRST_PAUSE
        doubt: BaseException | None = None
        trouble: BaseException
        while True:
            try:
                return await self._attempt(run, deadline)
            except Taken as error:
                if (found := await self._found(run, doubt)) is not None:
                    return found
                if run.tries:
                    raise
                trouble = error
            except _InDoubt as error:
                doubt = error.error
                if (found := await self._found(run, doubt)) is not None:
                    return found
                trouble = doubt
            except Again as error:
                trouble = error.error
                await self._database.make_way(trouble)
            except Exception as error:
                if doubt is None:
                    raise
                if (found := await self._found(run, doubt)) is not None:
                    return found
                raise self._unknown(doubt) from error
            if time.monotonic() + pause > deadline:
                if doubt is not None:
                    raise self._unknown(doubt) from trouble
                raise self._gave_up(trouble) from trouble
            await asyncio.sleep(clock.jittered(pause))
            pause = doubled(pause, LONGEST_PAUSE)

    async def _found(self, run: Run, doubt: BaseException | None) -> Sequence[Commit] | None:
        """Returns what `run.stored` does. Raises: OutcomeUnknown if it cannot be asked."""
        try:
            return await run.stored()
        except Unavailable as error:
            if doubt is not None:
                raise self._unknown(doubt) from error
            raise OutcomeUnknown(f"whether it was stored cannot be asked: {error}") from error

    def _unknown(self, doubt: BaseException) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self._database.name} did not confirm a commit: {said(doubt)}; repeat it with the "
            f"same id"
        )

    def _gave_up(self, error: BaseException) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._database.name} took no transaction within {TRANSACT_WITHIN:.0f} s "
            f"({said(error)}); nothing was written"
        )

    async def _attempt(self, run: Run, deadline: float) -> Sequence[Commit]:
        guard = Guard()
        async with self._turn(deadline), self._transaction(guard) as connection:
            try:
                await run.begin(connection)
            except Exception as error:
                raise self._own(error) from error
            commits = await self._handled(run, connection, guard)
            run.tries.append(commits)
            try:
                await self._store(commits, connection)
            except Exception as error:
                late = guard.is_late(error)
                raise (guard.told() if late else self._own(error)) from error
            return commits

    @asynccontextmanager
    async def _turn(self, deadline: float) -> AsyncIterator[None]:
        try:
            if self._turns.locked():
                async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                    await self._turns.acquire()
            else:
                await self._turns.acquire()
        except TimeoutError:
            raise StoreUnavailable(
                f"{AT_A_TIME} handlers with a session are at work in this process, and none has "
                f"ended within {TRANSACT_WITHIN:.0f} s; nothing was written"
            ) from None
        try:
            yield
        finally:
            self._turns.release()

    @asynccontextmanager
    async def _transaction(self, guard: Guard) -> AsyncIterator[AsyncConnection]:
        """Lends a connection for one transaction, and commits it. A connection whose transaction
        cannot be ended in order is given up: the server then ends it.

        Raises: Again, StoreUnavailable, _InDoubt, and what the block raises.
        """
        lending = self._database.connection()
        try:
            connection = await lending.__aenter__()
        except Exception as error:
            raise self._own(error) from error
        try:
            transaction = await self._begun(connection, guard)
            try:
                yield connection
            except Exception as error:
                lost = isinstance(error, Again) and is_lost(error.error)
                if lost or not await _rolled_back(transaction, guard):
                    await _give_up(connection)
                raise
            guard.commits = True
            await _commit(transaction)
        except (_InDoubt, asyncio.CancelledError):
            await _give_up(connection)
            raise
        finally:
            await lending.__aexit__(None, None, None)

    async def _begun(self, connection: AsyncConnection, guard: Guard) -> AsyncTransaction:
        """Begins a transaction, of which the server hears with its first statement."""
        assert connection.sync_connection is not None
        connection.sync_connection.execution_options(**{GUARD: guard})
        try:
            return await connection.begin()
        except Exception as error:
            await _give_up(connection)
            raise self._own(error) from error

    async def _handled(
        self, run: Run, connection: AsyncConnection, guard: Guard
    ) -> Sequence[Commit]:
        """Runs the handler and returns its commits; its session ends with it.

        Raises: Again, ProjectionError (it ended the transaction, or left a statement under way),
        StoreUnavailable, and what the handler raises.
        """
        session = lent(connection, guard)
        try:
            try:
                commits = await run.handling(session)
                guard.check_idle()
                await session.run_sync(finish)
            finally:
                guard.use.end()
        except Exception as raised:
            error = reported(raised)
            meant = self._of_handler(error, guard)
            raise meant from (error.__cause__ if meant is error else error)
        if guard.lost is not None:
            raise Again(guard.lost)
        if guard.ended is not None:
            raise guard.told()
        return commits

    def _of_handler(self, error: BaseException, guard: Guard) -> BaseException:
        """Returns what an error of a handler means; if the transaction failed meanwhile, that error
        rather than the handler's, which may be about it."""
        if guard.lost is not None:
            return Again(guard.lost)
        if guard.is_late(error):
            return guard.told()
        if not isinstance(error, DBAPIError):
            return error
        if kind_of(error) is Kind.AGAIN or is_lost(error):
            return Again(error)
        if kind_of(error) is Kind.NOTHING_DONE:
            return translated(self._database.name, error, writing=False)
        return error

    async def _store(self, commits: Sequence[Commit], connection: AsyncConnection) -> None:
        """Stores commits; if there are none, asks whether the transaction still stands.

        Raises: what `SqlEventLog.append_within` raises.
        """
        async with bounded(WAIT_WITHIN):
            if commits:
                await self._log.append_within(connection, commits)
            else:
                await connection.execute(sa.select(1))

    def _own(self, error: Exception) -> Exception:
        """Returns what an error of a statement of the bus's own means, before COMMIT."""
        if isinstance(error, Late):
            return Again(error)
        if not is_of_store(error):
            return error
        kind = kind_of(error)
        if kind is Kind.TAKEN:
            return Taken()
        if kind in (Kind.AGAIN, Kind.UNCLEAR):
            return Again(error)
        return translated(self._database.name, error, writing=False)


async def _commit(transaction: AsyncTransaction) -> None:
    """Raises: Again (nothing is stored), _InDoubt."""
    try:
        async with bounded(ANSWER_WITHIN):
            await transaction.commit()
    except Exception as error:
        if not is_of_store(error):
            raise
        if kind_of(error) is Kind.AGAIN:
            raise Again(error) from error
        raise _InDoubt(error) from error


async def _rolled_back(transaction: AsyncTransaction, guard: Guard) -> bool:
    """Returns whether nothing of a transaction is left on its connection."""
    if guard.was_rolled_back or guard.is_busy or not transaction.is_active:
        return guard.was_rolled_back and not guard.is_busy
    guard.commits = True
    try:
        async with bounded(ANSWER_WITHIN):
            await transaction.rollback()
    except Exception as error:
        if not is_of_store(error):
            raise
        return False
    return True


async def _give_up(connection: AsyncConnection) -> None:
    """Cuts a connection, without waiting for a server that may not answer."""
    if not connection.invalidated:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        cut = driver.terminate if hasattr(driver, "terminate") else driver.close
        cut()
        await connection.invalidate()
