"""A consumer written by hand over the drivers: decodes (pydantic), upserts, acknowledges.

What has arrived is upserted by one unordered bulk write of up to 500 (majority, journaled) and
acknowledged by one frame. No versions and no transaction: what comes twice is counted twice, what
comes late overwrites what is newer, what is missing stays missing, a message that cannot be read
ends it.
"""

import asyncio
import os
from functools import partial
from typing import Any

import aiormq
from aiormq.abc import AbstractChannel
from pydantic import BaseModel
from pymongo import AsyncMongoClient, UpdateOne, WriteConcern

from bench import side
from bench.projecting import race
from bench.projecting.backlog import Backlog, fill
from bus import Bus, Settings

DURABLE = WriteConcern(w="majority", j=True)
PREFETCH, BATCH = 2000, 500
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


class Projector:
    def __init__(self, channel: AbstractChannel, views: Any, kind: str) -> None:
        self._channel = channel
        self._views = views
        self._update = update_by_account if kind == "documents" else update_by_owner
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
                batch, self._arrived = self._arrived[:BATCH], self._arrived[BATCH:]
                events = [Deposited.model_validate_json(message.body) for message in batch]
                await self._views.bulk_write(list(map(self._update, events)), ordered=False)
                await self._channel.basic_ack(batch[-1].delivery_tag, multiple=True, wait=False)


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


async def work(arguments: side.Arguments) -> None:
    connection = await aiormq.connect(os.environ["BUS_AMQP_URL"])
    channel = await connection.channel()
    await channel.basic_qos(prefetch_count=PREFETCH)
    async with AsyncMongoClient[Any](os.environ["BUS_MONGO_URL"]) as client:
        await client.admin.command("ping")
        views = client.get_database(arguments["service"], write_concern=DURABLE)["views"]
        projector = Projector(channel, views, arguments["kind"])
        stop = await race.ready()
        with race.told():
            queue = queue_of(arguments, arguments["partition"])
            await channel.basic_consume(queue, projector.on_message)
            running = asyncio.create_task(projector.run())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if running.done():
            running.result()
        running.cancel()
    await connection.close()


async def drive(arguments: side.Arguments, partitions: int = 1) -> side.Metrics:
    arguments = {**arguments, "partitions": partitions}
    backlog = Backlog(arguments)
    async with Bus(arguments["service"], settings=Settings()) as bus:
        await declare(arguments)
        await fill(bus, backlog)
    return await race.until_projected(arguments, backlog)


drive_two = partial(drive, partitions=2)

if __name__ == "__main__":
    side.run(drive, worker=work)
