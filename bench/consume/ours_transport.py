"""Our side beneath the worker: take what has arrived, decode, handle, acknowledge the batch.

The floor of what a worker costs: no retries, no order of a stream, no logging round the handler.
"""

from bench import side
from bench.clock import Handled
from bench.consume.messages import AccountOpened, fill
from bench.queues import AMQP_URL, expect
from bus.codec import read_frame
from bus.messages import Message
from bus.observe.log import configure_default
from bus.transports.rabbitmq import RabbitTransport
from bus.transports.topology import Queue, handler_queue

PREFETCH, BATCH = 1000, 500


def queue_of(arguments: side.Arguments) -> Queue:
    return handler_queue(arguments["service"], "accounts", ["AccountOpened"])


async def fill_queue(arguments: side.Arguments) -> None:
    await fill(arguments, queue_of(arguments))


async def measure(arguments: side.Arguments) -> side.Metrics:
    count, queue = arguments["count"], queue_of(arguments)
    registry = {AccountOpened.wire_name: AccountOpened}
    handled = Handled(count)

    async def opened(event: Message) -> None:
        handled()

    with side.worker(arguments, "fill"):
        pass
    transport = RabbitTransport([AMQP_URL], service=arguments["service"])
    configure_default()
    await transport.open()
    try:
        inbox = await transport.inbox(queue.name, prefetch=PREFETCH)
        while handled.left:
            deliveries = await inbox.take(BATCH)
            handled.begin()
            for delivery in deliveries:
                await opened(read_frame(delivery.frame, registry).message)
            await inbox.acknowledge(deliveries)
        await inbox.close()
    finally:
        await transport.close()
    await expect(queue.name, 0)
    return handled.clock.metrics(count)


if __name__ == "__main__":
    side.run(measure, fill=fill_queue)
