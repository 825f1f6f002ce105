"""The event log in MongoDB: a document for each commit, journaled on a majority of servers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import IndexModel
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from bus.errors import InvalidMessage, OutcomeUnknown, StoreUnavailable, Unavailable
from bus.observe.loops import Loops
from bus.stores.event_log import (
    Backlog,
    Commit,
    EventCount,
    EventLog,
    Recorded,
    Snapshot,
    StoredCommit,
)
from bus.stores.mongo.client import Client, MongoSession, Unanswered, bounded
from bus.stores.mongo.clock import ServerClock
from bus.stores.mongo.copies import Copies
from bus.stores.mongo.failures import (
    DUPLICATE_KEY,
    is_about_content,
    is_refused,
    reading,
    said,
    writing,
)
from bus.stores.mongo.fence import FENCED, HANDLED, Fence
from bus.stores.mongo.loader import MongoPages
from bus.stores.mongo.log import OPEN_WITHIN, MongoLog
from bus.stores.mongo.log_queries import LogQueries
from bus.stores.mongo.places import gone
from bus.stores.mongo.sessions import Sessions
from bus.stores.mongo.settling import Settling
from bus.stores.mongo.sharing import Pair, Sharing, pair_of
from bus.stores.mongo.snapshots import MongoSnapshots
from bus.stores.mongo.states import MongoStates, Write, writes_of
from bus.stores.mongo.transactions import Taken, in_transaction
from bus.stores.records import (
    NotOlder,
    commit_document,
    commit_from,
    encoded,
    is_of_command,
    moved_on,
    not_older,
)
from bus.stores.together.appender import Appended, Appender
from bus.stores.together.loader import Loader

PENDING = IndexModel([("pending", 1), ("time", 1)], partialFilterExpression={"pending": True})

MOST_TRANSACTIONS = 16
TRANSACTION_WITHIN = 10.0


class MongoEventLog(MongoLog, EventLog):
    """The collections `commits`, `snapshots` and `states` of one database.

    A commit to one stream is a single insert and needs no replica set; commits to several streams,
    or with a state, are one transaction, which does.
    """

    collections = ("commits", HANDLED, "states")

    def __init__(
        self,
        client: Client,
        database_name: str,
        *,
        clock: ServerClock | None = None,
        loops: Loops | None = None,
    ) -> None:
        super().__init__(client, database_name, "commits", PENDING, clock=clock)
        self._snapshots = MongoSnapshots(self._database["snapshots"])
        self._states = MongoStates(self._database)
        self._loader = Loader(MongoPages(self._latest))
        self._looking = LogQueries(self._commits)
        self._appender = Appender(partial(Settling, self._commits), _encoded, store="MongoDB")
        sharing = partial(Sharing, self._share, self._append_several, self.told_of)
        self._appender_of_states = Appender(sharing, pair_of, store="MongoDB")
        self._sharing = set[str]()
        """The streams whose commits with states are under way."""
        self._copies = Copies(self._commits)
        self._fence = Fence(self._database, self._commits.name)
        self.sessions = Sessions(client, self._database, loops or Loops())
        self._slots = asyncio.Semaphore(MOST_TRANSACTIONS)
        self._refusal: str | None = None

    async def open(self, *, makes: bool = True) -> None:
        await super().open(makes=makes)
        self.sessions.open()

    async def close(self) -> None:
        await self.sessions.close()
        await self._appender.close()
        await self._appender_of_states.close()
        await self._loader.close()
        await self._snapshots.close()
        await self._states.close()

    async def append(self, commits: Sequence[Commit]) -> Sequence[Commit]:
        if self._refusal:
            raise StoreUnavailable(self._refusal)
        if len(commits) != 1:
            return await self._append_several(commits) if commits else commits
        if commits[0].state:
            return await self._append_with_state(commits)
        return await self._told(await self._appender.append(commits[0]), commits)

    async def _append_with_state(self, commits: Sequence[Commit]) -> Sequence[Commit]:
        stream = commits[0].stream
        if stream in self._sharing:
            # It conflicts, most likely. In a group, all that do would run again at the same time,
            # and one of them would win each time.
            return await self._append_several(commits)
        self._sharing.add(stream)
        try:
            return await self._told(await self._appender_of_states.append(commits[0]), commits)
        finally:
            self._sharing.discard(stream)

    async def _told(self, outcome: Appended, commits: Sequence[Commit]) -> Sequence[Commit]:
        if outcome is Appended.REPEAT:
            return await self._stored(commits[0].id)
        if outcome is Appended.CONFLICT:
            raise moved_on(commits)
        if outcome is Appended.FENCED:
            raise await self.fenced_off()
        return commits

    async def append_within(self, session: MongoSession, commits: Sequence[Commit]) -> None:
        """Stores commits as a part of the caller's transaction. Raises: Taken, ConcurrencyError,
        InvalidMessage, StoreUnavailable, and the driver's errors."""
        if self._refusal:
            raise StoreUnavailable(self._refusal)
        try:
            await self._insert(_documents(commits), writes_of(commits), session)
        except NotOlder:
            raise not_older(commits) from None

    async def _append_several(self, commits: Sequence[Commit]) -> Sequence[Commit]:
        body = partial(self._insert, _documents(commits), writes_of(commits))
        try:
            await in_transaction(self._slot, body, TRANSACTION_WITHIN)
        except Taken:
            return await self.told_of([commits])
        except NotOlder:
            raise not_older(commits) from None
        except OutcomeUnknown as error:
            return await self.told_of([commits], error)
        return commits

    async def _share(self, pairs: Sequence[Pair]) -> None:
        documents = [pair.document for pair in pairs]
        body = partial(self._insert, documents, [pair.write for pair in pairs])
        await in_transaction(self._slot, body, TRANSACTION_WITHIN, once=True)

    async def told_of(
        self, tries: Sequence[Sequence[Commit]], doubt: OutcomeUnknown | None = None
    ) -> Sequence[Commit]:
        """Returns what the log holds under the id that several tries of a transaction had, the last
        of which ended by a place or id that was taken, or in doubt: one of them, or a repeat's.

        Raises: ConcurrencyError; OutcomeUnknown: `doubt`, or the log cannot be read.
        """
        last = tries[-1]
        stored = await (self._found(last[0].id, doubt) if doubt else self._stored(last[0].id))
        if stored:
            return next((commits for commits in tries if list(commits) == stored), stored)
        raise doubt or moved_on(last)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[MongoSession]:
        """Lends a session for one try: between tries, the slot is free for other appends."""
        async with self._slots, self.sessions.one() as session:
            yield session

    async def _stored(self, id: str) -> list[Commit]:
        """Returns what the log holds under the id of an append that found its place taken. Raises:
        OutcomeUnknown if that cannot be read: the append may have been stored."""
        try:
            return await self.find(id)
        except Unavailable as error:
            raise OutcomeUnknown(f"whether {id} was stored cannot be asked: {error}") from error

    async def _found(self, id: str, doubt: OutcomeUnknown) -> list[Commit]:
        """Returns what is durable under an id after all, although its commit was not confirmed. A
        server that did not answer is not asked again: the caller has waited long enough."""
        if isinstance(doubt.__cause__, Unanswered):
            return []
        try:
            return await self.find(id)
        except Unavailable:
            return []

    async def _insert(
        self,
        documents: Sequence[RawBSONDocument],
        states: Sequence[Write],
        session: MongoSession,
    ) -> None:
        try:
            async with bounded():
                if len(documents) == 1:  # much less work for the driver, and the usual case
                    await self._commits.insert_one(documents[0], session=session)
                else:
                    await self._commits.insert_many(documents, session=session)
        except DuplicateKeyError:
            raise Taken from None
        except BulkWriteError as error:
            codes = [failure["code"] for failure in error.details["writeErrors"]]
            if DUPLICATE_KEY in codes:
                raise Taken from None
            if FENCED in codes:  # it comes before the look at ids: this may be a repeat
                if await self.held([documents[0]["_id"]]):
                    raise Taken from None
                raise await self.fenced_off() from None
            if any(map(is_about_content, codes)):
                raise _refused(error) from error
            raise
        except OperationFailure as error:
            if is_refused(error):
                raise _refused(error) from error
            raise
        if states:
            await self._states.write(states, session)

    async def fenced_off(self) -> StoreUnavailable:
        """Returns the error for what the fence has refused."""
        return StoreUnavailable(await self.fenced() or "MongoDB: there was a fence; try again")

    async def newest(self) -> str:
        """Goes by the order of storing, not by the commits' times."""
        async with reading():
            cursor = self._commits.find({}, {"_id": 1}).sort([("$natural", -1)]).limit(1)
            found = await cursor.to_list(None)
        return str(found[0]["_id"]) if found else ""

    async def held(self, ids: Sequence[str]) -> set[str]:
        async with reading():
            cursor = self._latest.find({"_id": {"$in": list(ids)}}, {"_id": 1})
            return {row["_id"] for row in await cursor.to_list(None)}

    async def examine(self, within: float = OPEN_WITHIN) -> str | None:
        await self._clock.look(self._client)
        reason = await self.fenced() or None
        if await self._indexes.are_unique():
            self._refusal = reason
        else:
            # Set before the index is created again, which may take long: meanwhile two commits
            # could take the same place in a stream.
            self._refusal = gone(self._commits.name)
            self._refusal = await self._indexes.mended(within) or reason
        return self._refusal

    async def forget_snapshots(self) -> None:
        async with writing():
            await self._database["snapshots"].delete_many({})

    async def find(self, command_id: str) -> list[Commit]:
        """Returns them only once a majority holds them, because a receipt is a promise. Raises:
        StoreUnavailable."""
        return await self._once_held(partial(self._find, command_id), command_id)

    async def _find(self, command_id: str) -> list[Commit]:
        further = {"$gt": f"{command_id}/", "$lt": f"{command_id}0"}
        async with reading():
            documents = await self._latest.find(
                {"$or": [{"_id": command_id}, {"_id": further}]}
            ).to_list(None)
        found = [commit_from(row) for row in documents if is_of_command(row["_id"], command_id)]
        return sorted(found, key=lambda commit: (len(commit.id), commit.id))

    async def commits(self, ids: Sequence[str]) -> list[Commit]:
        async with reading():
            cursor = self._latest.find({"_id": {"$in": list(ids)}})
            return [commit_from(document) for document in await cursor.to_list(None)]

    def events(self, stream: str, after: int = 0) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        return self._loader.events(stream, after)

    async def categories(self) -> list[str]:
        return await self._looking.categories()

    async def sending(self, since: datetime) -> AsyncIterator[Commit]:
        async for document in self._scan("time", await self.categories(), since, "outgoing"):
            yield commit_from(document)

    async def every(self, since: datetime | None = None) -> AsyncGenerator[StoredCommit, None]:
        async for document in self._scan("time", await self.categories(), since, ""):
            yield StoredCommit(commit_from(document), bool(document.get("pending")))

    async def import_commits(self, copies: Sequence[StoredCommit]) -> None:
        if copies:
            await self._copies.store(copies)

    async def fence(self, reason: str) -> None:
        await self._fence.set(reason)

    async def unfence(self) -> None:
        await self._fence.lift()

    async def fenced(self) -> str:
        return await self._fence.reason()

    async def tally(self, without: Collection[str] = ()) -> list[EventCount]:
        return await self._looking.tally(without)

    async def conversation(
        self, correlation_id: str, since: datetime | None = None
    ) -> list[Commit]:
        return await self._looking.conversation(correlation_id, since)

    def follow(self, last: int, categories: Sequence[str] = ()) -> AsyncGenerator[Commit, None]:
        return self._looking.follow(last, categories)

    async def pending(
        self, before: datetime, limit: int, since: datetime | None = None
    ) -> list[Commit]:
        """Sorts by time in the server, because the index gives that order; sorted by more, the
        server would go through everything pending for each page."""
        times = {"$lt": before} if since is None else {"$lt": before, "$gte": since}
        filter = {"pending": True, "time": times}
        async with reading():
            cursor = self._commits.find(filter).sort([("time", 1)]).limit(limit)
            found = [commit_from(document) for document in await cursor.to_list(None)]
        return sorted(found, key=lambda commit: (commit.time, commit.first))

    async def backlog(self, most: int = 10_000) -> Backlog:
        return await self._looking.backlog(most)

    async def confirmed(self, commit_ids: Sequence[str]) -> None:
        """Waits until it is durable, or the relay would see the marks a moment longer."""
        async with writing():
            await self._commits.update_many(
                {"_id": {"$in": list(commit_ids)}}, {"$unset": {"pending": ""}}
            )

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
        await self._states.forget(category)


def _documents(commits: Sequence[Commit]) -> list[RawBSONDocument]:
    return [RawBSONDocument(_encoded(commit)) for commit in commits]


def _encoded(commit: Commit) -> bytes:
    return encoded(commit_document(commit))


def _refused(error: OperationFailure) -> InvalidMessage:
    return InvalidMessage(f"MongoDB refuses the commit: {said(error)}")
