"""Makes a queue anew that has other properties than it should have, without losing a message.

A queue beside it, NAME.moving, is bound in its place, takes what was in it, and gives all back once
the queue is made. Each step can be repeated, so a move that ended in the middle goes on: what
exists at the broker says where. A message may come twice, and later ones before earlier ones.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

from aiormq.abc import AbstractChannel, DeliveredMessage

from bus.common.tasks import together
from bus.errors import TransportUnavailable
from bus.transports.rabbitmq.connection import RabbitSession, genuine
from bus.transports.rabbitmq.planning.wanted import WantedQueue

PREFETCH = 100
SILENCE = 0.5
"""Seconds without a message after which a queue is looked at whether it is empty."""
PATIENCE = 60.0
"""Seconds for which messages in the delays may come back to a queue before it can be deleted."""


class Moved(NamedTuple):
    """What came of a move: `messages` were brought to the new queue; `gone` were deleted with the
    old one, because they came at the last moment."""

    messages: int
    gone: int = 0


async def move(
    session: RabbitSession,
    wanted: WantedQueue,
    *,
    is_other: bool,
    bindings: Collection[tuple[str, str]] = (),
    delays: Sequence[str] = (),
    patience: float = PATIENCE,
) -> Moved:
    """Makes a queue anew if it `is_other` than wanted, and ends a move that was begun before.

    `bindings` are those that it has beside the wanted ones. From `delays` messages come back to it
    by its name, so it is deleted only while these are empty: RabbitMQ deletes a quorum queue with
    whatever is in it.
    Raises: TransportUnavailable if somebody consumes it, or the delays do not become empty within
    `patience` (seconds); what was moved until then is kept, and moves on with the next call.
    """
    gone = 0
    if is_other:
        await _require_no_consumers(session, wanted.name)
        gone = await _put_aside(session, wanted, bindings, delays, patience)
    moved, left = await _bring_back(session, wanted)
    return Moved(moved, gone + left)


async def _put_aside(
    session: RabbitSession,
    wanted: WantedQueue,
    bindings: Collection[tuple[str, str]],
    delays: Sequence[str],
    patience: float,
) -> int:
    """Returns how many messages were deleted with the old queue, which should be none."""
    channel = await session.channel(confirms=False)
    await _make(channel, wanted.aside)
    deadline, is_calm = time.monotonic() + patience, False
    while True:
        await _unbind(channel, wanted.name, {*wanted.bindings, *bindings})
        moved = await _drain(session, wanted.name, wanted.aside)
        waiting = sum([(await _counts(channel, delay))[0] for delay in delays])
        if not moved and not waiting and is_calm:  # twice: what left a delay may be on its way
            break
        is_calm = not waiting
        if waiting and time.monotonic() > deadline:
            raise TransportUnavailable(
                f"RabbitMQ: {waiting} messages wait in the delays of {wanted.name} "
                f"({', '.join(delays)}), and would be lost with it; what was in it stands aside in "
                f"{wanted.aside.name}. Stop the workers, wait until the delays are over, and apply "
                f"again"
            )
    await _require_no_consumers(session, wanted.name)
    deleted = await genuine(channel.queue_delete(wanted.name))
    await genuine(channel.close())
    return deleted.message_count or 0


async def _bring_back(session: RabbitSession, wanted: WantedQueue) -> tuple[int, int]:
    """Returns how many messages stood aside, and how many were deleted with the queue aside."""
    channel = await session.channel(confirms=False)
    await _make(channel, wanted)
    aside = wanted.aside
    await _declare(channel, aside)  # a move may have ended after it was deleted
    await _unbind(channel, aside.name, aside.bindings)
    moved = 0
    while more := await _drain(session, aside.name, wanted):
        moved += more
    deleted = await genuine(channel.queue_delete(aside.name))
    await genuine(channel.close())
    return moved, deleted.message_count or 0


async def _declare(channel: AbstractChannel, queue: WantedQueue) -> None:
    arguments = dict(queue.arguments)
    await genuine(channel.queue_declare(queue.name, durable=True, arguments=arguments))


async def _make(channel: AbstractChannel, queue: WantedQueue) -> None:
    await _declare(channel, queue)
    for exchange, topic in queue.bindings:
        await genuine(channel.queue_bind(queue.name, exchange, topic))


async def _unbind(
    channel: AbstractChannel, queue: str, bindings: Collection[tuple[str, str]]
) -> None:
    for exchange, topic in bindings:
        await genuine(channel.queue_unbind(queue, exchange, topic))


async def _counts(channel: AbstractChannel, queue: str) -> tuple[int, int]:
    """Returns the messages that are ready, and the consumers."""
    found = await genuine(channel.queue_declare(queue, passive=True))
    return found.message_count or 0, found.consumer_count or 0


async def _require_no_consumers(session: RabbitSession, queue: str) -> None:
    channel = await session.channel(confirms=False)
    for pause in (0.1, 0.4, 1.0):  # a consumer of ours may still be counted for a moment
        _, consumers = await _counts(channel, queue)
        if not consumers:
            break
        await asyncio.sleep(pause)
    await genuine(channel.close())
    if consumers:
        raise TransportUnavailable(
            f"RabbitMQ: {queue} is consumed ({consumers}), and what its consumers hold would be "
            f"lost with it. Stop the workers that consume it, and apply again"
        )


async def _drain(session: RabbitSession, source: str, target: WantedQueue) -> int:
    """Moves messages until the source is silent and empty; returns how many.

    Each is acknowledged only after the broker has confirmed that the target has it.
    """
    taking, putting = await session.channel(confirms=False), await session.channel(confirms=True)
    arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    await genuine(taking.basic_qos(prefetch_count=PREFETCH))
    await genuine(taking.basic_consume(source, arrived.put, consumer_tag=source))
    moved = 0
    while batch := await _batch(taking, source, arrived):
        await together(*(_put(putting, message, target) for message in batch))
        await genuine(taking.basic_ack(batch[-1].delivery_tag or 0, multiple=True))
        moved += len(batch)
    await genuine(taking.basic_cancel(source))
    await genuine(taking.close())
    await genuine(putting.close())
    return moved


async def _batch(
    channel: AbstractChannel, source: str, arrived: "asyncio.Queue[DeliveredMessage]"
) -> list[DeliveredMessage]:
    """Returns what has arrived, at least one; nothing once the queue is silent and empty."""
    while arrived.empty():
        try:
            async with asyncio.timeout(SILENCE):
                return [await genuine(arrived.get())]
        except TimeoutError:
            ready, _ = await _counts(channel, source)
            if not ready and arrived.empty():
                return []
    return [arrived.get_nowait() for _ in range(arrived.qsize())]


async def _put(channel: AbstractChannel, message: DeliveredMessage, target: WantedQueue) -> None:
    """Publishes a message as it came. One in a delay keeps its routing key, which names the queue
    that it comes back to."""
    own = target.own_exchange
    publishing = channel.basic_publish(
        message.body,
        exchange=own,
        routing_key=message.routing_key or "" if own else target.name,
        properties=message.header.properties,
        mandatory=True,
    )
    await genuine(publishing)
