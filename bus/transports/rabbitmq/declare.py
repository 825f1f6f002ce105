"""The topology in AMQP's words: exchanges, quorum queues, the delay ladder, dead letters.

Declared on a throw-away connection, because a refused declaration closes its channel and ends
whatever else is under way there. Valid for RabbitMQ 3.10 and for 4.
"""

from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from bus.common.tasks import together
from bus.errors import TopologyMismatch
from bus.transports.rabbitmq.connection import RabbitSession, genuine
from bus.transports.topology import DELAYS, DELIVERY_LIMIT, Queue, Topology, dead_queue

# RabbitMQ 4 has a default limit (20), and earlier versions have no value for "no limit".
_NO_LIMIT = 1_000_000_000

CHANNELS = 4
"""How many channels declare at once: a broker makes the queues of one channel one by one, at about
eight milliseconds each."""


class Thing(NamedTuple):
    """An exchange or a queue, by its kind."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class _Queue(NamedTuple):
    """A queue, and its bindings: pairs of an exchange and a topic."""

    name: str
    arguments: Mapping[str, Any]
    bindings: Sequence[tuple[str, str]]


async def declare(session: RabbitSession, topology: Topology) -> dict[str, str]:
    """Creates everything, or finds it as it should be.

    Returns the queues that have other properties, each with the refusal in words.
    Raises: TopologyMismatch, for an exchange that has other properties.
    """
    await _declare_exchanges(session, _exchanges(topology))
    queues = _queues(topology)
    shares = (queues[start::CHANNELS] for start in range(CHANNELS))
    found: dict[str, str] = {}
    await together(*(_declare_queues(session, share, found) for share in shares))
    return found


async def missing(session: RabbitSession, topology: Topology) -> list[Thing]:
    """Returns the exchanges and queues that do not exist. Bindings cannot be looked up."""
    things = [Thing("exchange", name) for name in _exchanges(topology)]
    things += [Thing("queue", queue.name) for queue in _queues(topology)]
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
    return {exchange for exchange, _ in _bindings(topology.service, queue)}


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
    return [queue.name for queue in _queues(topology)], list(_exchanges(topology))


def _queues(topology: Topology) -> list[_Queue]:
    service, dead = topology.service, dead_queue(topology.service)
    delays = {f"{service}.delay.{seconds}s": _delay(seconds) for seconds in DELAYS}
    return [
        _Queue(dead, {"x-delivery-limit": _NO_LIMIT}, [(dead, "")]),
        *(_Queue(name, arguments, [(name, "")]) for name, arguments in delays.items()),
        *(
            _Queue(queue.name, _arguments(queue, dead), _bindings(service, queue))
            for queue in topology.queues
        ),
    ]


def _bindings(service: str, queue: Queue) -> list[tuple[str, str]]:
    own = [(f"{service}.{queue.address}", topic) for topic in queue.topics]
    return own + [(f"{owner}.events", topic) for owner, topics in queue.foreign for topic in topics]


async def _declare_queues(
    session: RabbitSession, queues: Sequence[_Queue], mismatches: dict[str, str]
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


async def _declare_queue(channel: AbstractChannel, queue: _Queue) -> None:
    arguments = {"x-queue-type": "quorum", **queue.arguments}
    declaration = channel.declare_queue(queue.name, durable=True, arguments=arguments)
    declared = await _declared(f"queue {queue.name}", declaration)
    for exchange, topic in queue.bindings:
        await genuine(declared.bind(exchange, topic))


async def _bind_anyway(
    session: RabbitSession, channel: AbstractChannel, queue: _Queue
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


def _exchanges(topology: Topology) -> dict[str, ExchangeType]:
    """Returns the service's own exchanges, and the events of others, whose services may not have
    started yet."""
    service = topology.service
    kinds = {"events": ExchangeType.TOPIC, "commands": ExchangeType.DIRECT}
    kinds |= dict.fromkeys(("dead", *(f"delay.{n}s" for n in DELAYS)), ExchangeType.FANOUT)
    followed = {binding.service for queue in topology.queues for binding in queue.foreign}
    foreign = {f"{other}.events": ExchangeType.TOPIC for other in sorted(followed)}
    return {f"{service}.{role}": kind for role, kind in kinds.items()} | foreign


async def _declare_exchanges(session: RabbitSession, kinds: Mapping[str, ExchangeType]) -> None:
    channel = await _opened(session)
    for name, kind in kinds.items():
        await _declared(f"exchange {name}", channel.declare_exchange(name, kind, durable=True))
    await genuine(channel.close())


def _arguments(queue: Queue, dead: str) -> dict[str, Any]:
    arguments = {"x-delivery-limit": DELIVERY_LIMIT, **_dead_letters_to(dead)}
    if queue.single_consumer:
        arguments["x-single-active-consumer"] = True
    return arguments


def _delay(seconds: int) -> dict[str, Any]:
    return {"x-message-ttl": seconds * 1000, **_dead_letters_to("")}


def _dead_letters_to(exchange: str) -> dict[str, Any]:
    return {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",  # the default loses what cannot be routed
        "x-overflow": "reject-publish",  # required by that strategy
    }


async def _declared(what: str, declaration: Awaitable[Any]) -> Any:
    try:
        return await genuine(declaration)
    except ChannelPreconditionFailed as error:
        raise TopologyMismatch(
            f"The {what} exists with other properties. RabbitMQ says: {error}. "
            f"Drain it and delete it (rabbitmqctl delete_queue ... or the management page), then "
            "start again; or rename the subscription, which starts a new queue."
        ) from None


async def delete(session: RabbitSession, queues: Sequence[str]) -> None:
    """Deletes queues with all their messages."""
    channel = session.connection.channel()
    await genuine(channel)
    for name in queues:
        await genuine(channel.queue_delete(name))
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
