"""Effects in MongoDB: a handler's writes, its commits and its mark in one transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from pymongo import IndexModel
from pymongo.errors import (
    BulkWriteError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WriteError,
)

from bus.common.exceptions import reported
from bus.errors import OutcomeUnknown, ProjectionError, StoreUnavailable
from bus.stores.collections import WritableDocuments
from bus.stores.event_log import Commit
from bus.stores.mongo.client import Client, bounded, database
from bus.stores.mongo.client import MongoSession as Native
from bus.stores.mongo.documents import MongoUnit
from bus.stores.mongo.event_log import MongoEventLog
from bus.stores.mongo.failures import DUPLICATE_KEY, is_callers_own, reading, writing
from bus.stores.mongo.fence import FENCED
from bus.stores.mongo.indexes import OPTIONS_DIFFER
from bus.stores.mongo.sessions import Sessions
from bus.stores.mongo.transactions import MongoConflict, Taken, in_transaction
from bus.stores.records import READING, check_cause, moved_on
from bus.stores.session import (
    Effects,
    Ending,
    Handling,
    SessionDocuments,
    Use,
    handled,
    own_target,
    swallowed,
)

TRANSACT_WITHIN = 15.0
MOST_ENDED = 6
"""How often a transaction may turn out to have ended before its handler did."""
OPEN_WITHIN = 30.0
MOST_COLLECTIONS = 100

NO_SUCH_TRANSACTION = 251
WRITE_CONFLICT = 112


class _Handled(Exception):
    """The event was handled already."""


class _Marked(_Handled):
    """The event was handled already: its mark exists."""


class _Failed(Exception):
    """The handler failed with a driver's error that it caused itself: it is passed on as it is."""

    def __init__(self, error: PyMongoError) -> None:
        self.error = error


class MongoEffects(Effects):
    """Runs handlers' transactions beside one event log. The collection `handled` holds a mark for
    each event that a handler with a session handled."""

    def __init__(
        self,
        client: Client,
        database_name: str,
        event_log: MongoEventLog,
        *,
        projected: Collection[str],
        handled_for: int,
    ) -> None:
        self.database = database(client, database_name)
        self._handled = self.database["handled"]
        self._log = event_log
        self._projected = projected
        self._handled_for = handled_for
        self.collection = lru_cache(MOST_COLLECTIONS)(self._collection)

    async def open(self) -> None:
        async with reading(OPEN_WITHIN):
            await self._keep_marks()

    async def close(self) -> None:
        """Does nothing: the event log ends the sessions."""

    async def once(self, id: str, handling: Handling) -> Sequence[Commit] | None:
        try:
            return await self._transact(_EventRun(self, handling, id))
        except _Marked:
            await self._check_held(id)
            return None
        except _Handled:
            return None

    async def commit(self, handling: Handling) -> Sequence[Commit]:
        run = _CommandRun(self, handling)
        try:
            return await self._transact(run)
        except Taken:
            return await self._log.told_of(run.tries)
        except OutcomeUnknown as error:
            if not run.tries:  # it is the handler's own
                raise
            return await self._log.told_of(run.tries, error)

    async def _transact(self, run: "_Run") -> Sequence[Commit]:
        """Runs a handler in a transaction. Raises: what `commit` raises, Taken, _Handled."""
        try:
            return await in_transaction(self._log.sessions.one, run, TRANSACT_WITHIN)
        except _Failed as failed:
            raise failed.error from None
        except StoreUnavailable as error:
            if _is_ended(error.__cause__):
                raise _ended() from error
            raise

    async def marks(self, after: str, limit: int, since: datetime | None = None) -> list[str]:
        filter = {"_id": {"$gt": after}} | ({"time": {"$gte": since}} if since else {})
        async with reading():
            cursor = self._handled.find(filter, {"_id": 1}).sort([("_id", 1)])
            return [row["_id"] for row in await cursor.limit(limit).to_list(None)]

    async def remember(self, marks: Sequence[str]) -> None:
        rows = [{"_id": mark, "time": self._log.now()} for mark in marks]
        async with writing():
            try:
                await self._handled.insert_many(
                    rows, ordered=False, bypass_document_validation=True
                )
            except BulkWriteError as error:
                is_durable = not error.details["writeConcernErrors"]
                codes = {failure["code"] for failure in error.details["writeErrors"]}
                if not is_durable or codes != {DUPLICATE_KEY}:
                    raise

    async def forget(self, marks: Sequence[str]) -> None:
        async with writing():
            await self._handled.delete_many({"_id": {"$in": list(marks)}})

    def session(self, native: Native) -> "MongoSession":
        """Returns the session that a handler is given."""
        return MongoSession(native, self, self._projected, self._log.sessions)

    def _collection(self, name: str) -> Any:
        """Returns a collection as handlers read it. (The driver takes its time to make one.)"""
        return self.database[name].with_options(codec_options=READING)

    async def mark(self, id: str, native: Native) -> None:
        """Sets the mark. Raises: _Marked if it exists."""
        try:
            async with bounded():
                await self._handled.insert_one({"_id": id, "time": self._log.now()}, session=native)
        except DuplicateKeyError:
            raise _Marked from None
        except WriteError as error:
            if error.code == FENCED:
                raise await self._log.fenced_off() from None
            raise

    async def _check_held(self, id: str) -> None:
        """Raises: StoreUnavailable if no majority holds the mark yet: it may vanish with its
        effect, and the event would count as handled."""
        async with reading():
            held = await self._handled.find_one({"_id": id}, {"_id": 1})
        if held is None:
            raise StoreUnavailable(f"MongoDB: no majority holds yet that {id} was handled")

    async def store(self, commits: Sequence[Commit], native: Native) -> None:
        """Stores commits. Raises: Taken."""
        await self._log.append_within(native, commits)

    async def are_taken(self, commits: Sequence[Commit]) -> bool:
        """Returns whether the log has an event in one of their places. Raises: StoreUnavailable."""
        places = {commit.stream: commit.first for commit in commits if commit.events}
        heads = await self._log.heads(list(places))
        return any(heads.get(stream, 0) >= first for stream, first in places.items())

    async def check_taken(self, commits: Sequence[Commit]) -> None:
        """Raises: _Handled (the ids exist: the mark has expired), IdConflict, ConcurrencyError."""
        if found := await self._log.find(commits[0].id):
            check_cause(found[0], commits[0])
            raise _Handled
        raise moved_on(commits)

    async def _keep_marks(self) -> None:
        """Creates the index by which the server drops old marks; changes it if the time differs."""
        seconds = {"expireAfterSeconds": self._handled_for}
        try:
            await self._handled.create_indexes([IndexModel([("time", 1)], **seconds)])
        except OperationFailure as error:
            if error.code != OPTIONS_DIFFER:
                raise
            index = {"keyPattern": {"time": 1}, **seconds}
            await self.database.command("collMod", "handled", index=index)


class _Run:
    """Runs a handler; again with each try of its transaction."""

    def __init__(self, effects: MongoEffects, handling: Handling) -> None:
        self._effects = effects
        self._handling = handling
        self._ended = 0
        self._complete = False

    async def __call__(self, native: Native) -> Sequence[Commit]:
        self._ended += self._complete
        if self._ended >= MOST_ENDED:
            raise _ended()
        self._complete = False
        await self._begin(native)
        commits = await self._handle(self._effects.session(native))
        if commits:
            await self._store(commits, native)
        self._complete = True
        return commits

    async def _begin(self, native: Native) -> None:
        """Does nothing."""

    async def _store(self, commits: Sequence[Commit], native: Native) -> None:
        try:
            await self._effects.store(commits, native)
        except OperationFailure as error:
            self._ended += _is_ended(error)
            raise

    async def _handle(self, session: "MongoSession") -> Sequence[Commit]:
        """Runs the handler; if the transaction failed meanwhile, raises that error rather than the
        handler's, which may be about it, or swallow it."""
        try:
            commits = await handled(self._handling, session)
        except Exception as error:
            if session.failure is not None:
                if session.refused is not None:  # what failed after it says only that all had ended
                    raise swallowed(session.refused) from None
                raise session.failure from None
            cause = reported(error)
            if isinstance(cause, PyMongoError) and is_callers_own(cause):
                raise _Failed(cause) from None
            raise cause from cause.__cause__
        if session.failure is not None:
            raise session.failure
        return commits


class _CommandRun(_Run):
    """Runs a command's handler; the commits that it returns have its id."""

    def __init__(self, effects: MongoEffects, handling: Handling) -> None:
        super().__init__(effects, handling)
        self.tries: list[Sequence[Commit]] = []
        """What each run that came to its end was to store."""

    async def _store(self, commits: Sequence[Commit], native: Native) -> None:
        self.tries.append(commits)
        try:
            await super()._store(commits, native)
        except OperationFailure as error:
            # A newer commit may have taken the place. If none has, it is only locked, perhaps by a
            # process that was killed: then the transaction is tried again until the lock is gone.
            if error.code == WRITE_CONFLICT and await self._effects.are_taken(commits):
                raise Taken from error
            raise


class _EventRun(_Run):
    """Runs an event's handler, and marks the event as handled."""

    def __init__(self, effects: MongoEffects, handling: Handling, mark: str) -> None:
        super().__init__(effects, handling)
        self._mark = mark

    async def _begin(self, native: Native) -> None:
        await self._effects.mark(self._mark, native)

    async def _store(self, commits: Sequence[Commit], native: Native) -> None:
        try:
            await super()._store(commits, native)
        except Taken:
            await self._effects.check_taken(commits)


class MongoSession(Ending):
    """One try of a transaction."""

    def __init__(
        self, native: Native, effects: MongoEffects, projected: Collection[str], sessions: Sessions
    ) -> None:
        self._native = native
        self._effects = effects
        self._projected = projected
        self._sessions = sessions
        self._units: list[MongoUnit] = []
        self.use = Use()

    def documents(self, collection: str) -> WritableDocuments:
        self.use.check("documents")
        target = own_target(collection, self._projected)
        unit = MongoUnit(self._effects.collection(target.collection), target, self._native)
        self._units.append(unit)
        return SessionDocuments(unit, target.collection, self.use)

    @property
    def native(self) -> Any:
        self.use.check("native")
        self._sessions.give_out(self._native)
        return self._native

    @property
    def database(self) -> Any:
        self.use.check("database")
        return self._effects.database

    @property
    def refused(self) -> ProjectionError | None:
        return next((unit.refused for unit in self._units if unit.refused is not None), None)

    @property
    def failure(self) -> PyMongoError | MongoConflict | None:
        """The error that ended the transaction from within."""
        return next((unit.failure for unit in self._units if unit.failure is not None), None)


def _is_ended(error: BaseException | None) -> bool:
    return isinstance(error, OperationFailure) and error.code == NO_SUCH_TRANSACTION


def _ended() -> ProjectionError:
    return ProjectionError(
        "the transaction had ended before its handler did; either the handler swallowed the error "
        "of an operation in its session (let it pass: it ends the transaction), or it takes longer "
        "than the server lets a transaction stand (transactionLifetimeLimitSeconds, 60)"
    )
