"""A loop written by hand over the driver: scans the log, folds (pydantic), inserts.

Streams come in order by the log's index, each is folded into one document, and a thousand of these
are inserted at once (unordered; majority, journaled). Documents of several streams are written by
bulks of 500 upserts, in the order of time. It resumes nowhere, knows no versions, and nobody may
write meanwhile.
"""

import os
from typing import Any

from pymongo import AsyncMongoClient

from bench import side
from bench.projecting import race
from bench.projecting.bare import BATCH, DURABLE, Deposited, update_by_owner
from bench.rebuilding.history import stored_history

INSERT, PAGE = 1000, 1000


async def by_stream(commits: Any, views: Any) -> None:
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
            await views.insert_many(done, ordered=False)
            done = []
    await views.insert_many([*done, current], ordered=False)


async def by_time(commits: Any, views: Any) -> None:
    batch: list[Any] = []
    async for commit in commits.find().sort([("category", 1), ("time", 1)]).batch_size(PAGE):
        batch += [
            update_by_owner(Deposited.model_validate(one["data"])) for one in commit["events"]
        ]
        if len(batch) >= BATCH:
            await views.bulk_write(batch, ordered=False)
            batch = []
    if batch:
        await views.bulk_write(batch, ordered=False)


async def work(arguments: side.Arguments) -> None:
    async with AsyncMongoClient[Any](os.environ["BUS_MONGO_URL"]) as client:
        await client.admin.command("ping")
        database = client.get_database(arguments["service"], write_concern=DURABLE)
        loop = by_stream if arguments["kind"] == "documents" else by_time
        stop = await race.ready()
        with race.told():
            await loop(database["commits"], database["views"])
            await stop.wait()


async def drive(arguments: side.Arguments) -> side.Metrics:
    backlog = await stored_history(arguments)
    return await race.until_projected({**arguments, "partitions": 1}, backlog)


if __name__ == "__main__":
    side.run(drive, worker=work)
