"""The one writer of a projection's queue: a transaction for each batch, all in one session.

A killed process leaves its transaction's locks in place for a minute or more. So a writer records
its session where its successor finds it, and the successor ends that session before it begins. What
was on its way to a busy server then may begin later, in that session still: so after a conflict the
successor ends it again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from pymongo import UpdateOne
from pymongo.errors import OperationFailure

from bus.common import clock
from bus.data.payload import Document
from bus.errors import OutcomeUnknown, Unavailable
from bus.stores.collections import Changes, Fold, Target, Writer
from bus.stores.documents.updates import plain_steps, version_in, versioned_steps
from bus.stores.mongo.client import Client, Database, MongoSession, bounded, start_session
from bus.stores.mongo.documents import (
    ABSENT,
    Mistaken,
    MongoUnit,
    bulk_write,
    bulk_write_believing,
)
from bus.stores.mongo.failures import reading, writing
from bus.stores.mongo.seal import SEAL, Seal
from bus.stores.mongo.sessions import end_sessions
from bus.stores.mongo.transactions import in_transaction, may_run_on
from bus.stores.session import swallowed

TRANSACT_WITHIN = 15.0
LATE = 120.0
"""Seconds after taking over for which an operation of the predecessor's may hold locks: what began
late, and the server's own limit of a minute."""
FEW = 8
"""Up to how many streams versions are not read first, but are conditions of the writes. A condition
costs MongoDB about 25 us a document more than a look-up by key; a read costs a round trip. So few
streams become visible sooner without the read, and many are cheaper with it."""


class MongoWriter(Writer):
    """Runs the transactions of one target, one at a time."""

    def __init__(
        self, client: Client, database: Database, target: Target, queue: str, seal: Seal
    ) -> None:
        self._client = client
        self._seal = seal
        self._database = database
        self._target = target
        self._queue = queue
        self._session: MongoSession | None = None
        self._left: MongoSession | None = None
        self._before: object = None  # the predecessor's session, ended at `_took_over`
        self._took_over = 0.0
        self._turn = asyncio.Lock()

    async def take_over(self) -> None:
        async with self._turn:
            await self._take_over()

    async def transact(
        self, streams: Sequence[str], fold: Fold, *, believed: Mapping[str, int] | None = None
    ) -> Changes:
        """Runs `fold` in a transaction. For few streams, the believed versions are conditions of
        the writes instead of being read first; if they are wrong, the batch starts again and reads
        them."""
        async with self._turn:
            if believed and self._may_believe(streams, believed):
                with suppress(Mistaken):
                    body = partial(self._apply_believing, believed, fold)
                    return await in_transaction(self._lent, body, TRANSACT_WITHIN)
            body = partial(self._apply, streams, fold)
            return await in_transaction(self._lent, body, TRANSACT_WITHIN)

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[MongoSession]:
        """Lends the writer's session. If something may still run in it afterwards, it is ended
        before the next one begins, or by `close`."""
        session = self._session or await self._take_over()
        try:
            yield session
        except BaseException as error:
            if may_run_on(error):
                self._session, self._left = None, session
            elif isinstance(error, OperationFailure):
                await self._end_what_began_late()
            raise

    async def _end_what_began_late(self) -> None:
        if self._before and time.monotonic() < self._took_over + LATE:
            with suppress(Unavailable):
                await end_sessions(self._client, [self._before])

    def _may_believe(self, streams: Sequence[str], believed: Mapping[str, int]) -> bool:
        """Returns whether believed versions may replace a read.

        Not if one is 0 and versions are checkpoints: a stream whose checkpoint was lost has none
        either, like a new stream, and would be applied again.
        """
        few = len(streams) <= FEW and believed.keys() >= set(streams)
        return few and (self._target.versions_in_documents or all(believed.values()))

    async def close(self) -> None:
        """Ends the session and signs off. If that fails, the successor does it."""
        async with self._turn:
            session, self._session, self._left = self._session or self._left, None, None
            if session is None:
                return
            own = {"_id": self._queue, "session": session.session_id["id"]}
            with suppress(Unavailable, OutcomeUnknown):
                await end_sessions(self._client, [own["session"]])
                async with writing():
                    await self._database["writers"].delete_one(own)

    async def _take_over(self) -> MongoSession:
        """Ends the predecessor's session, and records a new one. Raises: StoreUnavailable."""
        writers = self._database["writers"]
        async with reading():
            before = await writers.find_one({"_id": self._queue})
            if before:
                self._before, self._took_over = before["session"], time.monotonic()
                await end_sessions(self._client, [self._before])
            session = await start_session(self._client)
            own = {"session": session.session_id["id"], "since": clock.now()}
            await writers.replace_one({"_id": self._queue}, own, upsert=True)
        self._session, self._left = session, None
        return session

    async def _apply(self, streams: Sequence[str], fold: Fold, session: MongoSession) -> Changes:
        """Tries once: reads, folds, writes; the caller commits."""
        collection = self._database[self._target.collection]
        unit = MongoUnit(collection, self._target, session)
        if self._target.versions_in_documents:
            await unit.read_versions(streams)
        else:
            unit.versions = await self._read_checkpoints(session, streams)
        changes = await _folded(unit, fold)
        if self._target.versions_in_documents:
            await unit.write(versioned_steps(changes, unit.hidden))
        else:
            await unit.write(plain_steps(changes.writes))
            await self._write_checkpoints(session, changes.versions)
        return changes

    async def _apply_believing(
        self, believed: Mapping[str, int], fold: Fold, session: MongoSession
    ) -> Changes:
        """Tries once without reading versions. Raises: also Mistaken."""
        unit = MongoUnit(self._database[self._target.collection], self._target, session)
        unit.versions = dict(believed)
        changes = await _folded(unit, fold)
        if changes.versions.keys() != believed.keys():
            # A stream that does not advance is not written, so nothing has proven its version.
            raise Mistaken
        if self._target.versions_in_documents:
            await unit.write_believing(versioned_steps(changes, unit.hidden), believed)
        else:
            await self._write_checkpoints_believing(session, changes.versions, believed)
            await unit.write(plain_steps(changes.writes))
        return changes

    async def _read_checkpoints(
        self, session: MongoSession, streams: Sequence[str]
    ) -> dict[str, int]:
        start = len(self._target.collection) + 1
        ids = [SEAL, *(f"{self._target.collection}/{stream}" for stream in streams)]
        async with bounded():
            rows = await (
                self._database["checkpoints"]
                .find({"_id": {"$in": ids}}, session=session)
                .to_list(None)
            )
        found = {row["_id"]: row for row in rows}
        self._seal.check(found.pop(SEAL, None))
        reached = {id[start:]: version_in(row, "version") for id, row in found.items()}
        return dict.fromkeys(streams, 0) | reached

    async def _write_checkpoints(self, session: MongoSession, versions: Mapping[str, int]) -> None:
        operations = [
            UpdateOne(self._row(stream), {"$set": {"version": version}}, upsert=True)
            for stream, version in versions.items()
        ]
        await bulk_write(self._database["checkpoints"], operations, session)

    async def _write_checkpoints_believing(
        self, session: MongoSession, versions: Mapping[str, int], believed: Mapping[str, int]
    ) -> None:
        operations = [
            UpdateOne(
                {**self._row(stream), "version": believed[stream] or ABSENT},
                {"$set": {"version": version}},
                upsert=believed[stream] == 0,
            )
            for stream, version in versions.items()
        ]
        await bulk_write_believing(self._database["checkpoints"], operations, session)

    def _row(self, stream: str) -> Document:
        return {"_id": f"{self._target.collection}/{stream}"}


async def _folded(unit: MongoUnit, fold: Fold) -> Changes:
    """Runs the fold and returns its result; if the transaction failed meanwhile, raises that error
    rather than the fold's, which may be about it, or swallow it."""
    try:
        changes = await fold(unit)
    except Exception:
        if unit.failure is not None:
            raise unit.failure from None
        raise
    if unit.failure is not None:
        raise unit.failure
    if unit.refused is not None:
        raise swallowed(unit.refused)
    return changes
