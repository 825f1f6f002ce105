from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus.stores.event_log import FollowedLog
from bus.stores.memory.log import MemoryFollowedLog
from bus.stores.mongo import MongoFollowedLog
from bus.testing.contracts.followed_log_contract import FollowedLogContract


class TestMemoryFollowedLog(FollowedLogContract):
    @pytest.fixture
    async def followed(self) -> FollowedLog:
        return MemoryFollowedLog()


class TestMongoFollowedLogByMotor(FollowedLogContract):
    @pytest.fixture
    async def followed(self, motor_client: Any, unique: str) -> AsyncIterator[FollowedLog]:
        log = MongoFollowedLog(motor_client, unique)
        await log.open()
        yield log
        await log.close()


class TestMongoFollowedLogByPyMongo(FollowedLogContract):
    @pytest.fixture
    async def followed(self, pymongo_client: Any, unique: str) -> AsyncIterator[FollowedLog]:
        log = MongoFollowedLog(pymongo_client, unique)
        await log.open()
        yield log
        await log.close()
