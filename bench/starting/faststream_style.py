"""The peer: FastStream, with a MongoDB client where its worker is loaded, message by message."""

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

from bench import processes, side
from bench.visible import all_visible

AMQP_URL, MONGO_URL = os.environ["BUS_AMQP_URL"], os.environ["BUS_MONGO_URL"]
NOTE = "x" * 400


class AccountOpened(BaseModel):
    account_id: str
    owner: str
    note: str


class Service:
    """A broker with two subscribers: one writes documents, the other does nothing."""

    def __init__(self, service: str) -> None:
        self.broker = RabbitBroker(
            AMQP_URL, default_channel=Channel(prefetch_count=1000), logger=None
        )
        self.exchange = RabbitExchange(f"{service}.events", type=ExchangeType.TOPIC, durable=True)
        self.client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(MONGO_URL)
        durable = WriteConcern(w="majority", j=True)
        self.database = self.client.get_database(service, write_concern=durable)
        self._name = service

    def subscribe(self, name: str, handler: Any) -> None:
        queue = RabbitQueue(
            f"{self._name}.{name}",
            queue_type=QueueType.QUORUM,
            durable=True,
            routing_key="account.#",
        )
        subscriber = self.broker.subscriber(
            queue, self.exchange, ack_policy=AckPolicy.NACK_ON_ERROR
        )
        subscriber(handler)

    async def write_document(self, event: AccountOpened) -> None:
        fields = {"owner": event.owner, "note": event.note}
        await self.database.views.update_one(
            {"_id": event.account_id}, {"$set": fields}, upsert=True
        )

    async def publish(self, number: int) -> None:
        event = AccountOpened(account_id=f"a{number}", owner="Ada", note=NOTE)
        topic = "account.AccountOpened"
        await self.broker.publish(event, exchange=self.exchange, routing_key=topic, persist=True)

    async def close(self) -> None:
        await self.broker.stop()
        await self.client.close()


async def on_account_opened(event: AccountOpened) -> None:
    pass


async def work(arguments: side.Arguments) -> None:
    service = Service(arguments["service"])
    service.subscribe("views", service.write_document)
    if arguments["what"] == "ready":
        service.subscribe("mails", on_account_opened)
    await service.broker.start()
    await side.ready_until_stopped()
    await service.close()


async def measure(arguments: side.Arguments) -> side.Metrics:
    return await processes.measure(
        arguments, load, module="faststream.rabbit", requirements=("faststream[rabbit]", "pymongo")
    )


async def load(arguments: side.Arguments) -> None:
    service = Service(arguments["service"])
    await service.broker.connect()
    await service.broker.declare_exchange(service.exchange)
    await side.concurrently(arguments["count"], 256, service.publish)
    await all_visible(MONGO_URL, arguments["service"], arguments["count"])
    await service.close()


if __name__ == "__main__":
    side.run(measure, worker=work)
