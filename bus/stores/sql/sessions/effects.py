"""Effects in SQL: a handler's rows, its commits and its mark in one transaction."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from bus.common.tasks import end
from bus.observe.loops import Loops
from bus.stores.event_log import Commit
from bus.stores.records import check_cause, moved_on
from bus.stores.session import Effects, Handling
from bus.stores.sql.engine import Database, transacting
from bus.stores.sql.event_log import SqlEventLog
from bus.stores.sql.sessions.attempts import Attempts, Run, Taken
from bus.stores.sql.sessions.lent import watch
from bus.stores.sql.sessions.marks import Marks

FORGET_EVERY = 60.0


class SqlEffects(Effects):
    """Runs handlers' transactions beside one event log. The table `bus_handled`
    holds a mark for each event that a handler with a session handled, for `handled_for` seconds."""

    lends: type = AsyncSession

    def __init__(
        self,
        engine: AsyncEngine,
        log: SqlEventLog,
        *,
        handled_for: float,
        loops: Loops | None = None,
    ) -> None:
        """Handlers have connections of their own, so that they never hold all of the log's."""
        self._database = Database(engine)
        self._transactions = Database(transacting(engine))
        self._log = log
        self._handled_for = handled_for
        self._loops = loops or Loops()
        self._marks = Marks(self._database)
        self._attempts = Attempts(self._transactions, log)
        self._forgetting: list[asyncio.Task[None]] = []
        watch(self._transactions.engine)

    async def open(self) -> None:
        await self._database.look()
        self._forgetting.append(self._loops.start(self._forget_old, "handled"))

    async def close(self) -> None:
        await end(self._forgetting)
        await self._transactions.close()

    async def once(self, id: str, handling: Handling) -> Sequence[Commit] | None:
        run = _EventRun(handling, self._log, self._marks, id)
        try:
            return await self._attempts.run(run)
        except _Handled:
            return None
        except Taken:
            raise moved_on(run.tries[-1]) from None

    async def commit(self, handling: Handling) -> Sequence[Commit]:
        run = _CommandRun(handling, self._log)
        try:
            return await self._attempts.run(run)
        except Taken:
            raise moved_on(run.tries[-1]) from None

    async def marks(self, after: str, limit: int, since: datetime | None = None) -> list[str]:
        return await self._marks.page(after, limit, since)

    async def remember(self, marks: Sequence[str]) -> None:
        await self._marks.add(marks)

    async def forget(self, marks: Sequence[str]) -> None:
        await self._marks.forget(marks)

    async def _forget_old(self) -> None:
        async def forget() -> None:
            await self._marks.forget_old(self._handled_for)

        while True:
            await self._loops.turn("handled", forget, None)
            await asyncio.sleep(FORGET_EVERY)


class _Handled(Exception):
    """The event was handled already."""


class _CommandRun(Run):
    """A command's handler: the commits that it returns have its id."""

    def __init__(self, handling: Handling, log: SqlEventLog) -> None:
        self.handling = handling
        self.tries: list[Sequence[Commit]] = []
        self._log = log

    async def begin(self, connection: AsyncConnection) -> None: ...

    async def stored(self) -> Sequence[Commit] | None:
        return await self._log.told_of(self.tries) or None


class _EventRun(Run):
    """An event's handler: its mark is set with all else."""

    def __init__(self, handling: Handling, log: SqlEventLog, marks: Marks, mark: str) -> None:
        self.handling = handling
        self.tries: list[Sequence[Commit]] = []
        self._log = log
        self._marks = marks
        self._mark = mark

    async def begin(self, connection: AsyncConnection) -> None:
        await self._marks.put(connection, self._mark)

    async def stored(self) -> Sequence[Commit] | None:
        """Raises: _Handled (the mark is there, or commits under the id, if the mark has expired),
        IdConflict, StoreUnavailable."""
        if await self._marks.has(self._mark):
            raise _Handled
        last = self.tries[-1] if self.tries else ()
        if last and (found := await self._log.find(last[0].id)):
            check_cause(found[0], last[0])
            raise _Handled
        return None
