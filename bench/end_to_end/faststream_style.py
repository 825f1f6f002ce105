"""The peer: FastStream with MongoDB in its documented style, message by message.

A command inserts the event (majority, journaled) and publishes it; a subscriber upserts the read
document. There is no outbox, no deduplication and no order of a stream here: less is promised.
"""

import asyncio
import os
import signal
import sys
import time
from typing import Any

from faststream import AckPolicy
from faststream.rabbit import (
    Channel,
    ExchangeType,
    QueueType,
    RabbitBroker,
    RabbitExchange,
    RabbitQueue,
)
from pydantic import BaseModel
from pymongo import AsyncMongoClient, WriteConcern


class AccountOpened(BaseModel):
    account_id: str
    owner: str
    note: str


service = sys.argv[2]
broker = RabbitBroker(
    os.environ["BUS_AMQP_URL"], default_channel=Channel(prefetch_count=1000), logger=None
)
exchange = RabbitExchange(f"{service}.events", type=ExchangeType.TOPIC, durable=True)
queue = RabbitQueue(
    f"{service}.views", queue_type=QueueType.QUORUM, durable=True, routing_key="account.#"
)
client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(os.environ["BUS_MONGO_URL"])
database = client.get_database(service, write_concern=WriteConcern(w="majority", j=True))


async def on_account_opened(event: AccountOpened) -> None:
    await database.views.update_one(
        {"_id": event.account_id},
        {"$set": {"owner": event.owner, "note": event.note}},
        upsert=True,
    )


async def open_account(account_id: str, owner: str, note: str) -> None:
    event = AccountOpened(account_id=account_id, owner=owner, note=note)
    await database.events.insert_one(
        {"stream": f"account-{account_id}", "version": 1, "data": event.model_dump()}
    )
    topic = "account.AccountOpened"
    await broker.publish(event, exchange=exchange, routing_key=topic, persist=True)


async def drive(count: int, concurrent: int) -> None:
    numbers = iter(range(count))

    async def one_client() -> None:
        for number in numbers:
            await open_account(f"a{number}", "Ada", "x" * 400)

    await database.events.create_index([("stream", 1), ("version", 1)], unique=True)
    await broker.connect()
    await broker.declare_exchange(exchange)
    print(time.time(), flush=True)
    await asyncio.gather(*(one_client() for _ in range(concurrent)))
    await broker.stop()
    await client.close()


async def work() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    broker.subscriber(queue, exchange, ack_policy=AckPolicy.NACK_ON_ERROR)(on_account_opened)
    await broker.start()
    print("ready", flush=True)
    await stop.wait()
    await broker.stop()
    await client.close()


if __name__ == "__main__":
    if sys.argv[1] == "driver":
        asyncio.run(drive(int(sys.argv[3]), int(sys.argv[4])))
    else:
        asyncio.run(work())
