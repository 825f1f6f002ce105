"""Cleaning: takes a demo's queues and database away from services that outlive it."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import aio_pika
from pymongo import MongoClient

from bus import Settings
from bus.transports.topology import DELAYS
from handlers.app import build
from tools.demo.fold import Document
from tools.demo.stores import Stores
from tools.services import Found, statements


class Names(Protocol):
    """Under which names a demo has something, and where: `log` is the SQL server of its log, if one
    has it; `stores` are the other stores."""

    @property
    def service(self) -> str: ...
    @property
    def database(self) -> str: ...
    @property
    def log(self) -> str: ...
    @property
    def stores(self) -> Sequence[str]: ...


def clean(found: Found, names: Names, client: MongoClient[Document], stores: Stores) -> None:
    """Leaves nothing behind on services that stay; private ones go with the demo."""
    if found.mongodb is None:
        drop_database(client, names.database)
        if stores.statistics:
            stores.statistics.drop()
    stores.drop()
    if names.log and found.sql[names.log].node is None:
        statements.drop_database(found.sql[names.log].url, names.database)
    if found.rabbitmq is None and found.amqp_origin != "memory":
        delete_queues(found.amqp_url, names.service)


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
