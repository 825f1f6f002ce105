"""A consumer written by hand that sends what arrives to a topic, by an idempotent producer.

What has arrived, up to 500, is sent with the headers that readers need, and acknowledged by one
frame once all replicas in step have all of it. Nothing is read as its class, and no versions are
kept: what comes twice is sent twice, what is missing stays missing, and after a failure a later
event may be sent before the one that failed.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import aiormq
from aiokafka import AIOKafkaProducer

from bench import side
from bench.projecting import race
from bench.projecting.backlog import Backlog, fill
from bench.projecting.bare import BATCH, PREFETCH, declare, queue_of
from bench.projecting_kafka.service import address, topic, until_sent
from bus import Bus, Settings

COPIED = ("stream", "version", "schema", "causation_id")


class Record(NamedTuple):
    key: bytes
    value: bytes
    time: int
    headers: list[tuple[str, bytes]]


Send = Callable[[AIOKafkaProducer, str, Sequence[Record]], Awaitable[None]]


def record_of(message: Any) -> Record:
    properties = message.header.properties
    found = {name: properties.headers[name] for name in COPIED}
    found |= {"id": properties.message_id, "name": properties.message_type}
    found |= {"time": properties.timestamp.isoformat(), "service": properties.app_id}
    found["correlation_id"] = properties.correlation_id
    headers = [(name, str(value).encode()) for name, value in found.items()]
    time = round(properties.timestamp.timestamp() * 1000)
    return Record(found["stream"].encode(), message.body, time, headers)


async def work(send: Send, arguments: side.Arguments) -> None:
    connection = await aiormq.connect(os.environ["BUS_AMQP_URL"])
    channel = await connection.channel()
    await channel.basic_qos(prefetch_count=PREFETCH)
    arrived: list[Any] = []
    changed = asyncio.Event()

    async def on_message(message: Any) -> None:
        arrived.append(message)
        changed.set()

    async def forward(producer: AIOKafkaProducer) -> None:
        while True:
            await changed.wait()
            changed.clear()
            while arrived:
                batch = arrived[:BATCH]
                del arrived[:BATCH]
                await send(producer, arguments["service"], list(map(record_of, batch)))
                await channel.basic_ack(batch[-1].delivery_tag, multiple=True, wait=False)

    producer = AIOKafkaProducer(
        bootstrap_servers=address(), acks="all", enable_idempotence=True, max_batch_size=1_000_000
    )
    async with producer:
        stop = await race.ready()
        with race.told():
            await channel.basic_consume(queue_of(arguments, 0), on_message)
            running = asyncio.create_task(forward(producer))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if running.done():
            running.result()
        running.cancel()
    await connection.close()


async def drive(arguments: side.Arguments) -> side.Metrics:
    arguments = {**arguments, "partitions": 1}
    backlog = Backlog(arguments)
    async with Bus(arguments["service"], settings=Settings()) as bus:
        await declare(arguments)
        await fill(bus, backlog)
    async with topic(arguments, makes=True):
        projected = partial(until_sent, arguments, backlog)
        return await race.until_projected(arguments, backlog, projected=projected)


def run(send: Send) -> None:
    """The main function of each script."""
    side.run(drive, worker=partial(work, send))
