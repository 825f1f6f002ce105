"""Takes away what tests made at a broker that goes on."""

from collections.abc import Iterable, Sequence

from aio_pika.exceptions import AMQPError

from bus.errors import TransportUnavailable
from bus.transports.rabbitmq.connection import RabbitSession, checked_urls, connect_any, genuine
from bus.transports.rabbitmq.declare import names_of
from bus.transports.topology import Topology

_HEARTBEAT = 30
_CONNECT_WITHIN = 5.0


async def ask(urls: Sequence[str]) -> None:
    """Raises: TransportUnavailable where no broker answers, ConfigurationError."""
    await (await _connected(urls)).close()


async def erase(urls: Sequence[str], topologies: Iterable[Topology]) -> None:
    """Deletes queues and exchanges, with what is in them, also the exchanges of those who are
    followed. Raises: TransportUnavailable."""
    names = [names_of(topology) for topology in topologies]
    if not names:
        return
    session = await _connected(urls)
    try:
        channel = await session.channel(confirms=False)
        for queue in sorted({one for queues, _ in names for one in queues}):
            await genuine(channel.queue_delete(queue))
        for exchange in sorted({one for _, exchanges in names for one in exchanges}):
            await genuine(channel.exchange_delete(exchange))
    except (ConnectionError, AMQPError) as error:
        raise TransportUnavailable(f"RabbitMQ: deleting failed: {error}") from None
    finally:
        await session.close()


async def _connected(urls: Sequence[str]) -> RabbitSession:
    return await connect_any(checked_urls(urls, _HEARTBEAT), _CONNECT_WITHIN)
