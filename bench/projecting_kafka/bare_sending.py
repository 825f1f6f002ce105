"""The consumer written by hand that hands its producer one record after the other, as most do."""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from bench.projecting_kafka.bare import Record, run


async def send(producer: AIOKafkaProducer, topic: str, records: Sequence[Record]) -> None:
    sent = [
        await producer.send(
            topic,
            record.value,
            key=record.key,
            timestamp_ms=record.time,
            headers=record.headers,
        )
        for record in records
    ]
    await asyncio.gather(*sent)


if __name__ == "__main__":
    run(send)
