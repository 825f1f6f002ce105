"""The peers' exchange and queue, and the message of about 500 bytes that every side carries.

Runs in the peers' environment too: aio-pika and no bus.
"""

import json
import os
from datetime import UTC, datetime

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractQueue

from bench import side

AMQP_URL = os.environ.get("BUS_AMQP_URL", "")
NOTE = "x" * 450
TOPIC, BINDING = "account.AccountOpened", "account.#"
IN_FLIGHT = 256


def data_of(number: int) -> dict[str, str]:
    return {"account_id": f"a{number}", "owner": "Ada", "note": NOTE}


def body_of(number: int) -> bytes:
    return json.dumps(data_of(number)).encode()


def message_of(number: int) -> aio_pika.Message:
    """What the peers send: persistent, with the properties and headers that our events carry."""
    command = f"c{number}"
    return aio_pika.Message(
        body_of(number),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=f"{command}:1",
        type="AccountOpened",
        correlation_id=command,
        timestamp=datetime.now(UTC),
        app_id="bench",
        headers={
            "stream": f"account-a{number}",
            "version": 1,
            "schema": 1,
            "causation_id": command,
        },
    )


async def declare(channel: AbstractChannel, service: str) -> tuple[AbstractExchange, AbstractQueue]:
    """A topic exchange and one quorum queue that is bound to it."""
    exchange = await channel.declare_exchange(
        f"{service}.events", aio_pika.ExchangeType.TOPIC, durable=True
    )
    queue = await channel.declare_queue(
        f"{service}.accounts", durable=True, arguments={"x-queue-type": "quorum"}
    )
    await queue.bind(exchange, BINDING)
    return exchange, queue


async def fill(arguments: side.Arguments) -> None:
    """Role of a process of its own: fills the queue, and says when it is done."""
    async with await aio_pika.connect_robust(AMQP_URL) as connection:
        exchange, _ = await declare(await connection.channel(), arguments["service"])

        async def publish(number: int) -> None:
            await exchange.publish(message_of(number), TOPIC)

        await side.concurrently(arguments["count"], IN_FLIGHT, publish)
        await side.ready_until_stopped()


async def expect(queue: str, count: int) -> None:
    """Sees that the queue holds so many messages, then deletes it. Raises: SystemExit.

    Once nobody consumes it any more, what was not acknowledged is in the queue again.
    """
    async with await aio_pika.connect(AMQP_URL) as connection:
        channel = await connection.channel()

        async def as_expected() -> bool:
            found = await channel.declare_queue(queue, passive=True)
            return found.declaration_result.message_count == count

        await side.until(as_expected, f"{queue} does not hold {count} messages", 10)
        await channel.queue_delete(queue)
