"""A pipeline written by hand over the drivers, with batches like ours and none of our guarantees.

Group commit into MongoDB (majority, journaled), the events of a group published in one write with
confirms, a consumer that upserts what has arrived in one bulk write and acknowledges it at once.
No envelope, no validation, no outbox, no versions: a crash loses or repeats.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from typing import Any

import aiormq
from aiormq.abc import AbstractChannel, ChannelFrame
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pymongo import AsyncMongoClient, UpdateOne, WriteConcern

from bench import side
from bench.visible import all_visible

AMQP_URL, MONGO_URL = os.environ["BUS_AMQP_URL"], os.environ["BUS_MONGO_URL"]
NOTE = "x" * 400
DURABLE = WriteConcern(w="majority", j=True)

Event = dict[str, Any]


class Log:
    """Appends that come together share one insert, and are published together after it."""

    def __init__(self, events: Any, publisher: "Publisher") -> None:
        self._events = events
        self._publisher = publisher
        self._arrived: list[tuple[Event, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def append(self, event: Event) -> None:
        stored = asyncio.get_running_loop().create_future()
        self._arrived.append((event, stored))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await stored

    async def _write(self) -> None:
        while self._arrived:
            group, self._arrived = self._arrived[:500], self._arrived[500:]
            events = [event for event, _ in group]
            await self._events.insert_many(events, ordered=False)
            for _, stored in group:
                stored.set_result(None)
            self._publisher.publish(events)
        self._writing = None


class Publisher:
    """Publishes with confirms, the events of one group in one write."""

    def __init__(self, channel: AbstractChannel, exchange: str) -> None:
        self._channel: Any = channel
        self._exchange = exchange
        self._unconfirmed: set[asyncio.Future[Any]] = set()

    def publish(self, events: Sequence[Event]) -> None:
        frames: list[Any] = []
        for event in events:
            body = json.dumps(event["data"]).encode()
            properties = spec.Basic.Properties(
                content_type="application/json", delivery_mode=2, message_id=str(event["_id"])
            )
            frames += (
                spec.Basic.Publish(exchange=self._exchange, routing_key="account.AccountOpened"),
                ContentHeader(properties=properties, body_size=len(body)),
                ContentBody(body),
            )
            self._channel.delivery_tag += 1
            confirmation = asyncio.get_running_loop().create_future()
            self._channel.confirmations[self._channel.delivery_tag] = confirmation
            self._unconfirmed.add(confirmation)
            confirmation.add_done_callback(self._unconfirmed.discard)
        self._channel.write_queue.put_nowait(ChannelFrame.marshall(self._channel.number, frames))

    async def close(self) -> None:
        if self._unconfirmed:
            await asyncio.wait(set(self._unconfirmed))


class Projector:
    """Upserts what has arrived in one bulk write, then acknowledges all of it."""

    def __init__(self, channel: AbstractChannel, views: Any) -> None:
        self._channel = channel
        self._views = views
        self._arrived: list[Any] = []
        self._changed = asyncio.Event()

    async def on_message(self, message: Any) -> None:
        self._arrived.append(message)
        self._changed.set()

    async def run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._arrived:
                batch, self._arrived = self._arrived[:500], self._arrived[500:]
                events = [json.loads(message.body) for message in batch]
                await self._views.bulk_write([_update(event) for event in events], ordered=False)
                last = max(message.delivery.delivery_tag for message in batch)
                await self._channel.basic_ack(last, multiple=True, wait=False)


def _update(event: Event) -> UpdateOne:
    fields = {"owner": event["owner"], "note": event["note"]}
    return UpdateOne({"_id": event["account_id"]}, {"$set": fields}, upsert=True)


async def work(arguments: side.Arguments) -> None:
    service = arguments["service"]
    connection = await aiormq.connect(AMQP_URL)
    channel = await connection.channel()
    await channel.exchange_declare(f"{service}.events", exchange_type="topic", durable=True)
    quorum: Any = {"x-queue-type": "quorum"}
    await channel.queue_declare(f"{service}.views", durable=True, arguments=quorum)
    await channel.queue_bind(f"{service}.views", f"{service}.events", "account.#")
    async with AsyncMongoClient[Event](MONGO_URL) as client:
        views = client.get_database(service, write_concern=DURABLE)["views"]
        projector = Projector(channel, views)
        await channel.basic_qos(prefetch_count=1000)
        await channel.basic_consume(f"{service}.views", projector.on_message)
        running = asyncio.create_task(projector.run())
        await side.ready_until_stopped()
        running.cancel()
    await connection.close()


async def drive(arguments: side.Arguments) -> side.Metrics:
    service, count = arguments["service"], arguments["count"]
    connection = await aiormq.connect(AMQP_URL)
    channel = await connection.channel()
    async with AsyncMongoClient[Event](MONGO_URL) as client:
        events = client.get_database(service, write_concern=DURABLE)["events"]
        await events.create_index([("stream", 1), ("version", 1)], unique=True)
        publisher = Publisher(channel, f"{service}.events")
        log = Log(events, publisher)

        async def execute(number: int) -> None:
            data = {"account_id": f"a{number}", "owner": "Ada", "note": NOTE}
            await log.append({"stream": f"account-a{number}", "version": 1, "data": data})

        with side.worker(arguments):
            seconds = await side.concurrently(count, arguments["concurrent"], execute)
            seconds += await all_visible(MONGO_URL, service, count)
        await publisher.close()
    await connection.close()
    return {"per_second": count / seconds}


if __name__ == "__main__":
    side.run(drive, worker=work)
