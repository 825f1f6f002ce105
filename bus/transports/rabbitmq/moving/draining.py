"""Takes messages from a queue. Each is acknowledged only once the broker has confirmed that it is
elsewhere: it may come twice if that ends in the middle, and is never lost.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from aiormq.abc import AbstractChannel, DeliveredMessage

from bus.common.tasks import together
from bus.errors import TransportUnavailable
from bus.transports.rabbitmq.connection import RabbitSession, genuine

PREFETCH = 100
STALLED = 60.0
"""Seconds without any progress after which emptying a queue is given up."""
SILENCE = 0.5
"""Seconds without a message after which a queue is looked at whether it is empty."""

Put = Callable[[AbstractChannel, Sequence[DeliveredMessage]], Awaitable[int]]
"""Publishes messages on a channel with confirms; returns how many it brought elsewhere."""


async def drain(session: RabbitSession, source: str, put: Put, most: int | None = None) -> int:
    """Empties a queue until it is silent, or `most` messages were taken; returns the sum of what
    `put` has returned.

    Raises: TransportUnavailable if it does not get on.
    """
    try:
        async with asyncio.timeout(STALLED) as limit:
            return await _drain(session, source, put, most, limit)
    except TimeoutError:
        raise TransportUnavailable(
            f"RabbitMQ: {source} is not emptied: for {STALLED:g} s nothing was delivered from it, "
            f"or nothing confirmed, as by a broker that is short of memory or disk (rabbitmq-"
            f"diagnostics alarms). Help it, stop whoever else consumes the queue, and run this "
            f"again: it goes on, and nothing is lost"
        ) from None


async def _drain(
    session: RabbitSession, source: str, put: Put, most: int | None, limit: asyncio.Timeout
) -> int:
    taking, putting = await session.channel(confirms=False), await session.channel(confirms=True)
    arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    await genuine(taking.basic_qos(prefetch_count=PREFETCH))
    await genuine(taking.basic_consume(source, arrived.put, consumer_tag=source))
    taken = brought = 0
    while taken != most and (batch := await _batch(taking, source, arrived)):
        # What is beyond the last one goes back: it may have been put here in this very run.
        batch = batch if most is None else batch[: most - taken]
        brought += await put(putting, batch)
        await genuine(taking.basic_ack(batch[-1].delivery_tag or 0, multiple=True))
        taken += len(batch)
        limit.reschedule(asyncio.get_running_loop().time() + STALLED)
    await genuine(taking.basic_cancel(source))
    await genuine(taking.close())
    await genuine(putting.close())
    return brought


async def _batch(
    channel: AbstractChannel, source: str, arrived: "asyncio.Queue[DeliveredMessage]"
) -> list[DeliveredMessage]:
    """Returns what has arrived, at least one; nothing once the queue is silent and empty."""
    while arrived.empty():
        try:
            async with asyncio.timeout(SILENCE):
                return [await genuine(arrived.get())]
        except TimeoutError:
            ready, _ = await counts(channel, source)
            if not ready and arrived.empty():
                return []
    return [arrived.get_nowait() for _ in range(arrived.qsize())]


Address = Callable[[DeliveredMessage], tuple[str, str]]
"""Says to which exchange, by which routing key, a message goes."""


async def put_all(
    channel: AbstractChannel, messages: Sequence[DeliveredMessage], address: Address
) -> int:
    """Publishes messages as they came; returns how many there were."""
    await together(*(_put(channel, message, *address(message)) for message in messages))
    return len(messages)


async def _put(
    channel: AbstractChannel, message: DeliveredMessage, exchange: str, routing_key: str
) -> None:
    publishing = channel.basic_publish(
        message.body,
        exchange=exchange,
        routing_key=routing_key,
        properties=message.header.properties,
        mandatory=True,
    )
    await genuine(publishing)


async def unbind(
    channel: AbstractChannel, queue: str, bindings: Collection[tuple[str, str]]
) -> None:
    for exchange, topic in bindings:
        await genuine(channel.queue_unbind(queue, exchange, topic))


async def counts(channel: AbstractChannel, queue: str) -> tuple[int, int]:
    """Returns the messages that are ready, and the consumers."""
    found = await genuine(channel.queue_declare(queue, passive=True))
    return found.message_count or 0, found.consumer_count or 0


async def require_no_consumers(session: RabbitSession, queue: str) -> None:
    """Raises: TransportUnavailable if somebody consumes the queue."""
    channel = await session.channel(confirms=False)
    for pause in (0.1, 0.4, 1.0):  # a consumer of ours may still be counted for a moment
        _, consumers = await counts(channel, queue)
        if not consumers:
            break
        await asyncio.sleep(pause)
    await genuine(channel.close())
    if consumers:
        raise TransportUnavailable(
            f"RabbitMQ: {queue} is consumed ({consumers}), and what its consumers hold would be "
            f"lost with it. Stop the workers that consume it, and apply again"
        )
