"""A process that kills itself as it sends events. Arguments: when, service, topic, Kafka's URL."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from bus import Settings, Worker
from bus.kafka import KafkaTopic
from bus.kafka.outlet import KafkaOutlet
from bus.stores.sinks.sent import SentEvent
from tests.service.sending import Pay, bank

WHEN, SERVICE, TOPIC, URL = sys.argv[1:]
SECOND = 2


class MortalOutlet(KafkaOutlet):
    """Ends with its process, before or after the second batch is acknowledged."""

    sends = 0

    async def send(self, events: Sequence[SentEvent]) -> None:
        self.sends += 1
        if (WHEN, self.sends) == ("before", SECOND):
            os.kill(os.getpid(), signal.SIGKILL)
        await super().send(events)
        if (WHEN, self.sends) == ("after", SECOND):
            os.kill(os.getpid(), signal.SIGKILL)


class MortalTopic(KafkaTopic):
    def outlet(self, service: str) -> KafkaOutlet:
        return MortalOutlet(self, service)


async def main() -> None:
    sink = MortalTopic(TOPIC, url=URL, partitions=2)
    async with bank(Settings(), SERVICE, sink) as bus, Worker(bus):
        for amount in range(1000):
            await bus.execute(Pay(account_id=f"a{amount % 5}", amount=amount))


asyncio.run(main())
