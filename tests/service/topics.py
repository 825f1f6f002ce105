"""What a reader finds in a topic of Kafka's."""

import asyncio
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from bus.kafka.topics import administering, partitions_of
from tests.service.sending import Place


async def records_in(url: str, topic: str) -> list[Any]:
    """All records of a topic, partition by partition, each in its order."""
    while True:
        with suppress(TimeoutError, KafkaError):  # of a broker that is only coming back
            async with asyncio.timeout(20):
                return await _records_in(url, topic)


async def _records_in(url: str, topic: str) -> list[Any]:
    async with administering(url, "the test") as admin:
        count = await partitions_of(admin, topic)  # else the consumer would have it made
    consumer = AIOKafkaConsumer(
        bootstrap_servers=url.removeprefix("kafka://"), enable_auto_commit=False
    )
    await consumer.start()
    try:
        parts = [TopicPartition(topic, number) for number in range(count)]
        ends = await consumer.end_offsets(parts) if parts else {}
        found: dict[TopicPartition, list[Any]] = {part: [] for part in parts}
        for part in parts:
            consumer.assign([part])
            await consumer.seek_to_beginning(part)
            while await consumer.position(part) < ends[part]:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found[part] += records
        return [record for part in parts for record in found[part]]
    finally:
        await consumer.stop()


def place(record: Any) -> Place:
    headers = dict(record.headers)
    return headers["stream"].decode(), int(headers["version"])


async def places_in(url: str, topic: str) -> list[Place]:
    return [place(record) for record in await records_in(url, topic)]
