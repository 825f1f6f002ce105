"""A process that kills itself as it sends events. Arguments: when, service, topic, Kafka's URL."""

import asyncio
import sys

import pytest

from bus import Settings, Worker
from bus.kafka import KafkaTopic
from bus.kafka.outlet import KafkaOutlet
from bus.stores.sinks.sent import SentPlace
from tests.killing import lethal
from tests.service.sending import Pay, bank

WHEN, SERVICE, TOPIC, URL = sys.argv[1:]
SECOND = 2


async def main() -> None:
    patch = pytest.MonkeyPatch()
    send, note = KafkaOutlet.send, SentPlace._advance
    patch.setattr(KafkaOutlet, "send", lethal(send, "sending", when=WHEN, time=SECOND))
    patch.setattr(SentPlace, "_advance", lethal(note, "noting", when=WHEN, time=SECOND))
    sink = KafkaTopic(TOPIC, url=URL, partitions=2)
    async with bank(Settings(), SERVICE, sink) as bus, Worker(bus):
        for amount in range(1000):
            await bus.execute(Pay(account_id=f"a{amount % 5}", amount=amount))


asyncio.run(main())
