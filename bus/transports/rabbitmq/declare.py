"""The topology in AMQP's words: exchanges, quorum queues, the delay ladder, dead letters.

Declared on a connection that is thrown away: a refused declaration closes its channel, and with it
whatever else is under way there. Valid for RabbitMQ 3.10 and for 4.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, NamedTuple

from aio_pika import ExchangeType
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from bus.errors import TopologyMismatch
from bus.tasks import together
from bus.transports.rabbitmq.connection import Session, genuine
from bus.transports.topology import DELAYS, DELIVERY_LIMIT, Queue, Topology, dead_queue

# RabbitMQ 4 limits where nothing is said (to 20), and before 4 there is no word for "no limit".
_NO_LIMIT = 1_000_000_000

CHANNELS = 4
"""A broker makes the queues of one channel one by one, at some eight milliseconds each."""


class _Queue(NamedTuple):
    """A queue, and the exchanges that feed it, each by a topic."""

    name: str
    arguments: Mapping[str, Any]
    bindings: Sequence[tuple[str, str]]


async def declare(session: Session, topology: Topology) -> None:
    """Makes all of it, or finds it as it should be. Raises: TopologyMismatch."""
    await declare_exchanges(session, topology.service)
    await _declare_foreign(session, topology)
    queues = _queues(topology)
    shares = (queues[start::CHANNELS] for start in range(CHANNELS))
    await together(*(_declare_queues(session, share) for share in shares))


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


async def _declare_queues(session: Session, queues: Sequence[_Queue]) -> None:
    channel = session.connection.channel()
    await genuine(channel)
    for one in queues:
        arguments = {"x-queue-type": "quorum", **one.arguments}
        declaration = channel.declare_queue(one.name, durable=True, arguments=arguments)
        queue = await _declared(f"queue {one.name}", declaration)
        for exchange, topic in one.bindings:
            await genuine(queue.bind(exchange, topic))
    await genuine(channel.close())


async def declare_exchanges(session: Session, service: str) -> None:
    """The exchanges alone: publishing to one that is missing would close the channel."""
    kinds = {"events": ExchangeType.TOPIC, "commands": ExchangeType.DIRECT}
    kinds |= dict.fromkeys(("dead", *(f"delay.{n}s" for n in DELAYS)), ExchangeType.FANOUT)
    await _declare_exchanges(session, {f"{service}.{role}": kind for role, kind in kinds.items()})


async def _declare_foreign(session: Session, topology: Topology) -> None:
    """Other services' events, which may not have been there yet."""
    services = {one.service for queue in topology.queues for one in queue.foreign}
    if services:
        events = {f"{service}.events": ExchangeType.TOPIC for service in services}
        await _declare_exchanges(session, events)


async def _declare_exchanges(session: Session, kinds: Mapping[str, ExchangeType]) -> None:
    channel = session.connection.channel()
    await genuine(channel)
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


async def delete(session: Session, queues: Sequence[str]) -> None:
    """Deletes queues with all that is in them."""
    channel = session.connection.channel()
    await genuine(channel)
    for name in queues:
        await genuine(channel.queue_delete(name))
    await genuine(channel.close())


async def count(session: Session, queue: str) -> tuple[int, int]:
    """How many messages are ready in a queue, and how many consumers it has: 0, 0 if none such."""
    channel = await session.channel(confirms=False)
    try:
        found = await genuine(channel.queue_declare(queue, passive=True))
    except ChannelNotFoundEntity:
        return 0, 0
    await genuine(channel.close())
    return found.message_count or 0, found.consumer_count or 0
