"""A consumer written by hand over the drivers: decodes (pydantic), upserts, acknowledges.

What has arrived is upserted by one unordered bulk write of up to 1000 (majority, journaled) and
acknowledged by one frame. No versions and no transaction: what comes twice is counted twice, what
comes late overwrites what is newer, what is missing stays missing, a message that cannot be read
ends it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiormq
from pydantic import BaseModel
from pymongo import AsyncMongoClient, UpdateOne, WriteConcern

from bench import side
from bench.projecting import race
from bench.projecting.backlog import Backlog, fill
from bus import Bus, Settings

DURABLE = WriteConcern(w="majority", j=True)
PREFETCH, BATCH = 2000, 1000
SLOTS = 64


class Deposited(BaseModel):
    account_id: str
    owner: str
    number: int
    note: str


def update_by_account(event: Deposited) -> UpdateOne:
    fields = {"events": event.number, "owner": event.owner, "note": event.note}
    return UpdateOne({"_id": event.account_id}, {"$set": fields}, upsert=True)


def update_by_owner(event: Deposited) -> UpdateOne:
    update = {"$inc": {"events": 1}, "$set": {"note": event.note}}
    return UpdateOne({"_id": event.owner}, update, upsert=True)


Projected = Callable[[side.Arguments, Backlog], Awaitable[None]]
"""Returns once a backlog is projected."""
Store = Callable[[list[Deposited]], Awaitable[object]]
"""Stores what a batch of events changes."""
Handle = Callable[[list[Any]], Awaitable[object]]
"""Does what is to be done with a batch of messages, before they are acknowledged."""


def queue_of(arguments: side.Arguments, partition: int) -> str:
    return f"{arguments['service']}.bare.{partition}"


async def declare(arguments: side.Arguments) -> None:
    partitions = arguments["partitions"]
    connection = await aiormq.connect(os.environ["BUS_AMQP_URL"])
    channel = await connection.channel()
    quorum: Any = {"x-queue-type": "quorum"}
    for partition in range(partitions):
        queue = queue_of(arguments, partition)
        await channel.queue_declare(queue, durable=True, arguments=quorum)
        for slot in range(partition, SLOTS, partitions):
            exchange = f"{arguments['service']}.events"
            await channel.queue_bind(queue, exchange, f"account.*.{slot}")
    await connection.close()


async def consume(arguments: side.Arguments, store: Store) -> None:
    """Stores what has arrived, up to 1000 events at a time, until it is stopped."""

    async def handle(messages: list[Any]) -> None:
        await store([Deposited.model_validate_json(message.body) for message in messages])

    await consume_messages(arguments, handle)


async def consume_messages(arguments: side.Arguments, handle: Handle) -> None:
    """Handles what has arrived, up to 1000 messages at a time, until it is stopped."""
    connection = await aiormq.connect(os.environ["BUS_AMQP_URL"])
    channel = await connection.channel()
    await channel.basic_qos(prefetch_count=PREFETCH)
    arrived: list[Any] = []
    changed = asyncio.Event()

    async def on_message(message: Any) -> None:
        arrived.append(message)
        changed.set()

    async def project() -> None:
        while True:
            await changed.wait()
            changed.clear()
            while arrived:
                batch = arrived[:BATCH]
                del arrived[:BATCH]
                await handle(batch)
                await channel.basic_ack(batch[-1].delivery_tag, multiple=True, wait=False)

    stop = await race.ready()
    with race.told():
        await channel.basic_consume(queue_of(arguments, arguments["partition"]), on_message)
        running = asyncio.create_task(project())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if running.done():
        running.result()
    running.cancel()
    await connection.close()


async def work(arguments: side.Arguments) -> None:
    update = update_by_account if arguments["kind"] == "documents" else update_by_owner
    async with AsyncMongoClient[Any](os.environ["BUS_MONGO_URL"]) as client:
        await client.admin.command("ping")
        views = client.get_database(arguments["service"], write_concern=DURABLE)["views"]

        async def store(events: list[Deposited]) -> None:
            await views.bulk_write(list(map(update, events)), ordered=False)

        await consume(arguments, store)


async def drive(
    arguments: side.Arguments, partitions: int = 1, projected: Projected | None = None
) -> side.Metrics:
    arguments = {**arguments, "partitions": partitions}
    backlog = Backlog(arguments)
    async with Bus(arguments["service"], settings=Settings()) as bus:
        await declare(arguments)
        await fill(bus, backlog)
    done = partial(projected, arguments, backlog) if projected else None
    return await race.until_projected(arguments, backlog, projected=done)


drive_two = partial(drive, partitions=2)

if __name__ == "__main__":
    side.run(drive, worker=work)
