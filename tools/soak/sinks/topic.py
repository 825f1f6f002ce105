"""The topic of all events in Kafka. Read as any consumer would."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tools.faults.proxy import Proxy
from tools.services.errors import CommandFailed
from tools.services.jars.kafka import KafkaNode
from tools.soak.sinks.fold import Place
from tools.soak.sinks.plan import KAFKA, TOPIC
from tools.soak.sinks.projections import PARTITIONS, declared
from tools.soak.sinks.store import Store

# Else whoever asks for a topic that was wiped would have it made, of one partition.
SETTINGS = {"auto.create.topics.enable": "false"}
IN_STEP = "min.insync.replicas"


class TopicStore(Store):
    """A broker of its own."""

    node: KafkaNode
    emptied = False
    """Whether it was, in this run."""

    def __init__(self, folder: Path) -> None:
        self.name = KAFKA
        self.node = KafkaNode(folder, settings=SETTINGS)
        self.wire = Proxy(self.node.url)
        self.node.advertised = self.wire.port

    def start(self) -> None:
        self.node.start()

    def wipe(self) -> None:
        self.emptied = True
        self.node.wipe()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """As a broker that is left alone where two have to hold each record."""
        self._require(2)
        try:
            yield
        finally:
            self._require(1)

    def has(self, jobs: Collection[str]) -> set[str]:
        """Whoever is fed from it tells better (`scene.fed`)."""
        return set(jobs)

    def records(self) -> list[tuple[Place, str]]:
        """The place of each record and the id of its event, partition by partition."""
        return asyncio.run(_records(self._bootstrap))

    def _require(self, replicas: int) -> None:
        asyncio.run(_administered(self._bootstrap, lambda admin: _set(admin, IN_STEP, replicas)))

    @property
    def _bootstrap(self) -> str:
        return self.wire.url.removeprefix("kafka://")


async def _records(bootstrap: str) -> list[tuple[Place, str]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        parts = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
        ends = await consumer.end_offsets(parts)
        return [one for part in parts for one in await _read(consumer, part, ends[part])]
    finally:
        await consumer.stop()


async def _read(
    consumer: AIOKafkaConsumer, part: TopicPartition, end: int
) -> list[tuple[Place, str]]:
    consumer.assign([part])
    await consumer.seek_to_beginning(part)
    found: list[tuple[Place, str]] = []
    while await consumer.position(part) < end:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            found += map(_place, records)
    return found


def _place(record: Any) -> tuple[Place, str]:
    headers = {name: value.decode() for name, value in record.headers}
    return (headers["stream"], int(headers["version"])), headers["id"]


async def _administered(
    bootstrap: str, action: Callable[[AIOKafkaAdminClient], Awaitable[object]]
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        await action(admin)
    finally:
        await admin.close()


async def _set(admin: AIOKafkaAdminClient, setting: str, value: int) -> None:
    settings = {**declared("kafka://anywhere:9092").settings, setting: str(value)}
    wanted = ConfigResource(ConfigResourceType.TOPIC, TOPIC, configs=settings)
    for response in await admin.alter_configs([wanted]):
        for code, *words in response.resources:
            if code:
                raise CommandFailed(f"Kafka does not set {setting}: {words}")
