"""The service whose events are sent, and the topic that they are sent to."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench import side
from bench.projecting.backlog import Backlog
from bench.projecting.race import WITHIN
from bench.projecting.service import Account
from bench.side import Arguments
from bus import Bus, Projection, Settings
from bus.kafka import KafkaTopic

TOPIC_PARTITIONS = 6


def address() -> str:
    return os.environ["BENCH_KAFKA_URL"].removeprefix("kafka://")


def build(arguments: Arguments) -> Bus:
    """As `bench/projecting` has it, with a topic as its only projection."""
    topic, url = arguments["service"], os.environ["BENCH_KAFKA_URL"]
    sink = KafkaTopic(topic, url=url, partitions=TOPIC_PARTITIONS)
    sent: Projection[Any] = Projection("sent", of=[Account], sink=sink)
    return Bus(arguments["service"], projections=[sent], settings=Settings())


@asynccontextmanager
async def topic(arguments: Arguments, *, makes: bool) -> AsyncIterator[None]:
    """Makes the topic, unless our workers do, and removes it in the end."""
    name = arguments["service"]
    admin = AIOKafkaAdminClient(bootstrap_servers=address())
    await admin.start()
    try:
        if makes:
            await admin.create_topics([NewTopic(name, TOPIC_PARTITIONS, 1)])
        yield
        await admin.delete_topics([name])
    finally:
        await admin.close()


async def until_sent(arguments: Arguments, backlog: Backlog) -> None:
    """Waits until the topic has as many records as the backlog has events."""
    name = arguments["service"]
    parts = [TopicPartition(name, number) for number in range(TOPIC_PARTITIONS)]
    async with AIOKafkaConsumer(bootstrap_servers=address()) as consumer:

        async def all_are() -> bool:
            ends = await consumer.end_offsets(parts)
            return bool(sum(ends.values()) >= backlog.count)

        await side.until(all_are, "events are missing in the topic", WITHIN)
