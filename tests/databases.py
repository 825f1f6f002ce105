"""Databases of tests: what a test wrote goes with it."""

from typing import Any

from pymongo import AsyncMongoClient


async def drop(mongo_url: str, *databases: str) -> None:
    """Drops databases; its client is closed even where that fails."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo_url)
    async with client:
        for name in databases:
            await client.drop_database(name)
