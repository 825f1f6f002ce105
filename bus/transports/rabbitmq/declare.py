"""The topology in AMQP's words: exchanges, quorum queues, the delay ladder, dead letters.

Declared on a connection that is thrown away: a refused declaration closes its channel, and with it
whatever else is under way there. Valid for RabbitMQ 3.10 and for 4.
"""

from collections.abc import Awaitable
from typing import Any

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from bus.errors import TopologyMismatch
from bus.transports.rabbitmq.connection import Session, genuine
from bus.transports.topology import DELAYS, DELIVERY_LIMIT, Queue, Topology, dead_queue

# RabbitMQ 4 limits where nothing is said (to 20), and before 4 there is no word for "no limit".
_NO_LIMIT = 1_000_000_000


async def declare(session: Session, topology: Topology) -> None:
    """Makes all of it, or finds it as it should be. Raises: TopologyMismatch."""
    await declare_exchanges(session, topology.service)
    channel = session.connection.channel()
    await genuine(channel)
    dead = dead_queue(topology.service)
    await _queue(channel, dead, {"x-delivery-limit": _NO_LIMIT}, {dead: ("",)})
    for seconds in DELAYS:
        name = f"{topology.service}.delay.{seconds}s"
        await _queue(channel, name, _delay(seconds), {name: ("",)})
    for queue in topology.queues:
        exchange = f"{topology.service}.{queue.address}"
        await _queue(channel, queue.name, _arguments(queue, dead), {exchange: queue.topics})
    await genuine(channel.close())


async def declare_exchanges(session: Session, service: str) -> None:
    """The exchanges alone: publishing to one that is missing would close the channel."""
    kinds = {"events": ExchangeType.TOPIC, "commands": ExchangeType.DIRECT}
    kinds |= dict.fromkeys(("dead", *(f"delay.{n}s" for n in DELAYS)), ExchangeType.FANOUT)
    channel = session.connection.channel()
    await genuine(channel)
    for role, kind in kinds.items():
        name = f"{service}.{role}"
        await _declared(f"exchange {name}", channel.declare_exchange(name, kind, durable=True))
    await genuine(channel.close())


async def _queue(
    channel: AbstractChannel,
    name: str,
    arguments: dict[str, Any],
    bindings: dict[str, tuple[str, ...]],
) -> None:
    arguments = {"x-queue-type": "quorum", **arguments}
    declaration = channel.declare_queue(name, durable=True, arguments=arguments)
    queue = await _declared(f"queue {name}", declaration)
    for exchange, topics in bindings.items():
        for topic in topics:
            await genuine(queue.bind(exchange, topic))


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


async def count(session: Session, queue: str) -> tuple[int, int]:
    """How many messages are ready in a queue, and how many consumers it has: 0, 0 if none such."""
    channel = await session.channel(confirms=False)
    try:
        found = await genuine(channel.queue_declare(queue, passive=True))
    except ChannelNotFoundEntity:
        return 0, 0
    await genuine(channel.close())
    return found.message_count or 0, found.consumer_count or 0
