"""The peer: FastStream's typed subscriber in its documented style, which acknowledges by itself.

A message whose handler fails is rejected, and gone: no retry and no dead letter unless the user
adds them; nor is there an order of a stream.
"""

from faststream.rabbit import (
    Channel,
    ExchangeType,
    QueueType,
    RabbitBroker,
    RabbitExchange,
    RabbitQueue,
)
from pydantic import BaseModel

from bench import side
from bench.clock import Handled
from bench.queues import AMQP_URL, BINDING, expect, fill


class AccountOpened(BaseModel):
    account_id: str
    owner: str
    note: str


async def measure(arguments: side.Arguments) -> side.Metrics:
    service, count = arguments["service"], arguments["count"]
    handled = Handled(count)
    broker = RabbitBroker(AMQP_URL, default_channel=Channel(prefetch_count=1000), logger=None)
    exchange = RabbitExchange(f"{service}.events", type=ExchangeType.TOPIC, durable=True)
    queue = RabbitQueue(
        f"{service}.accounts", queue_type=QueueType.QUORUM, durable=True, routing_key=BINDING
    )

    async def opened(event: AccountOpened) -> None:
        handled()

    broker.subscriber(queue, exchange)(opened)
    with side.worker(arguments, "fill"):
        pass
    async with broker:
        await broker.start()
        await handled.all()
    await expect(queue.name, 0)
    return handled.clock.metrics(count)


if __name__ == "__main__":
    side.run(measure, fill=fill)
