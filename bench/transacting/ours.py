"""Our side: `execute` of a command whose handler takes a session and publishes an event.

The broker is one in memory that takes what is published: the peers publish nothing.
"""

import os
from typing import Any

from bench import side
from bench.clock import Clock
from bench.queues import data_of
from bench.transacting.stock import WARM_UP, article_of, checked
from bus import Bus, Command, Event, Outbox, Router, Session, Settings
from bus.stores.mongo import close, connect


class CountOne(Command):
    number: int


class Counted(Event):
    account_id: str
    owner: str
    note: str


router = Router("stock")


@router.command
async def count_one(command: CountOne, session: Session, outbox: Outbox) -> None:
    stock, key = session.documents("stock"), article_of(command.number)
    found = await stock.find_one({"_id": key})
    left = (found["left"] if found else 0) + 1
    await stock.update(key, {"$set": {"left": left}})
    outbox.publish(Counted(**data_of(command.number)))


async def measure(arguments: side.Arguments) -> side.Metrics:
    service, count, concurrent = (arguments[key] for key in ("service", "count", "concurrent"))
    url = os.environ["BUS_MONGO_URL"]
    settings = Settings(amqp_url="memory://", mongo_url=url, mongo_db=service)
    async with Bus(service, routers=[router], settings=settings) as bus:

        async def execute(number: int) -> None:
            await bus.execute(CountOne(number=number))

        await side.concurrently(WARM_UP, concurrent, lambda number: execute(-1 - number))
        with Clock() as clock:
            await side.concurrently(count, concurrent, execute)
    client: Any = connect(url)
    await checked(client[service]["stock"], client[service]["commits"], count + WARM_UP)
    await close(client)
    return clock.metrics(count)


if __name__ == "__main__":
    side.run(measure)
