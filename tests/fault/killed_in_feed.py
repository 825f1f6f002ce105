"""A worker of the service that is fed, which kills itself at a step. Arguments: when, service,
owner, Kafka's URL."""

import asyncio
import sys

import pytest

from bus import Settings, Worker
from bus.delivery.foreign_events import ForeignEvents
from bus.following.feeding import Feeding
from bus.kafka import KafkaFeed
from bus.kafka.reader import KafkaReader
from tests.killing import lethal
from tests.service.feeding import reports

WHEN, SERVICE, OWNER, URL = sys.argv[1:]
STEPS = (
    (Feeding, "_publish", "the publishing"),
    (ForeignEvents, "keep", "the keeping"),
    (KafkaReader, "settle", "the settling"),
)


async def main() -> None:
    patch = pytest.MonkeyPatch()
    for of, name, what in STEPS:
        patch.setattr(of, name, lethal(getattr(of, name), what, when=WHEN, time=1))
    feed = KafkaFeed(OWNER, topic=OWNER, url=URL)
    async with reports(Settings(), SERVICE, feed) as bus, Worker(bus):
        await asyncio.Event().wait()


asyncio.run(main())
