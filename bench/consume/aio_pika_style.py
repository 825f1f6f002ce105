"""The peer: a callback of aio-pika's that parses with pydantic and acknowledges each message.

There is no retry, no dead letter and no order of a stream here: a callback that raises leaves its
message unacknowledged.
"""

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from pydantic import BaseModel

from bench import side
from bench.clock import Handled
from bench.queues import AMQP_URL, declare, expect, fill


class AccountOpened(BaseModel):
    account_id: str
    owner: str
    note: str


async def measure(arguments: side.Arguments) -> side.Metrics:
    service, count = arguments["service"], arguments["count"]
    handled = Handled(count)

    async def opened(event: AccountOpened) -> None:
        pass

    async def on_message(message: AbstractIncomingMessage) -> None:
        handled.begin()
        await opened(AccountOpened.model_validate_json(message.body))
        await message.ack()
        handled()

    with side.worker(arguments, "fill"):
        pass
    async with await aio_pika.connect_robust(AMQP_URL) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1000)
        _, queue = await declare(channel, service)
        await queue.consume(on_message)
        await handled.all()
    await expect(queue.name, 0)
    return handled.clock.metrics(count)


if __name__ == "__main__":
    side.run(measure, fill=fill)
