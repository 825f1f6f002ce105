"""A read collection's changes in MongoDB: a change stream, read by plain commands.

The drivers' change streams return one change at a time, motor's with a thread for each. Here it
only matters whether there are any, so each answer of the server is one call, however many changes
it holds. (With several mongos, a call may reach another one than the last, which does not know the
cursor: then the stream is opened again from its token.)
"""

import asyncio
from contextlib import suppress
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from bus.data.payload import Document
from bus.stores.collections import ChangeFeed
from bus.stores.mongo.client import Client, Database, MongoSession, bounded, start_session
from bus.stores.mongo.failures import is_cut_short, reading

CLOSE_WITHIN = 1.0


class MongoChangeFeed(ChangeFeed):
    """One change stream, opened by the first call, and again whenever it has ended."""

    def __init__(self, client: Client, database: Database, collection: str) -> None:
        self._client = client
        self._database = database
        self._collection = collection
        self._session: MongoSession | None = None
        self._cursor = 0
        self._token: Document | None = None
        """Where the next stream begins; None if that is now."""

    async def changed(self) -> bool:
        if self._cursor:
            async with reading(server_waits=True):
                if (came := await self._more()) is not None:
                    return came
        async with reading():
            return await self._open()

    async def close(self) -> None:
        """Ends the stream. A server that cannot be reached drops the cursor by itself."""
        cursor, self._cursor = self._cursor, 0
        with suppress(PyMongoError):
            if cursor:
                async with bounded(CLOSE_WITHIN):
                    await self._run("killCursors", self._collection, cursors=[cursor])
            await self._leave_session()

    async def _more(self) -> bool | None:
        """Returns whether there are changes, for which the server waits a second; None if it does
        not know the cursor any more.

        Until it has answered, there is no cursor: one whose answer does not arrive is beyond the
        changes in it, and the stream is opened again before them.
        """
        cursor, self._cursor = self._cursor, 0
        try:
            reply = await self._run("getMore", cursor, collection=self._collection)
        except PyMongoError as error:
            if _is_lost(error):
                return None
            raise
        return self._read(reply["cursor"], "nextBatch")

    async def _open(self) -> bool:
        """Continues at the token. If there is none, or the server cannot continue there, begins
        now and returns True, because changes may have been missed."""
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
        """Reads an answer; returns whether it holds changes.

        A stream that has ended (its collection was dropped, say) cannot be continued: no token.
        """
        self._cursor = cursor["id"]
        self._token = cursor["postBatchResumeToken"] if self._cursor else None
        return bool(cursor[batch])

    async def _run(self, command: str, value: object, **options: object) -> Any:
        try:
            return await self._database.command({command: value, **options}, session=self._session)
        except asyncio.CancelledError:
            self._session = None  # a thread of motor's may still use it
            raise

    async def _leave_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.end_session()


def _is_lost(error: PyMongoError) -> bool:
    """Returns whether the server does not continue this stream. It is opened again then; if that
    fails too, its error says why."""
    return isinstance(error, OperationFailure) and not is_cut_short(error.code)
