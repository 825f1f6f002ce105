"""The consumer of a topic, in a group of this service's processes: Kafka divides the partitions,
and gives those of a process that is gone to others."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from bus.common.tasks import apart, end
from bus.errors import InvalidMessage, StoreUnavailable
from bus.kafka.failures import IS_FED, told
from bus.kafka.feed import KafkaFeed
from bus.kafka.records import Fetched, frame_of, place_of, unreadable
from bus.kafka.topics import administering, partitions_of
from bus.kafka.urls import connection
from bus.transports.feed import Fed, FeedReader

TAKE_WITHIN_MS = 1000
ASK_WITHIN = 15.0
END_WITHIN = 5.0
LOOK_EVERY = 30.0

TAKEN_OVER = (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
"""What settling says if another process has the partition by now."""


class KafkaReader(FeedReader):
    """Reads one topic, by a consumer of its own."""

    def __init__(self, feed: KafkaFeed, owner: str, group: str) -> None:
        self._feed = feed
        self._owner = owner
        self._consumer = AIOKafkaConsumer(
            feed.topic,
            **connection(feed.url, feed.where),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        self._parts: list[TopicPartition] = []
        self._look_at = 0.0

    async def open(self) -> None:
        with told(self._feed.where, IS_FED):
            async with (
                asyncio.timeout(ASK_WITHIN),
                administering(self._feed.url, self._feed.where) as admin,
            ):
                count = await partitions_of(admin, self._feed.topic)
            if not count:  # else the consumer would have a broker make it, of one partition
                raise StoreUnavailable(
                    f"{self._feed.where}: there is no such topic yet; a worker of service "
                    f"{self._owner!r} makes it"
                )
            self._parts = [TopicPartition(self._feed.topic, number) for number in range(count)]
            async with asyncio.timeout(ASK_WITHIN):
                await self._consumer.start()
        await self._look()

    async def take(self, limit: int) -> list[Fed]:
        with told(self._feed.where, IS_FED):
            found = await self._consumer.getmany(timeout_ms=TAKE_WITHIN_MS, max_records=limit)
        await self._look()
        return [self._fed(record) for records in found.values() for record in records]

    async def settle(self, taken: Sequence[Fed]) -> None:
        last = {part: offset + 1 for part, offset in (fed.token for fed in taken)}
        with told(self._feed.where, IS_FED), suppress(*TAKEN_OVER):
            await self._consumer.commit(last)

    async def ends(self) -> dict[str, int]:
        with told(self._feed.where, IS_FED):
            found = await self._consumer.end_offsets(self._parts)
        return {str(part.partition): offset for part, offset in found.items()}

    async def has_reached(self, ends: Mapping[str, int]) -> bool:
        with told(self._feed.where, IS_FED):
            begun = await self._consumer.beginning_offsets(self._parts)
            for part in self._parts:
                settled = await self._consumer.committed(part) or 0
                if max(settled, begun[part]) < ends.get(str(part.partition), 0):
                    return False
        return True

    async def close(self) -> None:
        stopping: asyncio.Task[Any] = apart(self._consumer.stop())
        await asyncio.wait({stopping}, timeout=END_WITHIN)
        await end([stopping])
        with suppress(Exception):
            await self._consumer._client.close()

    async def _look(self) -> None:
        """Learns where the topic begins, now and then."""
        if time.monotonic() < self._look_at:
            return
        with told(self._feed.where, IS_FED):
            begun = await self._consumer.beginning_offsets(self._parts)
        self._feed.beginnings |= {part.partition: offset for part, offset in begun.items()}
        self._look_at = time.monotonic() + LOOK_EVERY

    def _fed(self, record: Fetched) -> Fed:
        place = place_of(record)
        token = TopicPartition(record.topic, record.partition), record.offset
        try:
            return Fed(frame_of(record, self._owner), place, token)
        except InvalidMessage as error:
            return Fed(unreadable(record), place, token, error)
