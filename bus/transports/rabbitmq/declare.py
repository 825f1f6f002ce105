"""The topology in AMQP's words: exchanges, quorum queues, the delay ladder, dead letters.

Declared on a connection that is thrown away: a refused declaration closes its channel, and with it
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

# RabbitMQ 4 limits where nothing is said (to 20), and before 4 there is no word for "no limit".
_NO_LIMIT = 1_000_000_000

CHANNELS = 4
"""A broker makes the queues of one channel one by one, at some eight milliseconds each."""


class Thing(NamedTuple):
    """An exchange or a queue, by its kind."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class _Queue(NamedTuple):
    """A queue, and the exchanges that feed it, each by a topic."""

    name: str
    arguments: Mapping[str, Any]
    bindings: Sequence[tuple[str, str]]


async def declare(session: RabbitSession, topology: Topology) -> dict[str, str]:
    """Makes all of it, or finds it as it should be; returns the queues that are otherwise.

    Raises: TopologyMismatch, for an exchange that is.
    """
    await _declare_exchanges(session, _exchanges(topology))
    queues = _queues(topology)
    shares = (queues[start::CHANNELS] for start in range(CHANNELS))
    found: dict[str, str] = {}
    await together(*(_declare_queues(session, share, found) for share in shares))
    return found


async def missing(session: RabbitSession, topology: Topology) -> list[Thing]:
    """What is not there. Bindings cannot be asked for."""
    things = [Thing("exchange", name) for name in _exchanges(topology)]
    things += [Thing("queue", one.name) for one in _queues(topology)]
    shares = (things[start::CHANNELS] for start in range(CHANNELS))
    gone: list[Thing] = []
    await together(*(_look(session, share, gone) for share in shares))
    return sorted(gone)


def unfed(topology: Topology, gone: Collection[Thing]) -> list[str]:
    """The queues that are gone, or whose events' exchange is: while that is being bound again,
    others publish to it. Only those of several consumers."""
    names = {thing.name for thing in gone}
    hungry = {q.name for q in topology.queues if names & {q.name, *_feeds(topology, q)}}
    return of_several_consumers(topology, hungry)


def of_several_consumers(topology: Topology, names: Collection[str]) -> list[str]:
    """Those queues of several consumers: what a single one misses is known by its versions."""
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
            # RabbitMQ 4.3 lets nobody ask for what he has no right to: he does not use it then.
            if isinstance(error, ChannelNotFoundEntity):
                gone.append(thing)
            channel = await session.channel(confirms=False)
    await genuine(channel.close())


def names_of(topology: Topology) -> tuple[list[str], list[str]]:
    """The queues and the exchanges that it declares, those of others too."""
    return [one.name for one in _queues(topology)], list(_exchanges(topology))


def _queues(topology: Topology) -> list[_Queue]:
    service, dead = topology.service, dead_queue(topology.service)
    delays = {f"{service}.delay.{seconds}s": _delay(seconds) for seconds in DELAYS}
    return [
        _Queue(dead, {"x-delivery-limit": _NO_LIMIT}, [(dead, "")]),
        *(_Queue(name, arguments, [(name, "")]) for name, arguments in delays.items()),
        *(
            _Queue(one.name, _arguments(one, dead), _bindings(service, one))
            for one in topology.queues
        ),
    ]


def _bindings(service: str, queue: Queue) -> list[tuple[str, str]]:
    own = [(f"{service}.{queue.address}", topic) for topic in queue.topics]
    return own + [(f"{one.service}.events", topic) for one in queue.foreign for topic in one.topics]


async def _declare_queues(
    session: RabbitSession, queues: Sequence[_Queue], mismatches: dict[str, str]
) -> None:
    channel = await _opened(session)
    for one in queues:
        try:
            await _declare_queue(channel, one)
        except TopologyMismatch as mismatch:  # which has closed the channel
            mismatches[one.name] = str(mismatch)
            channel = await _opened(session)
            channel = await _bind_all_the_same(session, channel, one)
    await genuine(channel.close())


async def _declare_queue(channel: AbstractChannel, one: _Queue) -> None:
    arguments = {"x-queue-type": "quorum", **one.arguments}
    declaration = channel.declare_queue(one.name, durable=True, arguments=arguments)
    queue = await _declared(f"queue {one.name}", declaration)
    for exchange, topic in one.bindings:
        await genuine(queue.bind(exchange, topic))


async def _bind_all_the_same(
    session: RabbitSession, channel: AbstractChannel, one: _Queue
) -> AbstractChannel:
    """Lets a queue that nobody consumes hold what it should: it can be moved, and is not lost."""
    try:
        queue = await genuine(channel.get_queue(one.name, ensure=False))
        for exchange, topic in one.bindings:
            await genuine(queue.bind(exchange, topic))
    except AMQPError:  # somebody's own
        return await _opened(session)
    return channel


async def _opened(session: RabbitSession) -> AbstractChannel:
    channel = session.connection.channel()
    await genuine(channel)
    return channel


def _exchanges(topology: Topology) -> dict[str, ExchangeType]:
    """The service's own; and the events of others, which may not have been there yet."""
    service = topology.service
    kinds = {"events": ExchangeType.TOPIC, "commands": ExchangeType.DIRECT}
    kinds |= dict.fromkeys(("dead", *(f"delay.{n}s" for n in DELAYS)), ExchangeType.FANOUT)
    followed = {one.service for queue in topology.queues for one in queue.foreign}
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
        "x-overflow": "reject-publish",  # which that strategy asks for
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
    """Deletes queues with all that is in them."""
    channel = session.connection.channel()
    await genuine(channel)
    for name in queues:
        await genuine(channel.queue_delete(name))
    await genuine(channel.close())


async def count(session: RabbitSession, queue: str) -> tuple[int, int]:
    """How many messages are ready in a queue, and how many consumers it has: 0, 0 if none such."""
    channel = await session.channel(confirms=False)
    try:
        found = await genuine(channel.queue_declare(queue, passive=True))
    except ChannelNotFoundEntity:
        return 0, 0
    await genuine(channel.close())
    return found.message_count or 0, found.consumer_count or 0
