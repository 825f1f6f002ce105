"""A broker that is back after an outage: how fast the relay publishes what waited meanwhile.

It publishes a part of them: what is asked is whether that gets slower, the more there are.
"""

import os
import time
from typing import Any

from pymongo import AsyncMongoClient

from bench import side
from bench.growth.prefill import chunks
from bench.growth.process import Usage
from bench.growth.service import build
from bus.stores.records import commit_document
from bus.write.relay import BATCH, Relay

BATCHES = 20


async def drive(arguments: side.Arguments) -> side.Metrics:
    depth: int = arguments["depth"]
    async with build(arguments["service"]) as bus:
        await _pile_up(arguments)
        runtime = bus.runtime
        relay = Relay(runtime.event_log, runtime.publisher, runtime.control)
        usage = Usage({"client": [os.getpid()], **arguments["pids"]})
        start, batches = time.perf_counter(), min(BATCHES, depth // BATCH)
        for _ in range(batches):
            if not await relay.relay_once():
                raise SystemExit("the relay has nothing to publish, or cannot")
        seconds = time.perf_counter() - start
        return {"per_second": batches * BATCH / seconds, **usage.for_each(batches * BATCH)}


async def _pile_up(arguments: side.Arguments) -> None:
    """So many commits in the log that no broker has confirmed."""
    async with AsyncMongoClient[Any](os.environ["BUS_MONGO_URL"]) as client:
        commits = client[arguments["service"]]["commits"]
        for some in chunks(arguments["depth"], arguments["payload"]):
            await commits.insert_many([commit_document(one) for one in some], ordered=False)
        await client.admin.command("fsync")


if __name__ == "__main__":
    side.run(drive)
