"""A worker of the service that is fed, until it is killed. Arguments: service, owner, URL."""

import asyncio
import sys

from bus import Settings, Worker
from bus.kafka import KafkaFeed
from tests.service.feeding import reports


async def main() -> None:
    service, owner, url = sys.argv[1:]
    feed = KafkaFeed(owner, topic=owner, url=url)
    async with reports(Settings(), service, feed) as bus, Worker(bus):
        print("ready", flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
