"""Deletes what tests made at a broker that goes on running."""

from collections.abc import Iterable, Sequence

from aio_pika.exceptions import AMQPError

from bus.errors import TransportUnavailable
from bus.transports.rabbitmq.connection import RabbitSession, checked_urls, connect_any, genuine
from bus.transports.rabbitmq.declare import names_of
from bus.transports.topology import Topology

_HEARTBEAT = 30
_CONNECT_WITHIN = 5.0


async def ask(urls: Sequence[str]) -> None:
    """Checks that a broker answers. Raises: TransportUnavailable, ConfigurationError."""
    await (await _connected(urls)).close()


async def erase(urls: Sequence[str], topologies: Iterable[Topology]) -> None:
    """Deletes queues with their messages, and exchanges, also those of followed services.

    Raises: TransportUnavailable.
    """
    names = [names_of(topology) for topology in topologies]
    if not names:
        return
    session = await _connected(urls)
    try:
        channel = await session.channel(confirms=False)
        for queue in sorted({queue for queues, _ in names for queue in queues}):
            await genuine(channel.queue_delete(queue))
        for exchange in sorted({exchange for _, exchanges in names for exchange in exchanges}):
            await genuine(channel.exchange_delete(exchange))
    except (ConnectionError, AMQPError) as error:
        raise TransportUnavailable(f"RabbitMQ: deleting failed: {error}") from None
    finally:
        await session.close()


async def _connected(urls: Sequence[str]) -> RabbitSession:
    return await connect_any(checked_urls(urls, _HEARTBEAT), _CONNECT_WITHIN)
