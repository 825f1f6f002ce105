"""The application that both sides are added to: it stores orders, in sessions of its own.

Runs in the peers' environment too: SQLAlchemy, aio-pika and no bus.
"""

import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aio_pika
from sqlalchemy import String
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench import side
from bench.latency.arrivals import WARM_UP, at_rate
from bench.queues import AMQP_URL, NOTE, expect

POOL = 32
WITHIN = 90.0

Publish = Callable[[AsyncSession, list[str]], Awaitable[object]]
"""Publishes an event for each of these ids, in the session's transaction."""
Confirmed = Callable[[], Mapping[str, float]]
"""When RabbitMQ has confirmed the event of each id, so far."""


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[str] = mapped_column(String(50), primary_key=True)
    customer: Mapped[str]


def engine() -> AsyncEngine:
    return create_async_engine(os.environ["BENCH_POSTGRESQL_URL"], pool_size=POOL)


async def make_tables(own: AsyncEngine, metadata: Any = Base.metadata) -> None:
    async with own.begin() as connection:
        await connection.run_sync(metadata.create_all)


def data_of(id: str) -> dict[str, str]:
    """An event of about 500 bytes."""
    return {"order_id": id, "customer": "Ada", "note": NOTE}


async def declare(service: str) -> str:
    """Declares the exchange, and a quorum queue that takes all; returns the queue's name."""
    async with await aio_pika.connect(AMQP_URL) as connection:
        channel = await connection.channel()
        topic = aio_pika.ExchangeType.TOPIC
        exchange = await channel.declare_exchange(f"{service}.events", topic, durable=True)
        queue = await channel.declare_queue(
            f"{service}.all", durable=True, arguments={"x-queue-type": "quorum"}
        )
        await queue.bind(exchange, "#")
        return queue.name


async def measure(
    arguments: side.Arguments,
    own: AsyncEngine,
    publish: Publish,
    confirmed: Confirmed,
    queue: str = "",
) -> side.Metrics:
    """Places orders, as many at a time or as often as is asked for, and waits for the confirms; the
    queue holds all events in the end."""
    sessions = async_sessionmaker(own, expire_on_commit=False)
    committing: dict[str, float] = {}

    async def place(order: str, events: list[str]) -> None:
        async with sessions() as session:
            session.add(Order(id=order, customer="Ada"))
            await publish(session, events)
            now = time.monotonic()
            committing.update(dict.fromkeys(events, now))
            await session.commit()

    async def all_confirmed() -> bool:
        return len(confirmed()) >= len(committing)

    if "rate" in arguments:
        rate = arguments["rate"]
        count = int(rate * (arguments["seconds"] + WARM_UP))
        await at_rate(rate, count, lambda key: place(key, [key]))
        await side.until(all_confirmed, "not all is confirmed", WITHIN)
        await expect(queue, count)
        times = confirmed()
        late = [f"a{number}" for number in range(int(rate * WARM_UP), count)]
        took = sorted((times[id] - committing[id]) * 1000 for id in late)
        return {
            "count": count,
            "median_ms": statistics.median(took),
            "p99_ms": took[int(len(took) * 0.99)],
        }

    each, concurrent = arguments["of"], arguments["concurrent"]

    async def batch(number: int) -> None:
        await place(f"o{number}", [f"e{number}-{n}" for n in range(each)])

    warm_up = max(2 * concurrent // each, 4)
    await side.concurrently(warm_up, concurrent, lambda number: batch(-1 - number))
    await side.until(all_confirmed, "the first are not confirmed", WITHIN)
    count, start = arguments["count"] // each, time.monotonic()
    await side.concurrently(count, concurrent, batch)
    await side.until(all_confirmed, "not all is confirmed", WITHIN)
    seconds = max(confirmed().values()) - start
    if queue:
        await expect(queue, len(committing))
    return {"count": count * each, "per_second": count * each / seconds}
