"""Makes a queue anew that has other properties than it should have, without losing a message.

A queue beside it, NAME.moving, is bound in its place, takes what was in it, and gives all back once
the queue is made. Each step can be repeated, so a move that ended in the middle goes on: what
exists at the broker says where. A message may come twice, and later ones before earlier ones.
"""

import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import NamedTuple

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity

from bus.errors import TransportUnavailable
from bus.transports.rabbitmq.connection import RabbitSession, genuine
from bus.transports.rabbitmq.moving.draining import (
    Put,
    counts,
    drain,
    put_all,
    require_no_consumers,
    unbind,
)
from bus.transports.rabbitmq.planning.wanted import WantedQueue

PATIENCE = 60.0
"""Seconds for which messages in the delays may come back to a queue before it can be deleted."""

MOST_IDS = 1_000_000
"""How many messages' ids are kept to recognise those that come twice, about 100 bytes each."""


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
        await require_no_consumers(session, wanted.name)
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
    channel = await _aside(session, wanted)
    await _bind(channel, wanted.aside)
    deadline, is_calm = time.monotonic() + patience, False
    while True:
        await unbind(channel, wanted.name, {*wanted.bindings, *bindings})
        # No more than there is: a process that binds the queue again, as one does that declares,
        # has what is put aside by an exchange come back to it, round and round until it is unbound.
        ready, _ = await counts(channel, wanted.name)
        moved = await drain(session, wanted.name, _into(wanted.aside), most=max(ready, 1))
        waiting = sum([(await counts(channel, delay))[0] for delay in delays])
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
    await require_no_consumers(session, wanted.name)
    deleted = await genuine(channel.queue_delete(wanted.name))
    await genuine(channel.close())
    return deleted.message_count or 0


async def _bring_back(session: RabbitSession, wanted: WantedQueue) -> tuple[int, int]:
    """Returns how many messages stood aside, and how many were deleted with the queue aside."""
    channel, aside = await _aside(session, wanted), wanted.aside
    await _declare(channel, wanted)
    await _bind(channel, wanted)
    await unbind(channel, aside.name, aside.bindings)
    put, moved = _once(_into(wanted)), 0
    while more := await drain(session, aside.name, put):
        moved += more
    deleted = await genuine(channel.queue_delete(aside.name))
    await genuine(channel.close())
    return moved, deleted.message_count or 0


async def _declare(channel: AbstractChannel, queue: WantedQueue) -> None:
    arguments = dict(queue.arguments)
    await genuine(channel.queue_declare(queue.name, durable=True, arguments=arguments))


async def _aside(session: RabbitSession, wanted: WantedQueue) -> AbstractChannel:
    """Makes the queue aside unless it is there, as it is then: one that a move has left may be of a
    release that declared other arguments. Returns a channel."""
    channel = await session.channel(confirms=False)
    try:
        await counts(channel, wanted.aside.name)
    except ChannelNotFoundEntity:  # which has closed the channel
        channel = await session.channel(confirms=False)
        await _declare(channel, wanted.aside)
    return channel


async def _bind(channel: AbstractChannel, queue: WantedQueue) -> None:
    for exchange, topic in queue.bindings:
        await genuine(channel.queue_bind(queue.name, exchange, topic))


def _into(target: WantedQueue) -> Put:
    """Returns what puts messages into a queue. One in a delay keeps its routing key, which names
    the queue that it comes back to."""
    own = target.own_exchange

    def address(message: DeliveredMessage) -> tuple[str, str]:
        return (own, message.routing_key or "") if own else ("", target.name)

    return partial(put_all, address=address)


def _once(put: Put) -> Put:
    """Returns what leaves out a message that was put already: it came into both queues while both
    were bound, or was put aside twice, as by a move that was killed."""
    put_already: set[tuple[str, int]] = set()

    def is_new(message: DeliveredMessage) -> bool:
        key = _identity(message)
        known = key in put_already
        if key is not None:
            put_already.add(key)
        return not known

    async def put_new(channel: AbstractChannel, messages: Sequence[DeliveredMessage]) -> int:
        if len(put_already) > MOST_IDS:
            put_already.clear()
        return await put(channel, list(filter(is_new, messages)))

    return put_new


def _identity(message: DeliveredMessage) -> tuple[str, int] | None:
    """Returns what a message and its copy have in common: the id, to which its publisher has added
    a number, and the headers but for the broker's. None for one without such an id."""
    properties = message.header.properties
    id, headers = properties.message_id or "", properties.headers or {}
    own = frozenset((name, str(of)) for name, of in headers.items() if not name.startswith("x-"))
    return (id, hash(own)) if "#" in id else None
