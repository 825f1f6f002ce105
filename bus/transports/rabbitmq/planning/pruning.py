"""Removes what nobody declares: bindings, then queues, then exchanges. Never what is in use."""

from collections.abc import Sequence
from typing import NamedTuple

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from bus.transports.rabbitmq.connection import RabbitSession, genuine
from bus.transports.rabbitmq.moving.draining import counts, drain, put_all
from bus.transports.rabbitmq.planning.change import Change


class Kept(NamedTuple):
    """What was not removed, and why."""

    change: Change
    why: str


class _How(NamedTuple):
    """How queues are removed: `with_messages` or only empty ones; from `delays` messages may come
    back to them."""

    with_messages: bool
    delays: Sequence[str]


async def remove(
    session: RabbitSession,
    changes: Sequence[Change],
    *,
    with_messages: bool = False,
    delays: Sequence[str] = (),
) -> list[Kept]:
    """Removes what these lines of a plan name; returns what had to stay. From `delays`, messages
    may come back to a queue by its name."""
    how = _How(with_messages, delays)
    in_order = sorted(changes, key=lambda change: change.kind == "exchange")
    outcomes = [Kept(change, await _removed(session, change, how)) for change in in_order]
    return [outcome for outcome in outcomes if outcome.why]


async def _removed(session: RabbitSession, change: Change, how: _How) -> str:
    """Removes one thing; returns why it stays, or nothing. What is gone already is removed."""
    if change.kind == "queue" and (why := await _delayed(session, change.name, how)):
        return why
    channel = await session.channel(confirms=False)
    try:
        why = await _KINDS[change.kind](channel, change, how)
    except ChannelNotFoundEntity:  # which has closed the channel, as the next one has
        return ""
    except ChannelPreconditionFailed as error:
        return f"RabbitMQ says: {error}"
    await genuine(channel.close())
    return why


async def _binding(channel: AbstractChannel, change: Change, _: _How) -> str:
    for exchange, topics in change.was.items():
        for topic in topics:
            await genuine(channel.queue_unbind(change.name, exchange, topic))
    return ""


async def _queue(channel: AbstractChannel, change: Change, how: _How) -> str:
    """RabbitMQ itself deletes a quorum queue whether it is used or not."""
    found = await genuine(channel.queue_declare(change.name, passive=True))
    if found.consumer_count:
        return f"it is consumed ({found.consumer_count}): stop what consumes it"
    if found.message_count and not how.with_messages:
        return f"it holds {found.message_count:,} messages: give --with-messages to lose them"
    await genuine(channel.queue_delete(change.name))
    return ""


async def _exchange(channel: AbstractChannel, change: Change, _: _How) -> str:
    await genuine(channel.exchange_delete(change.name, if_unused=True))
    return ""


async def _delayed(session: RabbitSession, queue: str, how: _How) -> str:
    """Takes out of the delays what would come back to a queue; returns why the queue stays if that
    is not to be lost, or nothing.

    RabbitMQ keeps what it cannot bring back, and after 32 such messages a delay brings nothing back
    any more, to any queue.
    """
    sifting = _Sifting(queue, drops=how.with_messages)
    channel = await session.channel(confirms=False)
    found = 0
    for delay in how.delays:
        ready, _ = await counts(channel, delay)
        found += await drain(session, delay, sifting.put, most=ready) if ready else 0
    await genuine(channel.close())
    if found and not how.with_messages:
        return f"{found:,} messages in delays come back to it: give --with-messages to lose them"
    return ""


class _Sifting:
    """Puts what is taken from a delay back into it, but for what comes back to one queue."""

    def __init__(self, queue: str, *, drops: bool) -> None:
        self._queue = queue
        self._drops = drops

    async def put(self, channel: AbstractChannel, messages: Sequence[DeliveredMessage]) -> int:
        """Returns how many were for the queue."""
        others = [message for message in messages if message.routing_key != self._queue]
        await put_all(
            channel,
            others if self._drops else messages,
            lambda message: (message.exchange or "", message.routing_key or ""),
        )
        return len(messages) - len(others)


_KINDS = {"binding": _binding, "queue": _queue, "exchange": _exchange}
