"""Removes what nobody declares: bindings, then queues, then exchanges. Never what is in use."""

from collections.abc import Sequence
from typing import NamedTuple

from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from bus.transports.rabbitmq.connection import RabbitSession, genuine
from bus.transports.rabbitmq.planning.change import Change


class Kept(NamedTuple):
    """What was not removed, and why."""

    change: Change
    why: str


async def remove(
    session: RabbitSession, changes: Sequence[Change], *, with_messages: bool = False
) -> list[Kept]:
    """Removes what these lines of a plan name; returns what had to stay."""
    in_order = sorted(changes, key=lambda change: change.kind == "exchange")
    outcomes = [Kept(change, await _removed(session, change, with_messages)) for change in in_order]
    return [outcome for outcome in outcomes if outcome.why]


async def _removed(session: RabbitSession, change: Change, with_messages: bool) -> str:
    """Removes one thing; returns why it stays, or nothing. What is gone already is removed."""
    channel = await session.channel(confirms=False)
    try:
        why = await _KINDS[change.kind](channel, change, with_messages)
    except ChannelNotFoundEntity:  # which has closed the channel, as the next one has
        return ""
    except ChannelPreconditionFailed as error:
        return f"RabbitMQ says: {error}"
    await genuine(channel.close())
    return why


async def _binding(channel: AbstractChannel, change: Change, _: bool) -> str:
    for exchange, topics in change.was.items():
        for topic in topics:
            await genuine(channel.queue_unbind(change.name, exchange, topic))
    return ""


async def _queue(channel: AbstractChannel, change: Change, with_messages: bool) -> str:
    """RabbitMQ itself deletes a quorum queue whether it is used or not."""
    found = await genuine(channel.queue_declare(change.name, passive=True))
    if found.consumer_count:
        return f"it is consumed ({found.consumer_count}): stop what consumes it"
    if found.message_count and not with_messages:
        return f"it holds {found.message_count:,} messages: give --with-messages to lose them"
    await genuine(channel.queue_delete(change.name))
    return ""


async def _exchange(channel: AbstractChannel, change: Change, _: bool) -> str:
    await genuine(channel.exchange_delete(change.name, if_unused=True))
    return ""


_KINDS = {"binding": _binding, "queue": _queue, "exchange": _exchange}
