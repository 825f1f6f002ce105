"""Queries of the event log for people: names of events, a conversation, what is stored now, what
waits.

Nothing that a service does uses them; two of them read the whole log.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from bus.data.payload import Document
from bus.errors import StoreUnavailable
from bus.stores.event_log import Backlog, Commit, EventCount
from bus.stores.mongo.client import Collection as MongoCollection
from bus.stores.mongo.client import read_of_majority, settled
from bus.stores.mongo.failures import reading
from bus.stores.mongo.log import COUNT_WITHIN
from bus.stores.records import commit_from

READ_WITHIN = 600.0
AWAIT_MS = 1000

HAS_EVENTS = {"$exists": True}


class LogQueries:
    """Reads the collection of commits, as a majority holds it."""

    def __init__(self, commits: MongoCollection) -> None:
        self._commits = commits

    async def tally(self, without: Collection[str]) -> list[EventCount]:
        """Counts events by category and name, for `EventLog.tally`."""
        other = {"$nin": list(without)}
        group = {
            "_id": {"category": "$category", "name": "$name"},
            "count": {"$sum": 1},
            "first": {"$min": "$time"},
            "last": {"$max": "$time"},
            "stream": {"$first": "$stream"},
            "version": {"$first": {"$add": ["$first", "$place"]}},
        }
        steps: list[Document] = [
            {"$match": {"events": {"$elemMatch": {"name": other}}}},
            {"$project": {**dict.fromkeys(("category", "stream", "first", "time"), 1),
                          "name": "$events.name"}},
            {"$unwind": {"path": "$name", "includeArrayIndex": "place"}},
            {"$match": {"name": other}},
            {"$group": group},
            {"$sort": {"_id.category": 1, "_id.name": 1}},
        ]  # fmt: skip
        async with reading(READ_WITHIN):
            cursor = await settled(self._commits.aggregate(steps))
            return [_tally(row) for row in await cursor.to_list(None)]

    async def conversation(self, correlation_id: str, since: datetime | None) -> list[Commit]:
        """Returns the commits with a correlation id, by time; with `since`, it uses the index of
        categories and times."""
        filter: Document = {"correlation_id": correlation_id}
        async with reading(READ_WITHIN):
            if since is not None:
                filter |= {"category": {"$in": await self._categories()}, "time": {"$gte": since}}
            found = [commit_from(row) for row in await self._commits.find(filter).to_list(None)]
        return sorted(found, key=lambda commit: (commit.time, commit.first))

    async def follow(self, last: int, categories: Sequence[str]) -> AsyncGenerator[Commit, None]:
        """Yields commits for `EventLog.follow`. Opens the change stream before it reads the last
        commits, so that none is missed in between."""
        async with self._changes(categories) as changes:
            shown = await self._last(last, categories)
            for commit in shown:
                yield commit
            known = {commit.id for commit in shown}
            while changes.alive:
                async with reading():
                    change = await changes.try_next()
                if change and change["fullDocument"]["_id"] not in known:
                    yield commit_from(change["fullDocument"])
        raise StoreUnavailable("MongoDB ended the stream of changes; begin again")

    @asynccontextmanager
    async def _changes(self, categories: Sequence[str]) -> AsyncIterator[Any]:
        """Opens the change stream; motor does so only when it is entered.

        By itself it would begin with what the server writes next, and leave out what is written and
        not yet a majority's, which those who read now do not see either.
        """
        inserted: Document = {"operationType": "insert", "fullDocument.events.0": HAS_EVENTS}
        if categories:
            inserted["fullDocument.category"] = {"$in": list(categories)}
        steps = [{"$match": inserted}, {"$project": {"fullDocument": 1}}]
        async with reading():
            seen = (await read_of_majority(self._commits)).get("operationTime")
            watching = await settled(
                self._commits.watch(steps, max_await_time_ms=AWAIT_MS, start_at_operation_time=seen)
            )
            changes = await watching.__aenter__()
        try:
            yield changes
        finally:
            await changes.close()

    async def _last(self, count: int, categories: Sequence[str]) -> list[Commit]:
        """Returns the last commits with events, by time."""
        if not count:
            return []
        async with reading():
            of = list(categories) or await self._categories()
            filter = {"category": {"$in": of}, "events.0": HAS_EVENTS}
            cursor = self._commits.find(filter).sort([("time", -1), ("first", -1)]).limit(count)
            found = await cursor.to_list(None)
        return [commit_from(row) for row in reversed(found)]

    async def backlog(self, most: int) -> Backlog:
        """Counts what is pending by the index of it, which holds nothing else."""
        filter = {"pending": True}
        async with reading():
            oldest = await self._commits.find(filter, {"time": 1}).sort("time", 1).to_list(1)
            count = await self._commits.count_documents(filter, limit=most) if oldest else 0
        return Backlog(count, oldest[0]["time"] if oldest else None)

    async def categories(self) -> list[str]:
        """Returns all categories, sorted, by jumps from one to the next in the index."""
        async with reading(COUNT_WITHIN):
            return await self._categories()

    async def _categories(self) -> list[str]:
        found: list[str] = await self._commits.distinct("category")
        return sorted(found)


def _tally(row: Document) -> EventCount:
    named = row["_id"]
    return EventCount(
        name=named["name"],
        category=named["category"],
        count=row["count"],
        first=row["first"],
        last=row["last"],
        stream=row["stream"],
        version=int(row["version"]),
    )
