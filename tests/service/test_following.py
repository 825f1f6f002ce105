from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from bus import Bus, Settings
from tests.service.following_contract import FollowingContract, bank, shop


class TestFollowing(FollowingContract):
    @pytest.fixture
    async def named(
        self, amqp_url: str, mongo_url: str, unique: str
    ) -> AsyncIterator[dict[str, str]]:
        yield {"amqp_url": amqp_url, "mongo_url": mongo_url}
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo_url)
        for service in ("bank", "shop"):
            await client.drop_database(f"{unique}_{service}")
        await client.close()

    @pytest.fixture
    def make_bank(self, named: dict[str, Any], unique: str) -> Callable[..., Bus]:
        return lambda: bank(Settings(**named), f"{unique}_bank")

    @pytest.fixture
    def make_shop(self, named: dict[str, Any], unique: str) -> Callable[..., Bus]:
        def make(version: int = 1, partitions: int = 1, **more: float) -> Bus:
            settings = Settings(**named, **more)
            name, owner = f"{unique}_shop", f"{unique}_bank"
            return shop(settings, name, owner, version=version, partitions=partitions)

        return make
