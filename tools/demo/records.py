"""The events of jobs in a topic of Kafka's, under a name of the demo's own."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tools.demo.fold import RECORDS, Collections, Document
from tools.demo.store import EVENTS, Store

WITHIN = 20.0
"""Seconds for what a broker is asked."""

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what is away is told by what is missing


class Records(Store):
    """What a reader that follows versions takes: of each stream's versions the first record.

    Each says which version of its stream came before. One that comes again must be the same.
    """

    def __init__(self, url: str, service: str) -> None:
        self._url = url
        self._topic = f"{service}-job-events"
        self._read: dict[TopicPartition, int] = {}
        self._reached: dict[str, int] = {}
        self.found: dict[str, Document] = {}
        self.repeated = 0

    @property
    def environment(self) -> dict[str, str]:
        return {EVENTS: self._url}

    def make(self) -> None:
        """Workers make the topic."""

    def drop(self) -> None:
        asyncio.run(self._drop())

    def read(self) -> Collections:
        """Reads on from where it was, as a consumer does."""
        with suppress(KafkaError, TimeoutError, OSError):
            asyncio.run(self._read_on())
        return {RECORDS: self.found}

    @property
    def _servers(self) -> str:
        return self._url.partition("//")[2].rstrip("/")

    async def _drop(self) -> None:
        async with self._administering() as admin:
            await admin.delete_topics([self._topic])

    async def _read_on(self) -> None:
        async with self._administering() as admin:
            topics = await admin.describe_topics([self._topic])
        parts = [TopicPartition(self._topic, one["partition"]) for one in topics[0]["partitions"]]
        if parts:
            async with asyncio.timeout(WITHIN):
                await self._read_parts(parts)

    async def _read_parts(self, parts: list[TopicPartition]) -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._servers, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign(parts)
            ends = await consumer.end_offsets(parts)
            for part in parts:
                consumer.seek(part, self._read.get(part, 0))
            while any(self._read.get(part, 0) < end for part, end in ends.items()):
                for part, records in (await consumer.getmany(timeout_ms=200)).items():
                    for record in records:
                        self.take(record)
                    self._read[part] = records[-1].offset + 1
        finally:
            await consumer.stop()

    def take(self, record: Any) -> None:
        """Notes a record, after all that were before it in its partition."""
        headers = {name: value.decode() for name, value in record.headers}
        stream, version = headers["stream"], int(headers["version"])
        told = {
            "id": headers["id"],
            "name": headers["name"],
            "time": datetime.fromisoformat(headers["time"]),
            "data": json.loads(record.value),
        }
        first = self.found.get(key := f"{stream} {version}")
        if first is None:
            self.found[key] = told | {"after": self._reached.get(stream, 0)}
            self._reached[stream] = version
            return
        self.repeated += 1
        if told != {name: first[name] for name in told}:
            first["repeated_as"] = told

    @asynccontextmanager
    async def _administering(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        try:
            async with asyncio.timeout(WITHIN):
                await admin.start()
            yield admin
        finally:
            await admin.close()
