"""The peer: FastStream with MongoDB in its documented style, message by message.

A command inserts the event (majority, journaled) and publishes it; a subscriber upserts the read
document. There is no outbox, no deduplication and no order of a stream here: less is promised.
"""

import os
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

from bench import side
from bench.visible import all_visible

MONGO_URL = os.environ["BUS_MONGO_URL"]
NOTE = "x" * 400


class AccountOpened(BaseModel):
    account_id: str
    owner: str
    note: str


class Service:
    """What both processes share: broker, exchange, queue and database."""

    def __init__(self, service: str) -> None:
        self.broker = RabbitBroker(
            os.environ["BUS_AMQP_URL"], default_channel=Channel(prefetch_count=1000), logger=None
        )
        self.exchange = RabbitExchange(f"{service}.events", type=ExchangeType.TOPIC, durable=True)
        self.queue = RabbitQueue(
            f"{service}.views", queue_type=QueueType.QUORUM, durable=True, routing_key="account.#"
        )
        self.client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(MONGO_URL)
        durable = WriteConcern(w="majority", j=True)
        self.database = self.client.get_database(service, write_concern=durable)

    async def on_account_opened(self, event: AccountOpened) -> None:
        fields = {"owner": event.owner, "note": event.note}
        await self.database.views.update_one(
            {"_id": event.account_id}, {"$set": fields}, upsert=True
        )

    async def open_account(self, account_id: str, owner: str, note: str) -> None:
        event = AccountOpened(account_id=account_id, owner=owner, note=note)
        await self.database.events.insert_one(
            {"stream": f"account-{account_id}", "version": 1, "data": event.model_dump()}
        )
        topic = "account.AccountOpened"
        await self.broker.publish(event, exchange=self.exchange, routing_key=topic, persist=True)

    async def close(self) -> None:
        await self.broker.stop()
        await self.client.close()


async def work(arguments: side.Arguments) -> None:
    service = Service(arguments["service"])
    subscriber = service.broker.subscriber(
        service.queue, service.exchange, ack_policy=AckPolicy.NACK_ON_ERROR
    )
    subscriber(service.on_account_opened)
    await service.broker.start()
    await side.ready_until_stopped()
    await service.close()


async def drive(arguments: side.Arguments) -> side.Metrics:
    service, count = Service(arguments["service"]), arguments["count"]
    await service.database.events.create_index([("stream", 1), ("version", 1)], unique=True)
    await service.broker.connect()
    await service.broker.declare_exchange(service.exchange)

    async def execute(number: int) -> None:
        await service.open_account(f"a{number}", "Ada", NOTE)

    with side.worker(arguments):
        seconds = await side.concurrently(count, arguments["concurrent"], execute)
        seconds += await all_visible(MONGO_URL, arguments["service"], count)
    await service.close()
    return {"per_second": count / seconds}


if __name__ == "__main__":
    side.run(drive, worker=work)
