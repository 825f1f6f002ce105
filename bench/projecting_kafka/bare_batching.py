"""The consumer written by hand that makes batches itself, one for each partition."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from bench.projecting_kafka.bare import Record, run
from bench.projecting_kafka.service import TOPIC_PARTITIONS


async def send(producer: AIOKafkaProducer, topic: str, records: Sequence[Record]) -> None:
    batches: dict[int, BatchBuilder] = defaultdict(producer.create_batch)
    for record in records:
        batch = batches[(murmur2(record.key) & 0x7FFFFFFF) % TOPIC_PARTITIONS]
        fits = batch.append(
            timestamp=record.time, key=record.key, value=record.value, headers=record.headers
        )
        assert fits
    sent = [
        await producer.send_batch(batch, topic, partition=number)
        for number, batch in batches.items()
    ]
    await asyncio.gather(*sent)


if __name__ == "__main__":
    run(send)
