"""The peer: FastStream's `broker.publish`, each message awaited until it is confirmed.

It keeps no more than aio-pika does, on which it stands.
"""

from faststream.rabbit import (
    Channel,
    ExchangeType,
    QueueType,
    RabbitBroker,
    RabbitExchange,
    RabbitQueue,
)

from bench import side
from bench.clock import Clock
from bench.queues import AMQP_URL, BINDING, TOPIC, body_of, expect

WARM_UP = 1000


async def measure(arguments: side.Arguments) -> side.Metrics:
    service, count, concurrent = (arguments[key] for key in ("service", "count", "concurrent"))
    confirming = Channel(publisher_confirms=True, on_return_raises=True)
    exchange = RabbitExchange(f"{service}.events", type=ExchangeType.TOPIC, durable=True)
    queue = RabbitQueue(f"{service}.accounts", queue_type=QueueType.QUORUM, durable=True)
    async with RabbitBroker(AMQP_URL, default_channel=confirming, logger=None) as broker:
        declared = await broker.declare_exchange(exchange)
        await (await broker.declare_queue(queue)).bind(declared, BINDING)

        async def publish(number: int) -> None:
            await broker.publish(
                body_of(number),
                exchange=exchange,
                routing_key=TOPIC,
                persist=True,
                mandatory=True,
                content_type="application/json",
                message_id=f"m{number}",
                message_type="AccountOpened",
            )

        await side.concurrently(WARM_UP, concurrent, publish)
        with Clock() as clock:
            await side.concurrently(count, concurrent, publish)
    await expect(queue.name, WARM_UP + count)
    return clock.metrics(count)


if __name__ == "__main__":
    side.run(measure)
