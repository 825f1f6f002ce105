"""Lets one process at a time change what a service has at the broker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiormq.exceptions import ChannelLockedResource

from bus.errors import TransportUnavailable
from bus.transports.rabbitmq.connection import RabbitSession, genuine

T = TypeVar("T")

PAUSES = (0.2, 0.5, 1.0, 3.0)
"""Seconds: the broker may notice a moment later that the one before was killed."""


async def alone(session: RabbitSession, service: str, work: Callable[[], Awaitable[T]]) -> T:
    """Does work while nobody else does any for this service: a queue is exclusively this
    session's, and the broker deletes it with the connection, however that ends.

    Raises: TransportUnavailable if another one is at work.
    """
    if not await _is_ours(session, f"{service}.topology.lock"):
        raise TransportUnavailable(
            f"RabbitMQ: another `bus topology apply` or `prune` of {service} is at work, and two "
            f"at once would take messages from each other. Wait until it is over, and run this "
            f"again"
        )
    return await work()


async def _is_ours(session: RabbitSession, lock: str) -> bool:
    for pause in PAUSES:
        try:
            channel = await session.channel(confirms=False)
            await genuine(channel.queue_declare(lock, exclusive=True))
            return True
        except ChannelLockedResource:  # which has closed the channel
            await asyncio.sleep(pause)
    return False
