"""A consumer written by hand that sends what arrives to a topic, by an idempotent producer.

What has arrived, up to 1000, is sent with the headers that readers need, and acknowledged by one
frame once all replicas in step have all of it. Nothing is read as its class, and no versions are
kept: what comes twice is sent twice, what is missing stays missing, and after a failure a later
event may be sent before the one that failed.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer

from bench import side
from bench.projecting import bare
from bench.projecting_kafka.service import address, topic, until_sent

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
    producer = AIOKafkaProducer(
        bootstrap_servers=address(), acks="all", enable_idempotence=True, max_batch_size=1_000_000
    )

    async def forward(messages: list[Any]) -> None:
        await send(producer, arguments["service"], list(map(record_of, messages)))

    async with producer:
        await bare.consume_messages(arguments, forward)


async def drive(arguments: side.Arguments) -> side.Metrics:
    async with topic(arguments, makes=True):
        return await bare.drive(arguments, projected=until_sent)


def run(send: Send) -> None:
    """The main function of each script."""
    side.run(drive, worker=partial(work, send))
