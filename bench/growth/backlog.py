"""A worker that starts before a full queue: how fast it works that off, and how large it gets.

The events stand in the log too, as they do after an outage, so the worker's first sweep has as much
to compare as its consumer has to take.
"""

import os
import time
from typing import Any

from pymongo import AsyncMongoClient

from bench import side
from bench.growth.prefill import chunks, confirmed
from bench.growth.process import Usage, peak_mb
from bench.growth.service import build
from bus import Worker
from bus.codec import event_frames

DRAINED_WITHIN = 300.0


async def work(arguments: side.Arguments) -> None:
    async with build(arguments["service"]) as bus, Worker(bus, only=["views"]):
        await side.ready_until_stopped()


async def drive(arguments: side.Arguments) -> side.Metrics:
    depth: int = arguments["depth"]
    async with AsyncMongoClient[Any](os.environ["BUS_MONGO_URL"]) as client:
        database = client[arguments["service"]]
        await _pile_up(arguments, database)

        async def is_drained() -> bool:
            visible: int = await database["views"].estimated_document_count()
            return visible >= depth

        with side.worker(arguments) as pid:
            usage, start = Usage({"worker": [pid], **arguments["pids"]}), time.perf_counter()
            await side.until(is_drained, "the backlog is not worked off", DRAINED_WITHIN)
            seconds = time.perf_counter() - start
            own = {"per_second": depth / seconds, "memory_mb": peak_mb(pid)}
            return {**own, **usage.for_each(depth)}


async def _pile_up(arguments: side.Arguments, database: Any) -> None:
    """So many events in the log and in the projection's queue, and nobody to take them."""
    async with build(arguments["service"]) as bus:
        for commits in chunks(arguments["depth"], arguments["payload"]):
            documents = [confirmed(one) for one in commits]
            await database["commits"].insert_many(documents, ordered=False)
            frames = [
                frame for one in commits for frame in event_frames(one, bus.runtime.signing.sign)
            ]
            if failures := await bus.runtime.transport.publish(frames, timeout=60.0):
                raise SystemExit(f"{len(failures)} events were not confirmed")


if __name__ == "__main__":
    side.run(drive, worker=work)
