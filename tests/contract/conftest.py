"""A client of either driver, whose database nobody else has and which is dropped afterwards."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from bus.stores.mongo import close, connect


@asynccontextmanager
async def lent(client: Any, database: str) -> AsyncIterator[Any]:
    try:
        yield client
        await client.drop_database(database)
    finally:
        await close(client)


@pytest.fixture
async def motor_client(mongo_url: str, unique: str) -> AsyncIterator[Any]:
    async with lent(connect(mongo_url), unique) as client:
        yield client


@pytest.fixture
async def pymongo_client(mongo_url: str, unique: str) -> AsyncIterator[Any]:
    async with lent(AsyncMongoClient(mongo_url), unique) as client:
        yield client
