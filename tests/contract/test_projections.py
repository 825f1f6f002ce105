from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from bus.stores.mongo import MongoEventLog, MongoReadStore, close
from bus.testing.projection_contract import ProjectionContract, Stores


class TestProjections(ProjectionContract):
    """On MongoDB, by both drivers."""

    @pytest.fixture(params=[AsyncIOMotorClient, AsyncMongoClient], ids=["motor", "pymongo"])
    async def stores(
        self, request: pytest.FixtureRequest, mongo_url: str, unique: str
    ) -> AsyncIterator[Stores]:
        client: Any = request.param(mongo_url)
        event_log, read_store = MongoEventLog(client, unique), MongoReadStore(client, unique)
        await event_log.open()
        await read_store.open()
        yield SimpleNamespace(event_log=event_log, read_store=read_store)
        await event_log.close()
        await read_store.close()
        await client.drop_database(unique)
        await close(client)
