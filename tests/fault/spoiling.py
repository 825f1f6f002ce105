"""Spoils what a service of the wallets has at RabbitMQ, past the bus."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aio_pika.abc import AbstractChannel

from tools.services import RabbitMQNode

Spoil = Callable[[AbstractChannel, str], Awaitable[None]]
"""Takes a channel, and the name of the service."""


async def control(broker: RabbitMQNode, *words: str) -> None:
    """Runs rabbitmqctl."""
    await asyncio.to_thread(broker.control, *words)


async def declared_classic(channel: AbstractChannel, name: str, **arguments: Any) -> None:
    """Puts another queue in the place of one."""
    await channel.queue_delete(name)
    await channel.declare_queue(name, durable=True, arguments=arguments or None)


async def without_queue(channel: AbstractChannel, service: str) -> None:
    await channel.queue_delete(f"{service}.thanking")


async def without_exchange(channel: AbstractChannel, service: str) -> None:
    await channel.exchange_delete(f"{service}.delay.30s")


async def without_binding(channel: AbstractChannel, service: str) -> None:
    queue = await channel.get_queue(f"{service}.thanking", ensure=False)
    await queue.unbind(f"{service}.events", "*.Paid.*")
