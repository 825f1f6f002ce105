"""The pipeline that one writes first: message by message over the drivers.

A command inserts the event (majority, journaled) and publishes it by aio-pika with confirm; a
consumer in another process upserts the document (majority, journaled) and acknowledges, up to a
hundred messages at once. No envelope, no outbox, no versions, no order of a stream: a crash loses
or repeats.
"""

import json
import os
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel, AbstractRobustExchange
from pymongo import AsyncMongoClient, WriteConcern

from bench import side
from bench.latency.arrivals import WARM_UP, at_rate, latencies
from bench.latency.watching import watching
from bench.visible import all_visible

AMQP_URL, MONGO_URL = os.environ["BUS_AMQP_URL"], os.environ["BUS_MONGO_URL"]
NOTE = "x" * 400
DURABLE = WriteConcern(w="majority", j=True)
PREFETCH = 100


async def declared(channel: AbstractRobustChannel, service: str) -> AbstractRobustExchange:
    kind = aio_pika.ExchangeType.TOPIC
    return await channel.declare_exchange(f"{service}.events", kind, durable=True)


async def work(arguments: side.Arguments) -> None:
    service = arguments["service"]
    connection = await aio_pika.connect_robust(AMQP_URL)
    async with connection, AsyncMongoClient[dict[str, Any]](MONGO_URL) as client:
        views = client.get_database(service, write_concern=DURABLE)["views"]

        async def on_event(message: AbstractIncomingMessage) -> None:
            async with message.process():
                event = json.loads(message.body)
                fields = {"owner": event["owner"], "note": event["note"]}
                await views.update_one({"_id": event["account_id"]}, {"$set": fields}, upsert=True)

        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        quorum: Any = {"x-queue-type": "quorum"}
        queue = await channel.declare_queue(f"{service}.views", durable=True, arguments=quorum)
        await queue.bind(await declared(channel, service), "account.#")
        await queue.consume(on_event)
        await side.ready_until_stopped()


async def drive(arguments: side.Arguments) -> side.Metrics:
    rate, service = arguments["rate"], arguments["service"]
    count = int(rate * (arguments["seconds"] + WARM_UP))
    connection = await aio_pika.connect_robust(AMQP_URL)
    async with connection, AsyncMongoClient[dict[str, Any]](MONGO_URL) as client:
        events = client.get_database(service, write_concern=DURABLE)["events"]
        await events.create_index([("stream", 1), ("version", 1)], unique=True)
        exchange = await declared(await connection.channel(), service)

        async def execute(key: str) -> None:
            data = {"account_id": key, "owner": "Ada", "note": NOTE}
            await events.insert_one({"stream": f"account-{key}", "version": 1, "data": data})
            message = aio_pika.Message(
                json.dumps(data).encode(),
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await exchange.publish(message, "account.AccountOpened")

        with side.worker(arguments), watching(service) as seen:
            arrivals = await at_rate(rate, count, execute)
            await all_visible(MONGO_URL, service, count)
    measured = arrivals[int(rate * WARM_UP) :]
    return {"count": count, **latencies(measured, {key: when for key, _, when in seen})}


if __name__ == "__main__":
    side.run(drive, worker=work)
