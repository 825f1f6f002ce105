"""The producer of a topic: batches for each partition, one after the other, each acknowledged by
all replicas that are in step before the next one leaves.

With several batches of a partition on their way, one could be refused and the next one taken.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from bus.common.tasks import apart, end
from bus.errors import StoreUnavailable
from bus.kafka.failures import SENDS, told
from bus.kafka.records import partition_of, record_of
from bus.kafka.topic import KafkaTopic
from bus.kafka.topics import administering, examined, partitions_of, prepared
from bus.kafka.urls import connection
from bus.observe.health import Examined, Finding
from bus.stores.sinks.sent import Outlet, SentEvent

SEND_WITHIN = 15.0
END_WITHIN = 2.0


class KafkaOutlet(Outlet, Examined):
    """Sends events to one topic, by a producer of its own."""

    def __init__(self, sink: KafkaTopic, service: str) -> None:
        self._sink = sink
        self._service = service
        self._where = sink.where
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    async def open(self, *, makes: bool = True) -> None:
        """Does nothing: a producer is started for the first event that is sent."""

    async def close(self) -> None:
        self._give_up()
        while self._ending:
            await asyncio.wait(self._ending)

    async def prepare(self) -> Sequence[str]:
        return await prepared(self._sink)

    async def examined(self) -> list[Finding]:
        return await examined(self._sink)

    async def send(self, events: Sequence[SentEvent]) -> None:
        parts: dict[int, list[SentEvent]] = defaultdict(list)
        for event in events:
            parts[partition_of(event.stream, self._sink.partitions)].append(event)
        with told(self._where, SENDS):
            async with asyncio.timeout(SEND_WITHIN):
                producer = await self._started()
                try:
                    await self._send_all(producer, parts)
                except BaseException:
                    # What it still holds may arrive late, and is then a repeat. A new one begins
                    # with what was not acknowledged.
                    self._give_up()
                    raise

    async def _send_all(
        self, producer: AIOKafkaProducer, parts: dict[int, list[SentEvent]]
    ) -> None:
        sending = [self._send_part(producer, part, events) for part, events in parts.items()]
        results = await asyncio.gather(*sending, return_exceptions=True)
        for failure in filter(None, results):
            raise failure

    async def _send_part(
        self, producer: AIOKafkaProducer, partition: int, events: Sequence[SentEvent]
    ) -> None:
        batch = producer.create_batch()
        for event in events:
            record = record_of(event, self._service)
            while (
                batch.append(
                    timestamp=record.time,
                    key=record.key,
                    value=record.value,
                    headers=record.headers,
                )
                is None
            ):
                await self._acknowledged(producer, batch, partition)
                batch = producer.create_batch()
        await self._acknowledged(producer, batch, partition)

    async def _acknowledged(
        self, producer: AIOKafkaProducer, batch: object, partition: int
    ) -> None:
        await (await producer.send_batch(batch, self._sink.topic, partition=partition))

    async def _check_topic(self) -> None:
        """Checks that the topic is there: a producer would have a broker make another one."""
        async with administering(self._sink.url, self._where) as admin:
            found = await partitions_of(admin, self._sink.topic)
        if found < self._sink.partitions:
            raise StoreUnavailable(
                f"{self._where}: there is no such topic; a worker makes it"
                if not found
                else f"{self._where}: it has {found} partitions, and {self._sink.partitions} are "
                f"declared; declare partitions={found}, or another topic"
            )

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                await self._check_topic()
                producer = AIOKafkaProducer(
                    **connection(self._sink.url, self._where),
                    acks="all",
                    enable_idempotence=True,
                    max_batch_size=self._sink.max_bytes,
                    max_request_size=self._sink.max_bytes,
                )
                try:
                    await producer.start()
                except BaseException:
                    self._end(producer)
                    raise
                self._producer = producer
            return self._producer

    def _give_up(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self._end(producer)

    def _end(self, producer: AIOKafkaProducer) -> None:
        task = apart(_ended(producer))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _ended(producer: AIOKafkaProducer) -> None:
    """Stops a producer. If its brokers are away, it would wait for them for ever, to send what it
    holds: after a moment all of that fails, and its connections are closed. A request that was on
    its way to a broker that stood still may never end by itself: it is cancelled."""
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait({stopping}, timeout=END_WITHIN)
    if not stopping.done():
        _fail_all(producer._message_accumulator)
        with suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(END_WITHIN):
                await producer.client.close()
        await asyncio.wait({stopping}, timeout=END_WITHIN)
    await end([stopping])
    with suppress(Exception, asyncio.CancelledError):
        stopping.result()  # nobody else asks for it


def _fail_all(accumulator: Any) -> None:
    held = [batch for batches in accumulator._batches.values() for batch in batches]
    held += accumulator._pending_batches
    accumulator.fail_all(ProducerClosed())
    for batch in held:
        for future in (batch.future, batch._drain_waiter):
            if future.done() and not future.cancelled():
                future.exception()  # nobody else asks for it
