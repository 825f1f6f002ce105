"""Commits in one collection, read as the read deck does: by stream, by category, in pages."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial

import bson
from bson import Timestamp
from pymongo import IndexModel

from bus.common import clock
from bus.data.payload import Document
from bus.errors import StoreUnavailable
from bus.observe.health import Examined, Finding
from bus.stores.event_log import Commit, StoredLog
from bus.stores.mongo.client import (
    LATEST,
    Client,
    check_usable,
    database,
    read_of_majority,
    settled,
)
from bus.stores.mongo.clock import ServerClock
from bus.stores.mongo.failures import reading
from bus.stores.mongo.places import PLACES, Places
from bus.stores.records import OPTIONS, commit_from

INDEXES = [
    IndexModel(PLACES, unique=True),
    IndexModel([("category", 1), ("time", 1), ("first", 1), ("stream", 1)]),
]

OPEN_WITHIN = 30.0
COUNT_WITHIN = 60.0
"""Seconds: a server counts about a million commits in one."""
HELD_WITHIN = 5.0
PAUSE = 0.02
PAGE = 1000

UNSURE = timedelta(seconds=2)
"""`operationTime` is in whole seconds, and the server's clock is known here to less than one."""

Order = list[tuple[str, int]]


class MongoLog(StoredLog, Examined):
    """A collection of commits."""

    arrival = "time"
    """The field with the time at which a commit was stored here."""
    last = ""
    """The field with the version of a commit's last event; empty if it has to be computed."""

    def __init__(
        self,
        client: Client,
        database_name: str,
        collection: str,
        *indexes: IndexModel,
        clock: ServerClock | None = None,
    ) -> None:
        self._client = client
        self._clock = clock or ServerClock()
        self._database = database(client, database_name)
        self._commits = self._database[collection]
        # A new primary holds every commit that was stored, but for a moment does not know that a
        # majority does: a majority read would miss commits, and a decision would rest on less than
        # is stored. A decision based on a commit that is rolled back is rolled back with it.
        self._latest = self._commits.with_options(read_concern=LATEST)
        self._indexes = Places(self._commits, [*INDEXES, *indexes])

    async def open(self, *, makes: bool = True) -> None:
        check_usable(self._client)
        await self._clock.look(self._client)
        if makes:
            await self._indexes.make(OPEN_WITHIN)

    async def examined(self) -> list[Finding]:
        return await self._indexes.examined()

    def now(self) -> datetime:
        return self._clock.now()

    async def read(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        found = await self._read({"stream": stream, "first": {"$gt": after}}, 1, limit)
        if after > 0 and not (found and found[0].first == after + 1):
            before = await self._read({"stream": stream, "first": {"$lte": after}}, -1, 1)
            found = [commit for commit in before if commit.last > after] + found
        return found[:limit] if limit else found

    async def read_durable(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        return await self._once_held(partial(self.read, stream, after, limit), stream)

    async def _once_held(
        self, read: Callable[[], Awaitable[list[Commit]]], what: str
    ) -> list[Commit]:
        """Returns what is read at the primary, once a majority holds the last of it, and so all. (A
        followed event may be older than the one before it; but if it is lost it comes again.)

        It waits for that, and leaves nothing out: a new primary does not know it for a moment.
        Raises: StoreUnavailable.
        """
        deadline = time.monotonic() + HELD_WITHIN
        while found := await read():
            if await self._is_held(found[-1]):
                return found
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"MongoDB: no majority holds {what} yet")
            await asyncio.sleep(clock.jittered(PAUSE))
        return []

    async def _is_held(self, commit: Commit) -> bool:
        async with reading():
            held = await self._commits.find_one({"_id": commit.id})
        # Another one may have taken its id after it was rolled back.
        return held is not None and commit_from(held) == commit

    async def _read(self, filter: Document, direction: int, limit: int) -> list[Commit]:
        async with reading():
            cursor = self._latest.find(filter).sort([("first", direction)]).limit(limit)
            return [commit_from(document) for document in await cursor.to_list(None)]

    async def scan(
        self, categories: Sequence[str], since: datetime | None = None
    ) -> AsyncIterator[Commit]:
        async for document in self._scan("time", categories, since):
            yield commit_from(document)

    async def arrived(
        self,
        categories: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[Commit]:
        async for document in self._scan(self.arrival, categories, since):
            if until is not None and document[self.arrival] > until:
                return
            yield commit_from(document)

    async def _scan(
        self, by: str, categories: Sequence[str], since: datetime | None, holding: str = "events"
    ) -> AsyncIterator[Document]:
        """Yields the commits with events (or another field, or all), by a time. In pages, so that a
        slow reader holds no cursor; any number of commits may have the same time."""
        filter: Document = {"category": {"$in": list(categories)}}
        if since is not None:
            filter[by] = {"$gte": since}
        more = True
        while more:
            raw, more = await self._page(filter, [(by, 1), ("first", 1), ("stream", 1)])
            page: list[Document] = bson.decode_all(raw, OPTIONS)
            for document in page:
                if not holding or document.get(holding):
                    yield document
            if page:
                filter = _beyond(page[-1], by, categories)

    async def scan_streams(
        self, category: str, after: str = "", until: str = ""
    ) -> AsyncIterator[Iterable[Commit]]:
        """Reads in pages, so that a slow reader holds no cursor; decodes a page during iteration,
        so that little is held for the garbage collector to go through."""
        streams = _streams_of(category, after, until)
        filter: Document = {"stream": streams}
        more = True
        while more:
            raw, more = await self._page(filter, [("stream", 1), ("first", 1)])
            page = bson.decode_iter(raw, OPTIONS)
            yield (commit_from(document) for document in page if document["events"])
            if raw:
                last = _last_of(raw)
                rest = {"stream": last["stream"], "first": {"$gt": last["first"]}}
                filter = {"$or": [rest, {"stream": {**streams, "$gt": last["stream"]}}]}

    async def _page(self, filter: Document, order: Order) -> tuple[bytes, bool]:
        """Returns PAGE commits as BSON, or as many as fit into one answer of the server (16 MB),
        which bounds what is held; and whether there may be more."""
        async with reading():
            cursor = self._commits.find_raw_batches(filter, sort=order, batch_size=PAGE)
            try:
                raw = await anext(cursor, b"")
                more = cursor.alive
            finally:
                await cursor.close()
        return raw, more

    async def heads(self, streams: Sequence[str]) -> dict[str, int]:
        # In this order, MongoDB reads one index key for each stream, however long the stream is.
        last = {"$add": ["$first", {"$size": "$events"}, -1]}
        pipeline = [
            {"$match": {"stream": {"$in": list(streams)}}},
            {"$sort": {"stream": -1, "first": -1}},
            {"$group": {"_id": "$stream", "head": {"$first": self.last or last}}},
        ]
        async with reading():
            cursor = await settled(self._latest.aggregate(pipeline))
            return {row["_id"]: row["head"] for row in await cursor.to_list(None) if row["head"]}

    async def split(self, category: str, parts: int) -> list[str]:
        ends: list[str] = []
        async with reading():
            size = await self._commits.count_documents({"stream": _streams_of(category)}) // parts
            while len(ends) < parts - 1:
                streams = {"stream": _streams_of(category, *ends[-1:])}
                cursor = self._commits.find(streams, {"_id": 0, "stream": 1})
                row = await cursor.sort([("stream", 1)]).skip(size).limit(1).to_list(None)
                if not row:
                    break
                ends.append(row[0]["stream"])
        return ends

    async def settled(self) -> datetime:
        """Returns the time now, because the server ends a transaction within a minute; or that up
        to which a majority holds what the primary has written: scans see no more."""
        now = self.now()
        async with reading():
            answer = await read_of_majority(self._commits)
        held: Timestamp | None = answer.get("operationTime")
        if held is None or held >= answer["$clusterTime"]["clusterTime"]:
            return now
        return min(now, held.as_datetime() + UNSURE)

    async def count(self, categories: Sequence[str]) -> int:
        async with reading(COUNT_WITHIN):
            count: int = await self._commits.count_documents(
                {"category": {"$in": list(categories)}}
            )
            return count


def _last_of(raw: bytes) -> Document:
    """Returns the last of many documents; each begins with its length."""
    start = 0
    while (end := start + int.from_bytes(raw[start : start + 4], "little")) < len(raw):
        start = end
    return bson.decode(raw[start:], OPTIONS)


def _beyond(last: Document, by: str, categories: Sequence[str]) -> Document:
    """Returns a filter for what follows a commit, ordered by a time, the version, the stream."""
    time, first = last[by], last["first"]
    following = [
        {by: time, "first": first, "stream": {"$gt": last["stream"]}},
        {by: time, "first": {"$gt": first}},
        {by: {"$gt": time}},
    ]
    # Each category by itself, so that MongoDB merges scans of the index. With `$in`, it would read
    # the index from its beginning, or sort all that is left, for every page.
    return {"$or": [{"category": name, **rest} for name in set(categories) for rest in following]}


def _streams_of(category: str, after: str = "", until: str = "") -> Document:
    """Returns a condition for the ids of a category's streams: they begin with its name and a
    hyphen, and `.` is the character after `-`."""
    end = {"$lte": until} if until else {"$lt": f"{category}."}
    return {"$gt": after or f"{category}-", **end}
