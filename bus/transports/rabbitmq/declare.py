"""Declares a topology at the broker, and looks up what of it is there.

On a throw-away connection, because a refused declaration closes its channel and ends whatever else
is under way there.
"""

from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from bus.common.tasks import together
from bus.errors import ConfigurationError, TopologyMismatch
from bus.transports.rabbitmq.connection import RabbitSession, genuine
from bus.transports.rabbitmq.planning.wanted import (
    WantedQueue,
    bindings_of,
    wanted_exchanges,
    wanted_queues,
)
from bus.transports.topology import Queue, Topology

CHANNELS = 4
"""How many channels declare at once: a broker makes the queues of one channel one by one, at about
eight milliseconds each."""


class Thing(NamedTuple):
    """An exchange or a queue, by its kind."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


async def declare(session: RabbitSession, topology: Topology) -> dict[str, str]:
    """Creates everything, or finds it as it should be.

    Returns the queues that have other properties, each with the refusal in words.
    Raises: TopologyMismatch, for an exchange that has other properties.
    """
    await _declare_exchanges(session, wanted_exchanges(topology), f"{topology.service}.")
    queues = wanted_queues(topology)
    shares = (queues[start::CHANNELS] for start in range(CHANNELS))
    found: dict[str, str] = {}
    await together(*(_declare_queues(session, share, found) for share in shares))
    return found


async def missing(session: RabbitSession, topology: Topology) -> list[Thing]:
    """Returns the exchanges and queues that do not exist. Bindings cannot be looked up."""
    things = [Thing("exchange", name) for name in wanted_exchanges(topology)]
    things += [Thing("queue", queue.name) for queue in wanted_queues(topology)]
    shares = (things[start::CHANNELS] for start in range(CHANNELS))
    gone: list[Thing] = []
    await together(*(_look(session, share, gone) for share in shares))
    return sorted(gone)


def unfed(topology: Topology, gone: Collection[Thing]) -> list[str]:
    """Returns the queues of several consumers that are gone, or whose exchange is.

    Others publish while the bindings are being made, so such queues miss messages.
    """
    names = {thing.name for thing in gone}
    hungry = {q.name for q in topology.queues if names & {q.name, *_feeds(topology, q)}}
    return of_several_consumers(topology, hungry)


def of_several_consumers(topology: Topology, names: Collection[str]) -> list[str]:
    """Returns those of the named queues that have several consumers.

    What a single consumer misses, its versions show.
    """
    several = (queue.name for queue in topology.queues if not queue.single_consumer)
    return [name for name in several if name in names]


def _feeds(topology: Topology, queue: Queue) -> set[str]:
    return {exchange for exchange, _ in bindings_of(topology.service, queue)}


async def _look(session: RabbitSession, things: Sequence[Thing], gone: list[Thing]) -> None:
    channel = await session.channel(confirms=False)
    for thing in things:
        ask = channel.exchange_declare if thing.kind == "exchange" else channel.queue_declare
        try:
            await genuine(ask(thing.name, passive=True))
        except (ChannelNotFoundEntity, ChannelAccessRefused) as error:
            # RabbitMQ 4.3 refuses to look up what a user has no rights on; then this service does
            # not use it either, so it is not missing. Both errors close the channel.
            if isinstance(error, ChannelNotFoundEntity):
                gone.append(thing)
            channel = await session.channel(confirms=False)
    await genuine(channel.close())


def names_of(topology: Topology) -> tuple[list[str], list[str]]:
    """Returns the names of the queues and of the exchanges that it declares, others' too."""
    return [queue.name for queue in wanted_queues(topology)], list(wanted_exchanges(topology))


async def _declare_queues(
    session: RabbitSession, queues: Sequence[WantedQueue], mismatches: dict[str, str]
) -> None:
    channel = await _opened(session)
    for queue in queues:
        try:
            await _declare_queue(channel, queue)
        except TopologyMismatch as mismatch:  # which has closed the channel
            mismatches[queue.name] = str(mismatch)
            channel = await _opened(session)
            channel = await _bind_anyway(session, channel, queue)
    await genuine(channel.close())


async def _declare_queue(channel: AbstractChannel, queue: WantedQueue) -> None:
    arguments = dict(queue.arguments)
    declaration = channel.declare_queue(queue.name, durable=True, arguments=arguments)
    declared = await _declared(f"queue {queue.name}", declaration)
    for exchange, topic in queue.bindings:
        await genuine(declared.bind(exchange, topic))


async def _bind_anyway(
    session: RabbitSession, channel: AbstractChannel, queue: WantedQueue
) -> AbstractChannel:
    """Binds a queue with other properties, and returns an open channel.

    Nobody consumes it, but without this its messages would be lost; so they can be moved later.
    """
    try:
        found = await genuine(channel.get_queue(queue.name, ensure=False))
        for exchange, topic in queue.bindings:
            await genuine(found.bind(exchange, topic))
    except AMQPError:  # somebody else's queue
        return await _opened(session)
    return channel


async def _opened(session: RabbitSession) -> AbstractChannel:
    channel = session.connection.channel()
    await genuine(channel)
    return channel


async def _declare_exchanges(session: RabbitSession, kinds: Mapping[str, str], own: str) -> None:
    channel = await _opened(session)
    for name, kind in kinds.items():
        declaration = channel.declare_exchange(name, ExchangeType(kind), durable=True)
        try:
            await _declared(f"exchange {name}", declaration)
        except ChannelAccessRefused:  # which has closed the channel
            if name.startswith(own):
                raise
            channel = await _opened(session)
            await _require_there(channel, name)
    await genuine(channel.close())


async def _require_there(channel: AbstractChannel, name: str) -> None:
    """Passes over another service's exchange that is there: who follows it need not be let
    configure it. Raises: ConfigurationError."""
    try:
        await genuine(channel.declare_exchange(name, passive=True))
    except ChannelNotFoundEntity:
        raise ConfigurationError(
            f"RabbitMQ has no exchange {name} yet, and this user may not make it: start the "
            f"service that publishes to it, or let it be declared, before this one (or let the "
            f"user of this one configure {name} too)"
        ) from None


async def _declared(what: str, declaration: Awaitable[Any]) -> Any:
    try:
        return await genuine(declaration)
    except ChannelPreconditionFailed as error:
        raise TopologyMismatch(
            f"The {what} exists with other properties. RabbitMQ says: {error}. Run `bus topology "
            f"apply MODULE:build`: it makes a queue anew, with what is in it, once nobody consumes "
            f"it, and an exchange of this service with --exchanges"
        ) from None


async def delete(session: RabbitSession, queues: Sequence[str]) -> None:
    """Deletes queues with all their messages."""
    channel = session.connection.channel()
    await genuine(channel)
    for name in queues:
        await genuine(channel.queue_delete(name))
    await genuine(channel.close())


async def delete_exchanges(session: RabbitSession, names: Sequence[str]) -> None:
    """Deletes exchanges with all their bindings."""
    channel = await session.channel(confirms=False)
    for name in names:
        await genuine(channel.exchange_delete(name))
    await genuine(channel.close())


async def count(session: RabbitSession, queue: str) -> tuple[int, int]:
    """Returns how many messages are ready in a queue, and its consumers: 0, 0 if there is none."""
    channel = await session.channel(confirms=False)
    try:
        found = await genuine(channel.queue_declare(queue, passive=True))
    except ChannelNotFoundEntity:
        return 0, 0
    await genuine(channel.close())
    return found.message_count or 0, found.consumer_count or 0
