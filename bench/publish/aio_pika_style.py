"""The peer: aio-pika as its documentation publishes, each message awaited until it is confirmed.

It makes of a lost connection an error for each message that was under way, or a cancellation.
"""

import aio_pika

from bench import side
from bench.clock import Clock
from bench.queues import AMQP_URL, TOPIC, declare, expect, message_of

WARM_UP = 1000


async def measure(arguments: side.Arguments) -> side.Metrics:
    service, count, concurrent = (arguments[key] for key in ("service", "count", "concurrent"))
    async with await aio_pika.connect_robust(AMQP_URL) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchange, queue = await declare(channel, service)

        async def publish(number: int) -> None:
            await exchange.publish(message_of(number), TOPIC, mandatory=True)

        await side.concurrently(WARM_UP, concurrent, publish)
        with Clock() as clock:
            await side.concurrently(count, concurrent, publish)
    await expect(queue.name, WARM_UP + count)
    return clock.metrics(count)


if __name__ == "__main__":
    side.run(measure)
