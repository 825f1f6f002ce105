"""A loop written by hand over the driver: scans the log, folds (pydantic), inserts.

Streams come in order by the log's index, each is folded into one document, and a thousand of these
are inserted at once (unordered; majority, journaled). Documents of several streams are written by
bulks of 500 upserts, in the order of time. It resumes nowhere, knows no versions, and nobody may
write meanwhile.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from pymongo import AsyncMongoClient

from bench import side
from bench.projecting import race
from bench.projecting.bare import BATCH, DURABLE, Deposited, Store, update_by_owner
from bench.rebuilding.history import stored_history

INSERT, PAGE = 1000, 1000


Insert = Callable[[list[dict[str, Any]]], Awaitable[object]]


async def by_stream(commits: Any, insert: Insert) -> None:
    done: list[dict[str, Any]] = []
    current: dict[str, Any] = {}
    cursor = commits.find().sort([("stream", 1), ("first", 1)]).batch_size(PAGE)
    async for commit in cursor:
        for one in commit["events"]:
            event = Deposited.model_validate(one["data"])
            if current.get("_id") != event.account_id:
                done += [current] if current else []
                current = {"_id": event.account_id}
            current |= {"events": event.number, "owner": event.owner, "note": event.note}
        if len(done) >= INSERT:
            await insert(done)
            done = []
    await insert([*done, current])


async def by_time(commits: Any, store: Store) -> None:
    batch: list[Deposited] = []
    async for commit in commits.find().sort([("category", 1), ("time", 1)]).batch_size(PAGE):
        batch += [Deposited.model_validate(one["data"]) for one in commit["events"]]
        if len(batch) >= BATCH:
            await store(batch)
            batch = []
    if batch:
        await store(batch)


async def build(arguments: side.Arguments, insert: Insert, store: Store) -> None:
    """Scans the log once it is told to start, and builds what is to be inserted or stored."""
    async with AsyncMongoClient[Any](os.environ["BUS_MONGO_URL"]) as client:
        await client.admin.command("ping")
        commits = client[arguments["service"]]["commits"]
        stop = await race.ready()
        with race.told():
            if arguments["kind"] == "documents":
                await by_stream(commits, insert)
            else:
                await by_time(commits, store)
            await stop.wait()


async def work(arguments: side.Arguments) -> None:
    async with AsyncMongoClient[Any](os.environ["BUS_MONGO_URL"]) as client:
        await client.admin.command("ping")
        views = client.get_database(arguments["service"], write_concern=DURABLE)["views"]

        async def insert(documents: list[dict[str, Any]]) -> None:
            await views.insert_many(documents, ordered=False)

        async def store(events: list[Deposited]) -> None:
            await views.bulk_write(list(map(update_by_owner, events)), ordered=False)

        await build(arguments, insert, store)


async def drive(arguments: side.Arguments) -> side.Metrics:
    backlog = await stored_history(arguments)
    return await race.until_projected({**arguments, "partitions": 1}, backlog)


if __name__ == "__main__":
    side.run(drive, worker=work)
