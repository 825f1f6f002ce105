from collections.abc import AsyncIterator

import pytest
from pymongo import AsyncMongoClient

from bus.stores.base import FollowedLog
from bus.stores.memory_log import MemoryFollowedLog
from bus.stores.mongo import MongoFollowedLog, close, connect
from bus.testing.followed_log_contract import FollowedLogContract


class TestMemoryFollowedLog(FollowedLogContract):
    @pytest.fixture
    async def followed(self) -> FollowedLog:
        return MemoryFollowedLog()


class TestMongoFollowedLogByMotor(FollowedLogContract):
    @pytest.fixture
    async def followed(self, mongo_url: str, unique: str) -> AsyncIterator[FollowedLog]:
        client = connect(mongo_url)
        log = MongoFollowedLog(client, unique)
        await log.open()
        yield log
        await log.close()
        await client.drop_database(unique)
        await close(client)


class TestMongoFollowedLogByPyMongo(FollowedLogContract):
    @pytest.fixture
    async def followed(self, mongo_url: str, unique: str) -> AsyncIterator[FollowedLog]:
        client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(mongo_url)
        log = MongoFollowedLog(client, unique)
        await log.open()
        yield log
        await log.close()
        await client.drop_database(unique)
        await close(client)
