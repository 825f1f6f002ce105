"""The peer: one `insert_one` for each document, by PyMongo's own asynchronous client.

A taken place in a stream is an error here too (the same unique index); what becomes of a repeat, or
of an insert that nobody answered, is left to the caller.
"""

import os
from typing import Any

from pymongo import AsyncMongoClient, WriteConcern

from bench import side
from bench.append.documents import INDEXES, document_of
from bench.clock import Clock

WARM_UP = 1000


async def measure(arguments: side.Arguments) -> side.Metrics:
    service, count, concurrent = (arguments[key] for key in ("service", "count", "concurrent"))
    durable = WriteConcern("majority", j=True)
    async with AsyncMongoClient[dict[str, Any]](os.environ["BUS_MONGO_URL"]) as client:
        commits = client.get_database(service, write_concern=durable)["commits"]
        await commits.create_indexes(INDEXES)

        async def insert(number: int) -> None:
            await commits.insert_one(document_of(number))

        await side.concurrently(WARM_UP, concurrent, lambda number: insert(-1 - number))
        with Clock() as clock:
            await side.concurrently(count, concurrent, insert)
        stored = await commits.count_documents({})
    if stored != count + WARM_UP:
        raise SystemExit(f"{stored} of {count + WARM_UP} commits are stored")
    return clock.metrics(count)


if __name__ == "__main__":
    side.run(measure)
