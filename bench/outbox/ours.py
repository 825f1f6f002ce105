"""Our side: `bus.unit_of_work(session)` in the application, which publishes what it has committed.

The events stay in the log, where whoever joins late may have them.
"""

import json
import os
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from bench import side
from bench.outbox import shop
from bus import Bus, Event, Settings


class OrderPlaced(Event):
    order_id: str
    customer: str
    note: str


def note_confirms(bus: Bus) -> dict[str, float]:
    """When RabbitMQ has confirmed the event of each id, which is filled from now on."""
    transport: Any = bus.runtime.transport
    publish, seen = transport.publish, dict[str, float]()

    async def noted(frames: Sequence[Any], **options: Any) -> Any:
        failures = await publish(frames, **options)
        now = time.monotonic()
        for frame in frames:
            if frame.id not in failures:
                seen[json.loads(frame.body)["order_id"]] = now
        return failures

    transport.publish = noted
    return seen


async def measure(arguments: side.Arguments) -> side.Metrics:
    service = arguments["service"]
    settings = Settings(mongo_url="", log_url=os.environ["BENCH_POSTGRESQL_URL"])
    async with Bus(service, settings=settings) as bus:
        seen = note_confirms(bus)

        async def publish(session: AsyncSession, ids: list[str]) -> None:
            async with bus.unit_of_work(session) as work:
                for id in ids:
                    work.publish(OrderPlaced(**shop.data_of(id)))

        own = shop.engine()
        await shop.make_tables(own)
        queue = await shop.declare(service)
        found = await shop.measure(arguments, own, publish, lambda: seen, queue)
        await own.dispose()
    return found


if __name__ == "__main__":
    side.run(measure)
