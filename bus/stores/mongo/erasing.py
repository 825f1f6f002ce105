"""Deletes what tests made at a server that goes on running."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from bus.stores.mongo.client import Client, close, connect
from bus.stores.mongo.failures import hello, writing


async def ask(url: str) -> None:
    """Checks that a server answers. Raises: StoreUnavailable, ConfigurationError."""
    async with _connected(url) as client:
        await hello(client)


async def drop(url: str, databases: Iterable[str]) -> None:
    """Drops databases. Raises: StoreUnavailable, OutcomeUnknown."""
    async with _connected(url) as client:
        for name in databases:
            async with writing():
                await client.drop_database(name)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Client]:
    client = connect(url)
    try:
        yield client
    finally:
        await close(client)
