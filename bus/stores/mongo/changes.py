"""A read collection's changes in MongoDB: a change stream, read by its own commands.

The drivers' change streams hand out one change at a time, motor's by a thread for each. All that is
to be known here is whether there are any, so that one answer of the server's, however many changes
are in it, is one call. (Through several mongos a call may come to another one than the last, which
does not know the cursor: then the stream is opened anew from its token.)
"""

from contextlib import suppress
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from bus.data.payload import Document
from bus.stores.mongo.client import Client, Database, MongoSession, bounded, start_session
from bus.stores.mongo.failures import is_cut_short, reading

CLOSE_WITHIN = 1.0


class MongoChangeFeed:
    """One change stream, opened by the first call and again after whatever ends it."""

    def __init__(self, client: Client, database: Database, collection: str) -> None:
        self._client = client
        self._database = database
        self._collection = collection
        self._session: MongoSession | None = None
        self._cursor = 0
        self._token: Document | None = None
        """Where the next stream begins; None where it begins at present."""

    async def changed(self) -> bool:
        """As `ChangeFeed.changed`."""
        if self._cursor:
            async with reading(server_waits=True):
                if (came := await self._more()) is not None:
                    return came
        async with reading():
            return await self._open()

    async def close(self) -> None:
        """As `ChangeFeed.close`. A server that cannot be told lets the cursor go by itself."""
        cursor, self._cursor = self._cursor, 0
        with suppress(PyMongoError):
            if cursor:
                async with bounded(CLOSE_WITHIN):
                    await self._run("killCursors", self._collection, cursors=[cursor])
            await self._leave_session()

    async def _more(self) -> bool | None:
        """Whether there are changes; the server waits a second for them. None where it does not
        know the cursor any more."""
        try:
            reply = await self._run("getMore", self._cursor, collection=self._collection)
        except PyMongoError as error:
            self._cursor = 0
            if _is_lost(error):
                return None
            raise
        return self._read(reply["cursor"], "nextBatch")

    async def _open(self) -> bool:
        """Goes on at the token. Where there is none, or none that the server can go on at, begins
        at present, which is to be told as a change."""
        if self._token:
            try:
                return await self._aggregate({"resumeAfter": self._token})
            except PyMongoError as error:
                if not _is_lost(error):
                    raise
        await self._aggregate({})
        return True

    async def _aggregate(self, start: Document) -> bool:
        await self._leave_session()
        self._session = await start_session(self._client)
        pipeline = [{"$changeStream": start}, {"$project": {"_id": 1}}]
        reply = await self._run("aggregate", self._collection, pipeline=pipeline, cursor={})
        return self._read(reply["cursor"], "firstBatch")

    def _read(self, cursor: Document, batch: str) -> bool:
        """A stream that ended, as where its collection was dropped, has no place to go on at."""
        self._cursor = cursor["id"]
        self._token = cursor["postBatchResumeToken"] if self._cursor else None
        return bool(cursor[batch])

    async def _run(self, command: str, value: object, **options: object) -> Any:
        return await self._database.command({command: value, **options}, session=self._session)

    async def _leave_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.end_session()


def _is_lost(error: PyMongoError) -> bool:
    """Whether the server does not go on with this stream; it is opened anew then, and where the
    server does not do that either, that tells why."""
    return isinstance(error, OperationFailure) and not is_cut_short(error.code)
