"""The event log in a SQL database: a row for each commit, durable when its statement has ended."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bus.common import clock
from bus.errors import (
    OutcomeUnknown,
    StoreUnavailable,
    Unavailable,
)
from bus.observe.health import Examined, Finding, of_problem
from bus.stores.event_log import (
    Backlog,
    Commit,
    EventCount,
    EventLog,
    Recorded,
    Snapshot,
    StoredCommit,
)
from bus.stores.records import NotOlder, is_of_command, moved_on, not_older
from bus.stores.sql.dialects import Late
from bus.stores.sql.engine import Database, Held
from bus.stores.sql.failures import Kind, bounded, is_of_store, kind_of, translated
from bus.stores.sql.log import SENDING, SqlLog, SqlPages, c
from bus.stores.sql.migrations import Migrations, gone
from bus.stores.sql.moving import WITH_PENDING, Copies, Fence, in_order
from bus.stores.sql.queries import LogQueries
from bus.stores.sql.reaching.server import rights_in, server_of
from bus.stores.sql.rows import FIELDS, Sent, commit_of, sent
from bus.stores.sql.schema import commits as table
from bus.stores.sql.settling import (
    ATTEMPT_WITHIN,
    PAUSE,
    WRITTEN_WITHIN,
    Settling,
    too_large,
    unsettled,
)
from bus.stores.sql.states import SqlStates, StoredStates
from bus.stores.together.appender import SETTLE_WITHIN, Appended, Appender
from bus.stores.together.loader import Loader

SOME = 2000
"""How many ids a query names at most."""
LANES = 2
"""How many groups of appends are under way: one is encoded while the server writes another."""
MOST_TRANSACTIONS = 8
"""At a time. More wait in their order: the pool gives a connection to whoever asks at the moment
that one is returned, and others get none in time."""

UPGRADE = "`bus stores check APP` lists all, and `bus stores create APP` makes what is missing"

_load_of = attrgetter("load")


class SqlEventLog(SqlLog, EventLog, Examined):
    """The tables `commits`, `snapshots` and `states` of one database.

    Commits to one stream share a statement with others that came with them; commits to several
    streams are a statement of their own, and with states a transaction.
    """

    def __init__(self, engine: AsyncEngine, *, creates: bool = True) -> None:
        """Without `creates`, tables that are missing are not made but reported."""
        super().__init__(Database(engine))
        self._creates = creates
        self._migrations = Migrations(self._database)
        self._snapshots = StoredStates(self._database)
        self._states = SqlStates(self._database)
        self._queries = LogQueries(self._database, self.settled)
        self._loader = Loader(SqlPages(self._database))
        self._held = [Held(self._database) for _ in range(LANES)]
        self._appenders = [
            Appender(partial(Settling, self._database, held), self._sent, store=self._database.name)
            for held in self._held
        ]
        self._slots = asyncio.Semaphore(MOST_TRANSACTIONS)
        self._copies = Copies(self._database, self._sent)
        self._fence = Fence(self._database)
        self._most_bytes = 0
        self._refusal: str | None = None

    async def open(self, *, makes: bool = True) -> None:
        await self._database.look()
        await self._migrations.need(creates=makes and self._creates, may_lack=not makes)
        self._most_bytes = await self._database.reading(self._database.dialect.most_bytes)
        if self._most_bytes:
            # Quotes and backslashes within data are sent as two characters.
            for appender in self._appenders:
                appender.most_bytes = min(appender.most_bytes, self._most_bytes // 4)
        for held in self._held:
            held.open()

    async def examined(self) -> list[Finding]:
        found = [await server_of(self._database)]
        await self._database.look()
        if problems := await self._migrations.problems():
            return [*found, *(of_problem(problem, UPGRADE, "G1") for problem in problems)]
        if lost := await self._migrations.gone():
            return [*found, of_problem(gone(self._database.name, lost), promise="G6")]
        return [*found, *await rights_in(self._database, [table])]

    async def close(self) -> None:
        for appender in self._appenders:
            await appender.close()
        for held in self._held:
            await held.close()
        await self._loader.close()
        await self._snapshots.close()
        await self._states.close()

    async def append(self, commits: Sequence[Commit]) -> Sequence[Commit]:
        if self._refusal:
            raise StoreUnavailable(self._refusal)
        if len(commits) != 1 or commits[0].state:
            return await self._append_several(commits) if commits else commits
        outcome = await min(self._appenders, key=_load_of).append(commits[0])
        if outcome is Appended.REPEAT:
            return await self._stored(commits[0].id)
        if outcome is Appended.CONFLICT:
            raise moved_on(commits)
        if outcome is Appended.FENCED:
            raise await self.fenced_off()
        return commits

    async def fenced_off(self) -> StoreUnavailable:
        """Returns the error for what the fence has refused."""
        name = self._database.name
        return StoreUnavailable(await self.fenced() or f"{name}: there was a fence; try again")

    def _sent(self, commit: Commit) -> Sent:
        ready = sent(commit)
        if self._most_bytes and 2 * len(ready) > self._most_bytes:
            quoted = sum(map(_quoted, ready.row)) + 2000
            if quoted > self._most_bytes:
                raise too_large(self._database.name, commit.id, quoted, self._most_bytes)
        return ready

    async def _append_several(self, commits: Sequence[Commit]) -> Sequence[Commit]:
        rows = [self._sent(commit).row for commit in commits]
        states = self._states.of(commits)
        until = self.now() + WRITTEN_WITHIN
        deadline = time.monotonic() + SETTLE_WITHIN
        name, id = self._database.name, commits[0].id
        doubt: BaseException | None = None
        trouble: BaseException | None = None
        while time.monotonic() < deadline:
            try:
                lent = self._several(bool(states))
                async with self._slots, bounded(ATTEMPT_WITHIN), lent as connection:
                    await self._database.dialect.insert_all(connection, rows, until)
                    await self._states.write(connection, states)
                return commits
            except Late:
                break
            except NotOlder:
                raise not_older(commits) from None
            except Exception as error:
                if not is_of_store(error):
                    raise
                kind, trouble = kind_of(error), error
            if kind is Kind.TAKEN:
                return await self._found_taken(commits, doubt is not None)
            if kind is Kind.FENCED:  # it comes before ids are looked at: this may be a repeat
                if await self.held([id]):
                    return await self._found_taken(commits, doubt is not None)
                raise await self.fenced_off()
            if kind is Kind.UNCLEAR:
                doubt = trouble
            elif kind is not Kind.AGAIN and not doubt:
                raise translated(name, trouble, writing=True) from trouble
            await self._database.make_way(trouble)
            await asyncio.sleep(clock.jittered(PAUSE if doubt else 0.01))
        raise unsettled(name, id, doubt, trouble)

    def _several(self, with_states: bool) -> AbstractAsyncContextManager[AsyncConnection]:
        """Lends a connection: commits alone are one statement, and need no transaction."""
        return self._database.transaction() if with_states else self._database.connection()

    async def append_within(self, connection: AsyncConnection, commits: Sequence[Commit]) -> None:
        """Stores commits as a part of the caller's transaction.

        Raises: Late, ConcurrencyError (a newer state is there), InvalidMessage, StoreUnavailable,
        the driver's errors.
        """
        if self._refusal:
            raise StoreUnavailable(self._refusal)
        rows = [self._sent(commit).row for commit in commits]
        states = self._states.of(commits)
        await self._database.dialect.insert_all(connection, rows, self.now() + WRITTEN_WITHIN)
        try:
            await self._states.write(connection, states)
        except NotOlder:
            raise not_older(commits) from None

    async def told_of(self, tries: Sequence[Sequence[Commit]]) -> Sequence[Commit]:
        """Returns what the log holds under the id that several tries of a transaction had: one of
        them, or a repeat's; nothing if there is nothing. Raises: StoreUnavailable."""
        stored = await self.find(tries[-1][0].id)
        return next((commits for commits in tries if list(commits) == stored), stored)

    async def _found_taken(self, commits: Sequence[Commit], own: bool) -> Sequence[Commit]:
        """Returns what the log holds of commits of which an id or a place is taken.

        Raises: ConcurrencyError, OutcomeUnknown.
        """
        stored = await self._stored(commits[0].id)
        if not stored:
            raise moved_on(commits)
        return commits if own and stored == list(commits) else stored

    async def _stored(self, id: str) -> list[Commit]:
        """Returns what the log holds under the id of an append that found its place taken.

        Raises: OutcomeUnknown if that cannot be read: the append may have been stored.
        """
        try:
            return await self.find(id)
        except Unavailable as error:
            raise OutcomeUnknown(f"whether {id} was stored cannot be asked: {error}") from error

    async def newest(self) -> str:
        """Goes by the order of storing, not by the commits' times."""
        query = sa.select(c.id).order_by(c.number.desc()).limit(1)
        rows = await self._database.rows(query)
        return str(rows[0].id) if rows else ""

    async def held(self, ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for some in _parts(ids):
            rows = await self._database.rows(sa.select(c.id).where(c.id.in_(some)))
            found |= {row.id for row in rows}
        return found

    async def examine(self, within: float = 30) -> str | None:
        await self._database.look()
        reason = await self.fenced() or None
        missing = await self._migrations.gone()
        if not missing:
            self._refusal = reason
        else:
            # Set before the index is created again, which may take long: meanwhile two commits
            # could take the same place in a stream.
            self._refusal = gone(self._database.name, missing)
            self._refusal = await self._migrations.mend(within) or reason
        return self._refusal

    async def forget_snapshots(self) -> None:
        await self._snapshots.forget()

    async def find(self, command_id: str) -> list[Commit]:
        further = sa.and_(c.id > f"{command_id}/", c.id < f"{command_id}0")
        query = sa.select(*FIELDS).where(sa.or_(c.id == command_id, further))
        rows = await self._database.rows(query)
        found = [commit_of(row) for row in rows if is_of_command(row.id, command_id)]
        return sorted(found, key=lambda commit: (len(commit.id), commit.id))

    async def commits(self, ids: Sequence[str]) -> list[Commit]:
        found: list[Commit] = []
        for some in _parts(ids):
            rows = await self._database.rows(sa.select(*FIELDS).where(c.id.in_(some)))
            found += map(commit_of, rows)
        return found

    def events(self, stream: str, after: int = 0) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        return self._loader.events(stream, after)

    async def categories(self) -> list[str]:
        return await self._queries.categories()

    async def sending(self, since: datetime) -> AsyncIterator[Commit]:
        async for row in self._scan(await self.categories(), since, None, SENDING):
            yield commit_of(row)

    def every(self, since: datetime | None = None) -> AsyncGenerator[StoredCommit, None]:
        return in_order(self._every(since))

    async def _every(self, since: datetime | None) -> AsyncIterator[Any]:
        categories = await self.categories()
        async for row in self._scan(categories, since, None, sa.true(), WITH_PENDING):
            yield row

    async def import_commits(self, copies: Sequence[StoredCommit]) -> None:
        # Half of a packet: quotes and backslashes within data are sent as two characters.
        await self._copies.store(copies, self._most_bytes // 4)

    async def fence(self, reason: str) -> None:
        await self._fence.set(reason)

    async def unfence(self) -> None:
        await self._fence.lift()

    async def fenced(self) -> str:
        return await self._fence.reason()

    async def tally(self, without: Collection[str] = ()) -> list[EventCount]:
        return await self._queries.tally(without)

    async def conversation(
        self, correlation_id: str, since: datetime | None = None
    ) -> list[Commit]:
        return await self._queries.conversation(correlation_id, since)

    def follow(self, last: int, categories: Sequence[str] = ()) -> AsyncGenerator[Commit, None]:
        return self._queries.follow(last, categories)

    async def pending(
        self, before: datetime, limit: int, since: datetime | None = None
    ) -> list[Commit]:
        """Sorts by time in the server, because the index gives that order; sorted by more, the
        server would go through everything pending for each page."""
        query = sa.select(*FIELDS).where(c.pending == sa.true(), c.time < before)
        if since is not None:
            query = query.where(c.time >= since)
        rows = await self._database.rows(query.order_by(c.time).limit(limit))
        return sorted(map(commit_of, rows), key=lambda commit: (commit.time, commit.first))

    async def backlog(self, most: int = 10_000) -> Backlog:
        waiting = sa.select(c.time).where(c.pending == sa.true()).order_by(c.time).limit(most)
        some = waiting.subquery()
        query = sa.select(sa.func.count(), sa.func.min(some.c.time)).select_from(some)
        (found,) = await self._database.rows(query)
        count, oldest = tuple(found)
        return Backlog(count, oldest)

    async def confirmed(self, commit_ids: Sequence[str]) -> None:
        """Waits until it is durable, or the relay would see the marks a moment longer."""
        for some in _parts(sorted(commit_ids)):
            update = table.update().where(c.id.in_(some)).values(pending=None)
            await self._database.write(update)

    async def snapshot(self, stream: str) -> Snapshot | None:
        return await self._snapshots.find(stream)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        await self._snapshots.save(snapshot)

    async def state(self, stream: str) -> Snapshot | None:
        return await self._states.find(stream)

    async def states(
        self,
        category: str,
        fields: Mapping[str, Any],
        limit: int,
        *,
        shape: str = "",
        after: str = "",
    ) -> list[Snapshot]:
        return await self._states.select(category, fields, limit, shape, after)

    async def save_state(self, snapshot: Snapshot) -> None:
        await self._states.save(snapshot)

    async def prepare_states(self, category: str, indexes: Sequence[str]) -> None:
        await self._states.prepare(category, indexes)

    async def forget_states(self, category: str = "") -> None:
        await self._states.forget_of(category)


def _parts(ids: Sequence[str]) -> list[list[str]]:
    return [list(ids[start : start + SOME]) for start in range(0, len(ids), SOME)]


def _quoted(value: Any) -> int:
    """Returns how many bytes a value takes in a statement of MySQL."""
    if not isinstance(value, str):
        return 30
    escaped = sum(map(value.count, "\\'\"\n\r\0\x1a"))
    return len(value.encode()) + escaped + 3
