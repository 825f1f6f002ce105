"""Cleaning: takes a demo's queues and database away from services that outlive it."""

import asyncio

import aio_pika
from pymongo import MongoClient

from bus import Settings
from bus.transports.topology import DELAYS
from handlers.app import build
from tools.demo.fold import Document


def drop_database(client: MongoClient[Document], database: str) -> None:
    client.drop_database(database)


def delete_queues(amqp_url: str, service: str) -> None:
    """Deletes all queues and exchanges of a service."""
    asyncio.run(_delete(amqp_url, service))


async def _delete(amqp_url: str, service: str) -> None:
    others = ["dead", *(f"delay.{seconds}s" for seconds in DELAYS)]
    topology = build(Settings.in_memory(), service).runtime.topology
    connection = await aio_pika.connect(amqp_url, timeout=10)
    async with connection, connection.channel() as channel:
        for name in [queue.name for queue in topology.queues] + _named(service, others):
            await channel.queue_delete(name)
        for name in _named(service, ["events", "commands", *others]):
            await channel.exchange_delete(name)


def _named(service: str, roles: list[str]) -> list[str]:
    return [f"{service}.{role}" for role in roles]
