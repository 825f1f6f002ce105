"""Removes what nobody declares: bindings, then queues, then exchanges. Never what is in use."""

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import NamedTuple

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from bus.transports.rabbitmq.connection import RabbitSession, genuine
from bus.transports.rabbitmq.declare import count
from bus.transports.rabbitmq.moving.draining import counts, drain, put_all, unbind
from bus.transports.rabbitmq.planning.change import Change


class Kept(NamedTuple):
    """What was not removed, and why."""

    change: Change
    why: str


class Removed(NamedTuple):
    """What had to stay; and how many messages were `gone` with each queue that was deleted with
    any."""

    kept: list[Kept]
    gone: dict[str, int]


class _How(NamedTuple):
    """How queues are removed: `with_messages` or only empty ones. `whys` has those that stay, and
    why; `gone` takes the messages of those that do not."""

    with_messages: bool
    whys: dict[str, str]
    gone: dict[str, int]


async def remove(
    session: RabbitSession,
    changes: Sequence[Change],
    *,
    with_messages: bool = False,
    delays: Sequence[str] = (),
    hiding: Collection[str] = (),
) -> Removed:
    """Removes what these lines of a plan name. From `delays`, messages may come back to a queue by
    its name; in the queues that are `hiding` some, RabbitMQ holds messages back that it does not
    count.

    Delays are looked through once for all queues, and only for those that nothing else keeps.
    """
    queues = [change.name for change in changes if change.kind == "queue"]
    how = _How(with_messages, {}, {})
    how.whys.update({queue: await _why_kept(session, queue, how, hiding) for queue in queues})
    await _look_through(session, delays, how)
    in_order = sorted(changes, key=lambda change: change.kind == "exchange")
    outcomes = [Kept(change, await _removed(session, change, how)) for change in in_order]
    return Removed([outcome for outcome in outcomes if outcome.why], how.gone)


async def _why_kept(session: RabbitSession, queue: str, how: _How, hiding: Collection[str]) -> str:
    if queue in hiding and not how.with_messages:
        return (
            "a policy has RabbitMQ hold messages back in it, which it does not count: take "
            "delayed-retry-type out of the policies on it, or give --with-messages to lose them"
        )
    return _use(*await count(session, queue), how)


def _use(messages: int, consumers: int, how: _How) -> str:
    """Returns why a queue is not deleted, or nothing: RabbitMQ itself deletes a quorum queue
    whether it is used or not."""
    if consumers:
        return f"it is consumed ({consumers}): stop what consumes it"
    if messages and not how.with_messages:
        return f"it holds {messages:,} messages: give --with-messages to lose them"
    return ""


async def _removed(session: RabbitSession, change: Change, how: _How) -> str:
    """Removes one thing; returns why it stays, or nothing. What is gone already is removed."""
    if change.kind == "queue" and (why := how.whys[change.name]):
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


def _bindings(change: Change) -> list[tuple[str, str]]:
    return [(exchange, topic) for exchange, topics in change.was.items() for topic in topics]


async def _binding(channel: AbstractChannel, change: Change, _: _How) -> str:
    await unbind(channel, change.name, _bindings(change))
    return ""


async def _queue(channel: AbstractChannel, change: Change, how: _How) -> str:
    """Unbinds it first, because what came between the last look and the deletion would be lost."""
    bindings = _bindings(change)
    await unbind(channel, change.name, bindings)
    if why := _use(*await counts(channel, change.name), how):
        with suppress(ChannelNotFoundEntity):  # of an exchange that is gone
            for exchange, topic in bindings:
                await genuine(channel.queue_bind(change.name, exchange, topic))
        return why
    deleted = await genuine(channel.queue_delete(change.name))
    if deleted.message_count:
        how.gone[change.name] = how.gone.get(change.name, 0) + deleted.message_count
    return ""


async def _exchange(channel: AbstractChannel, change: Change, _: _How) -> str:
    await genuine(channel.exchange_delete(change.name, if_unused=True))
    return ""


async def _look_through(session: RabbitSession, delays: Sequence[str], how: _How) -> None:
    """Takes out of the delays what would come back to a queue that is deleted `with_messages`;
    otherwise a queue that something comes back to stays.

    RabbitMQ keeps what it cannot bring back, and after 32 such messages a delay brings nothing back
    any more, to any queue.
    """
    sifting = _Sifting([queue for queue, why in how.whys.items() if not why], how.with_messages)
    for delay in delays if sifting.queues else ():
        ready, _ = await count(session, delay)
        if ready:
            await drain(session, delay, sifting.put, most=ready)
    for queue, found in sifting.found.items():
        if not how.with_messages:
            how.whys[queue] = (
                f"{found:,} messages in delays come back to it: give --with-messages to lose them"
            )
        else:
            how.gone[queue] = found


class _Sifting:
    """Puts what is taken from a delay back into it; with `drops`, but for what comes back to some
    queues. Counts that by queue."""

    def __init__(self, queues: Collection[str], drops: bool) -> None:
        self.queues = queues
        self.found: Counter[str] = Counter()
        self._drops = drops

    async def put(self, channel: AbstractChannel, messages: Sequence[DeliveredMessage]) -> int:
        """Returns how many it put back."""
        backs = [message.routing_key or "" for message in messages]
        others = [
            message
            for message, back in zip(messages, backs, strict=True)
            if not (self._drops and back in self.queues)
        ]
        await put_all(
            channel, others, lambda message: (message.exchange or "", message.routing_key or "")
        )
        self.found.update(back for back in backs if back in self.queues)
        return len(others)


_KINDS = {"binding": _binding, "queue": _queue, "exchange": _exchange}
